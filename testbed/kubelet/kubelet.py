"""The kubelet of one pod at work: its rules, on this machine's clock, with real containers and real questions."""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self

from probe.sandbox.errors import SandboxError
from testbed.kubelet.asking import ask
from testbed.kubelet.pod_worker import Ask, End, Order, PodWorker, Start
from testbed.kubelet.runtime import Running, Runtime
from testbed.kubelet.timeline import POD, Moment, TimeLine, What
from testbed.tools import PATIENCE

P = ParamSpec("P")

_START_FAILED = 128
_HANDS = 16
_LONGEST_WAIT = 3600.0


class Kubelet:
    """Runs a pod from :meth:`__enter__` to :meth:`close`; what it does stands in :attr:`told`.

    One thread has the rules; others start, wait and ask for it, and report to it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._worker = PodWorker(runtime.spec, time.monotonic())
        self._inbox: queue.SimpleQueue[Callable[[float], None]] = queue.SimpleQueue()
        self._hands = ThreadPoolExecutor(_HANDS, thread_name_prefix="kubelet")
        self._running: dict[str, Running] = {}
        self._news = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="kubelet")

    @property
    def told(self) -> TimeLine:
        """What it did, in seconds of ``time.monotonic``."""
        return self._worker.told

    @property
    def serves(self) -> bool:
        """Whether the pod is in service."""
        return self._worker.serves

    def running(self, container: str) -> Running:
        """The last run of a container; raises LookupError before the first."""
        return self._running[container]

    def starts(self, container: str) -> int:
        """How often it was started."""
        return len(self.told.find(What.STARTED, container))

    def wait(
        self,
        what: What,
        container: str = POD,
        *,
        subject: str = "",
        since: float = -math.inf,
        times: int = 1,
        seconds: float = PATIENCE,
    ) -> Moment:
        """The first such moment since then (or that by which there were ``times``), once it has come.

        Fails the test, with the whole time line, where it does not come.
        """

        def look() -> Moment | None:
            found = self.told.find(what, container, subject=subject, since=since)
            return found[times - 1] if len(found) >= times else None

        return self.wait_for(f"{container or 'the pod'} {subject} {what.value}, {times} times", look, seconds)

    def wait_for(self, what: str, look: Callable[[], Moment | None], seconds: float = PATIENCE) -> Moment:
        """The first moment that ``look`` finds; it is called whenever something happened."""
        deadline = time.monotonic() + seconds
        with self._news:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if self._error is not None or left <= 0:
                    told = f"waited {seconds:g} s for: {what}\n{self.told}"
                    raise AssertionError(told) from self._error
                self._news.wait(left)
        return found

    def close(self) -> None:
        """End the pod, without grace; twice is the same as once."""
        if self._ended:
            return
        self._ended = True
        self._report(lambda _now: None)
        self._thread.join()
        self._runtime.pod.close()
        self._hands.shutdown()
        for each in self._running.values():
            each.close()
        self._runtime.close()

    def _work(self) -> None:
        try:
            while not self._ended:
                with self._news:
                    for order in self._worker.turn(time.monotonic()):
                        self._obey(order)
                    self._news.notify_all()
                self._take(self._worker.due - time.monotonic())
        except BaseException as error:  # noqa: BLE001  (whoever waits is told)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    def _take(self, seconds: float) -> None:
        """Take what was reported, and wait for it so long."""
        with contextlib.suppress(queue.Empty):
            action = self._inbox.get(timeout=min(max(seconds, 0.0), _LONGEST_WAIT))
            while True:
                with self._news:
                    action(time.monotonic())
                action = self._inbox.get_nowait()

    def _report(self, action: Callable[[float], None]) -> None:
        self._inbox.put(action)

    def _obey(self, order: Order) -> None:
        match order:
            case Start(name):
                self._hand(self._start, name)
            case End(name, grace_seconds):
                self._hand(self._running[name].end, grace_seconds)
            case Ask():
                self._hand(self._ask, order)

    def _hand(self, work: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        def done(future: Future[None]) -> None:
            if (error := future.exception()) is not None:
                self._fail(error)

        self._hands.submit(work, *arguments, **named).add_done_callback(done)

    def _start(self, name: str) -> None:
        if (before := self._running.get(name)) is not None:
            before.close()
        try:
            running = self._runtime.start(name)
        except SandboxError as error:
            words = f"StartError {error}"
            self._report(lambda now: self._worker.started(name, now))
            self._report(lambda now: self._worker.ended(name, now, _START_FAILED, words))
            return
        self._running[name] = running
        if self._ended:
            # It began before the pod was closed, which did not know of it yet.
            running.program.send_signal(signal.SIGKILL)
        self._report(lambda now: self._worker.started(name, now))
        running.wait()
        code, words = running.code()
        self._report(lambda now: self._worker.ended(name, now, code, words))

    def _ask(self, order: Ask) -> None:
        try:
            port = self._runtime.spec.container(order.container).port(order.probe.http_get.port)
        except LookupError as error:
            words = str(error)
            self._report(lambda now: self._worker.answered(order.container, order.kind, now, None, words))
            return
        here = self._runtime.ports.get(port, port)
        outcome, words = ask(here, order.probe.http_get.path, order.probe.timeout_seconds)
        self._report(lambda now: self._worker.answered(order.container, order.kind, now, outcome, words))

    def __enter__(self) -> Self:
        self._runtime.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
