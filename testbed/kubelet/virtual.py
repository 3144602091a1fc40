"""A pod's worker in virtual time, against containers of which a test tells what they do."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import msgspec

from testbed.kubelet.pod_worker import Ask, End, Order, PodWorker, Start
from testbed.kubelet.probing import Result
from testbed.kubelet.specs import PodSpec
from testbed.kubelet.timeline import TimeLine


class Answer(msgspec.Struct, frozen=True):
    """What a probe comes to, after so many seconds."""

    outcome: Result | None
    seconds: float = 0.0


class Run(msgspec.Struct, frozen=True):
    """One run of a container: how long it takes to start, for how long it lives, and what it makes of a SIGTERM."""

    starts_in: float = 0.0
    lives: float = math.inf
    code: int = 1
    ends_in: float = 0.0


class VirtualNode:
    """``runs`` is asked at each start, by the container's name and how often it was started before.

    ``answers`` is asked at each probe, by its path and the time: seconds since the pod came.
    """

    def __init__(
        self,
        pod: PodSpec,
        *,
        answers: Callable[[str, float], Answer] = lambda _path, _now: Answer(Result.SUCCESS),
        runs: Callable[[str, int], Run] = lambda _container, _times: Run(),
        fraction: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.now = 0.0
        self.worker = PodWorker(pod, 0.0, fraction=fraction)
        self.starts: dict[str, int] = {each.name: 0 for each in pod.all()}
        self._answers = answers
        self._runs = runs
        self._running: dict[str, Run] = {}
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def told(self) -> TimeLine:
        """What the worker did."""
        return self.worker.told

    def run(self, seconds: float) -> TimeLine:
        """Let so much time pass; what the worker did since the beginning."""
        until = self.now + seconds
        while (due := min(self.worker.due, self._plans[0][0] if self._plans else math.inf)) <= until:
            self.now = max(self.now, due)
            while self._plans and self._plans[0][0] <= self.now:
                heapq.heappop(self._plans)[2]()
            for order in self.worker.turn(self.now):
                self._obey(order)
        self.now = until
        return self.told

    def end(self, container: str, code: int = 137) -> None:
        """The container's main process ends now."""
        self._ended(container, self.starts[container], code)

    def _obey(self, order: Order) -> None:
        match order:
            case Start(name):
                run = self._runs(name, self.starts[name])
                self._plan(run.starts_in, lambda: self._started(name, run))
            case End(name, grace_seconds):
                number, run = self.starts[name], self._running[name]
                self._plan(min(run.ends_in, grace_seconds), lambda: self._ended(name, number, 143))
            case Ask(name, kind, probe):
                answer = self._answers(probe.http_get.path, self.now)
                late = answer.seconds > probe.timeout_seconds
                outcome = Result.FAILURE if late else answer.outcome
                self._plan(
                    min(answer.seconds, probe.timeout_seconds),
                    lambda: self.worker.answered(name, kind, self.now, outcome),
                )

    def _started(self, name: str, run: Run) -> None:
        self.starts[name] += 1
        self._running[name] = run
        self.worker.started(name, self.now)
        number = self.starts[name]
        if run.lives < math.inf:
            self._plan(run.lives, lambda: self._ended(name, number, run.code))

    def _ended(self, name: str, number: int, code: int) -> None:
        if self.starts[name] == number and name in self._running:
            del self._running[name]
            self.worker.ended(name, self.now, code)

    def _plan(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._plans, (self.now + seconds, next(self._count), action))
