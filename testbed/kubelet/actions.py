"""What is to be done for a pod now: whom to start, whom to end, and whether it is in service.

``computePodActions`` in ``pkg/kubelet/kuberuntime/kuberuntime_manager.go``, ``computeInitContainerActions`` in
``kuberuntime_container.go`` beside it, ``pkg/kubelet/prober/prober_manager.go`` and
``pkg/kubelet/status/generate.go``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from testbed.kubelet.probing import Kind, Life, ProbeWorker, Result
from testbed.kubelet.restarts import Cause, restarts
from testbed.kubelet.specs import ContainerSpec, PodSpec

Lives: TypeAlias = Mapping[str, Life]
"""The last run of each container that has been started, by name."""


class Actions(msgspec.Struct, frozen=True):
    """Containers to end and why, then those to start, in this order."""

    end: dict[str, Cause]
    start: tuple[str, ...]


class Beliefs:
    """What the probes of a pod have come to."""

    def __init__(self, workers: Mapping[tuple[str, Kind], ProbeWorker]) -> None:
        self._workers = workers

    def result(self, container: ContainerSpec, kind: Kind, life: Life) -> Result | None:
        """What a probe has come to in this run; None where it has not looked yet, success where there is none."""
        worker = self._workers.get((container.name, kind))
        return Result.SUCCESS if worker is None else worker.result(life)

    def started(self, container: ContainerSpec, life: Life | None) -> bool:
        """Whether it runs, and its startup probe has succeeded."""
        if life is None or not life.running:
            return False
        return self.result(container, Kind.STARTUP, life) is Result.SUCCESS

    def ready(self, container: ContainerSpec, life: Life | None) -> bool:
        """Whether it has started and its readiness probe has succeeded; without such a probe it is ready at once."""
        if life is None or not self.started(container, life):
            return False
        return self.result(container, Kind.READINESS, life) is Result.SUCCESS

    def cause(self, container: ContainerSpec, life: Life) -> Cause | None:
        """Why it must end, or None."""
        if self.result(container, Kind.LIVENESS, life) is Result.FAILURE:
            return Cause.LIVENESS
        if self.result(container, Kind.STARTUP, life) is Result.FAILURE:
            return Cause.STARTUP
        return None


def in_service(pod: PodSpec, lives: Lives, beliefs: Beliefs) -> bool:
    """Whether every container that lasts is ready, native sidecars too."""
    return all(beliefs.ready(each, lives.get(each.name)) for each in pod.lasting())


def actions(pod: PodSpec, lives: Lives, beliefs: Beliefs) -> Actions:
    """What to do."""
    made = _Maker(pod, lives, beliefs)
    if made.initialized():
        made.main()
    return Actions(made.end, tuple(made.start))


class _Maker:
    def __init__(self, pod: PodSpec, lives: Lives, beliefs: Beliefs) -> None:
        self.end: dict[str, Cause] = {}
        self.start: list[str] = []
        self._pod = pod
        self._lives = lives
        self._beliefs = beliefs

    def main(self) -> None:
        for each in self._pod.containers:
            life = self._lives.get(each.name)
            if life is None or not life.running:
                if life is None or restarts(self._pod.restart_policy, life.code):
                    self.start.append(each.name)
            elif cause := self._beliefs.cause(each, life):
                self.end[each.name] = cause
                if self._pod.restart_policy != "Never":
                    self.start.append(each.name)

    def initialized(self) -> bool:
        """Whether the others may start, now that the init containers have been seen to.

        Only a container of the others that runs proves that it was so before: while they are all down, a native
        sidecar that is down too holds them back once more.
        """
        inits = self._pod.init_containers
        mains = (self._lives.get(each.name) for each in self._pod.containers)
        done = not inits or any(each is not None and each.running for each in mains)
        begun = done
        start: list[str] = []
        for index in reversed(range(len(inits))):
            each, life = inits[index], self._lives.get(inits[index].name)
            if life is None:
                if begun and each.restartable:
                    start.append(each.name)
                continue
            if each.restartable or not begun:
                if self._complete(each, life):
                    if index == len(inits) - 1:
                        done = True
                    elif not begun:
                        start.append(inits[index + 1].name)
                start += self._again(each, life)
            begun = True
        if not begun:
            start.append(inits[0].name)
        self.start += reversed(start)
        return done

    def _complete(self, container: ContainerSpec, life: Life) -> bool:
        """Whether the next one may start: a native sidecar has started, another has ended well."""
        if container.restartable:
            return self._beliefs.started(container, life)
        return not life.running and life.code == 0

    def _again(self, container: ContainerSpec, life: Life) -> Iterator[str]:
        if not life.running:
            failed = life.code != 0 and self._pod.restart_policy != "Never"
            if container.restartable or failed:
                yield container.name
        elif container.restartable and (cause := self._beliefs.cause(container, life)):
            self.end[container.name] = cause
            yield container.name
