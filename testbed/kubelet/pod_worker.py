"""One pod's worker: told the time and what happened, it says whom to start, to end and to ask.

``pkg/kubelet/pod_workers.go`` (when a pod is synced), ``pkg/kubelet/pleg/generic.go`` (when the kubelet learns what
runs), ``SyncPod`` in ``pkg/kubelet/kuberuntime/kuberuntime_manager.go`` (in which order).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from testbed.kubelet.actions import Beliefs, actions, in_service
from testbed.kubelet.probing import Kind, Life, ProbeWorker, Result, first_tick
from testbed.kubelet.restarts import RESYNC_SECONDS, BackOff, grace_seconds, retry_after
from testbed.kubelet.specs import PodSpec, ProbeSpec
from testbed.kubelet.timeline import Moment, TimeLine, What

_RELIST_SECONDS = 1.0
_OUTCOMES = {Result.SUCCESS: What.PASSED, Result.FAILURE: What.FAILED, None: What.ERRED}


class Start(msgspec.Struct, frozen=True):
    """Start this container; :meth:`PodWorker.started` must follow."""

    container: str


class End(msgspec.Struct, frozen=True):
    """SIGTERM for this run of a container, SIGKILL after so many seconds; :meth:`PodWorker.ended` must follow."""

    container: str
    grace_seconds: int


class Ask(msgspec.Struct, frozen=True):
    """Ask this probe of a container; :meth:`PodWorker.answered` must follow."""

    container: str
    kind: Kind
    probe: ProbeSpec


Order: TypeAlias = Start | End | Ask


class PodWorker:
    """Reads no clock: every ``now`` is in seconds, and never less than the one before.

    ``fraction`` is where the kubelet is random: from 0 to 1, asked anew each time.  ``kubelet_age`` is for how
    long the kubelet has run when it gets the pod.
    """

    def __init__(
        self,
        pod: PodSpec,
        now: float,
        *,
        fraction: Callable[[], float] = lambda: 0.0,
        kubelet_age: float = math.inf,
    ) -> None:
        self.pod = pod
        self.told = TimeLine()
        self._fraction = fraction
        self._workers = {
            (each.name, kind): ProbeWorker(
                kind, probe, first_tick(now, probe.period_seconds, kubelet_age, fraction())
            )
            for each in pod.lasting()
            for kind in Kind
            if (probe := kind.of(each)) is not None
        }
        self._beliefs = Beliefs(self._workers)
        self._back_off = {each.name: BackOff() for each in pod.all()}
        self._lives: dict[str, Life] = {}
        self._seen: dict[str, Life] = {}
        self._relist_at = now
        self._sync_at = now
        self._again_at = math.inf
        self._sync_not_before = now
        self._busy: set[str] = set()
        self._later: tuple[str, ...] = ()
        self._ends: dict[str, float] = {}
        self._seen_ends: dict[str, float] = {}
        self._ends_for_sync: dict[str, float] = {}
        self._in_service = False

    @property
    def due(self) -> float:
        """When :meth:`turn` is to be called at the latest, unless something happens before."""
        sync = -math.inf if self._later else self._sync_due
        return min(
            math.inf if self._busy else sync,
            self._relist_at,
            *(each.due for each in self._workers.values()),
            math.inf,
        )

    @property
    def _sync_due(self) -> float:
        return max(min(self._sync_at, self._again_at), self._sync_not_before)

    @property
    def serves(self) -> bool:
        """Whether the pod is in service, as far as the kubelet knows."""
        return self._in_service

    def life(self, container: str) -> Life | None:
        """The last run of a container, as it is and not as the kubelet knows it."""
        return self._lives.get(container)

    def turn(self, now: float) -> list[Order]:
        """What is to be done now."""
        self._relist(now)
        orders: list[Order] = list(self._ask(now))
        if not self._busy and self._later:
            orders += self._start(now)
        elif not self._busy and now >= self._sync_due:
            orders += self._sync(now)
        self._serve(now)
        return orders

    def started(self, container: str, now: float) -> None:
        """The container runs."""
        before = self._lives.get(container)
        self._lives[container] = Life(before.number + 1 if before else 1, now)
        self._done(container)
        self.told.add(Moment(now, What.STARTED, container))

    def ended(self, container: str, now: float, code: int, words: str = "") -> None:
        """The container ended, with this code; ``words`` is what is known of why."""
        life = msgspec.structs.replace(self._lives[container], finished_at=now, code=code, words=words)
        self._lives[container] = life
        self._ends[container] = now
        self.told.add(Moment(now, What.ENDED, container, words=f"{code} {words}".rstrip()))
        if container in self._busy:
            self._done(container)

    def answered(
        self, container: str, kind: Kind, now: float, outcome: Result | None, words: str = ""
    ) -> None:
        """A probe was answered, or erred (None)."""
        before = self._believed()
        self._workers[container, kind].answered(outcome)
        self.told.add(Moment(now, _OUTCOMES[outcome], container, kind.value, words))
        if self._believed() != before:
            self._sync_at = now

    def _relist(self, now: float) -> None:
        if now < self._relist_at:
            return
        self._relist_at += _RELIST_SECONDS * (1 + (now - self._relist_at) // _RELIST_SECONDS)
        self._seen_ends = dict(self._ends)
        if self._seen != self._lives:
            self._seen = dict(self._lives)
            self._sync_at = now

    def _ask(self, now: float) -> Iterator[Ask]:
        before = self._believed()
        for (name, kind), worker in self._workers.items():
            life = self._seen.get(name)
            if worker.due <= now and worker.asks(
                now, life, started=self._beliefs.started(self.pod.container(name), life)
            ):
                yield Ask(name, kind, worker.probe)
        if self._believed() != before:
            self._sync_at = now

    def _sync(self, now: float) -> Iterator[Order]:
        self._sync_at = math.inf
        self._again_at = now + RESYNC_SECONDS * (1 + self._fraction() / 2)
        self._ends_for_sync = self._seen_ends
        todo = actions(self.pod, self._seen, self._beliefs)
        for each in self.pod.lasting():
            life = self._seen.get(each.name)
            readiness = self._workers.get((each.name, Kind.READINESS))
            if readiness and self._beliefs.started(each, life) and not self._beliefs.ready(each, life):
                readiness.trigger()
        self._later = todo.start
        for name, cause in todo.end.items():
            container = self.pod.container(name)
            seconds = grace_seconds(self.pod, container, cause)
            self.told.add(Moment(now, What.ENDING, name, words=cause.value))
            life = self._lives[name]
            if life.running:
                self._busy.add(name)
                yield End(name, seconds)
        if not self._busy:
            yield from self._start(now)

    def _start(self, now: float) -> Iterator[Start]:
        later, self._later = self._later, ()
        lefts: list[float] = []
        # A sync goes by what it began with: of what it ended itself, a back-off is counted from the end before.
        for name in later:
            back_off, ended_at = self._back_off[name], self._ends_for_sync.get(name)
            if ended_at is not None:
                if left := back_off.left(now, ended_at):
                    self.told.add(Moment(now, What.BACK_OFF, name, words=f"{left:.1f} s left"))
                    lefts.append(left)
                    continue
                back_off.restarted(now, ended_at)
            self._busy.add(name)
            yield Start(name)
        if lefts:
            # In the place of the next look without a back-off, which would come sooner.
            self._again_at = now + retry_after(min(lefts), self._fraction())

    def _done(self, container: str) -> None:
        """A step of a sync is over.  The next sync must know what this one did, so a relist comes before it."""
        self._busy.discard(container)
        self._sync_not_before = self._relist_at

    def _serve(self, now: float) -> None:
        serves = in_service(self.pod, self._seen, self._beliefs)
        if serves is not self._in_service:
            self._in_service = serves
            self.told.add(
                Moment(now, What.IN_SERVICE if serves else What.OUT_OF_SERVICE, words=self._unready())
            )

    def _unready(self) -> str:
        lasting: Iterable[str] = (
            each.name
            for each in self.pod.lasting()
            if not self._beliefs.ready(each, self._seen.get(each.name))
        )
        return ", ".join(lasting)

    def _believed(self) -> list[Result | None]:
        return [
            worker.result(life) if (life := self._seen.get(name)) else None
            for (name, _), worker in self._workers.items()
        ]
