"""Does to Triton what the plan says, and waits until Triton has done it.

What Triton does not do in time, or refuses because of a race that is ours, is a trouble: it is counted
and told, and is no verdict on the daemon.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import processes
from bench.deployment import Deployment
from bench.soak.diary import Diary
from bench.soak.models import Models
from bench.soak.plan import Kind, Step
from bench.soak.traffic import Traffic
from probe.sandbox.client import TritonError

_PATIENCE = 30.0
_LOOK_EVERY = 0.1
_TRIES = 3
_MOST_TROUBLES = 50
_STOP_SECONDS = 45.0
"""Triton gives its last requests 30 s."""


class Driver:
    """Takes one step after the other; ``counts`` says how many of each kind were done."""

    def __init__(self, deployment: Deployment, models: Models, traffic: Traffic, diary: Diary) -> None:
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._deployment = deployment
        self._models = models
        self._diary = diary
        self._acts: dict[Kind, Callable[[Step], object]] = {
            Kind.LOAD: lambda step: self._load(step.models[0]),
            Kind.UNLOAD: lambda step: self._away(step.models[0]),
            Kind.RELOAD: lambda step: self._reload(step.models[0], instances=step.instances),
            Kind.RESIZE: lambda step: self._resize(step.models[0], step.instances),
            Kind.CYCLE: lambda step: self._cycle(step.models[0]),
            Kind.HASTY: lambda step: self._hasty(step.models[0]),
            Kind.BURST: lambda step: self._at_once(self._reload, step.models),
            Kind.VERSIONS: lambda step: self._reload(step.models[0], versions=step.versions),
            Kind.TRAFFIC: lambda step: traffic.assign(step.rates),
            Kind.IDLE: lambda _: traffic.pause(),
            Kind.NVML: lambda _: self._kill_nvml(),
        }

    def take(self, step: Step) -> None:
        """Do it, and return when it is done.  RESTART is the caller's, who knows what to expect of it."""
        with self._diary.doing(str(step)):
            self.counts[step.kind.value] += 1
            self._acts[step.kind](step)

    def stop_triton(self) -> None:
        """SIGTERM, and wait until it is gone."""
        with self._diary.doing("stop Triton"):
            self._deployment.triton.stop(_STOP_SECONDS)

    def start_triton(self) -> None:
        """Start Triton with all models, and wait until it calls itself ready."""
        with self._diary.doing("start Triton"):
            self._deployment.start_triton()

    def trouble(self, what: str) -> None:
        """Note what did not go as it should in Triton or here."""
        self.counts["troubles"] += 1
        self._diary.note(f"trouble: {what}")
        if len(self.troubles) < _MOST_TROUBLES:
            self.troubles.append(f"{time.strftime('%H:%M:%S')} {what}")

    def _cycle(self, model: str) -> None:
        self._unload(model)
        self._wait_away(model)
        self._load(model)

    def _hasty(self, model: str) -> None:
        self._unload(model)
        self._load(model)

    def _away(self, model: str) -> None:
        self._unload(model)
        self._wait_away(model)

    def _resize(self, model: str, instances: int) -> None:
        self._models.resize(model, instances)
        self._load(model)

    def _reload(
        self, model: str, *, instances: int | None = None, versions: tuple[int, ...] | None = None
    ) -> None:
        self._models.write(model, instances=instances, versions=versions)
        self._load(model)

    def _load(self, model: str) -> None:
        error = ""
        for _ in range(_TRIES):
            try:
                self._deployment.triton.client.load(model)
            except (TritonError, OSError) as refused:
                error = str(refused)
                self._diary.note(f"load of {model} refused: {error}")
                self._settle(model, {"READY", "UNAVAILABLE", ""})
                continue
            self._settle(model, {"READY"})
            return
        self.trouble(f"{model} could not be loaded: {error}")

    def _unload(self, model: str) -> None:
        try:
            self._deployment.triton.client.unload(model)
        except (TritonError, OSError) as error:
            self.trouble(f"{model} could not be unloaded: {error}")

    def _wait_away(self, model: str) -> None:
        self._settle(model, {"UNAVAILABLE", ""})

    def _settle(self, model: str, states: set[str]) -> None:
        """Wait until every version of it is in one of these states, or in none for it was unloaded."""

        def settled() -> bool:
            entries = [each for each in self._index() if each["name"] == model]
            return bool(entries) and all(
                each.get("state", "") in states or each.get("reason") == "unloaded" for each in entries
            )

        if not _wait(settled):
            found = [each for each in self._index() if each["name"] == model]
            self.trouble(f"{model} did not become {'/'.join(sorted(states))} in {_PATIENCE:g} s: {found}")

    def _index(self) -> list[dict[str, str]]:
        try:
            return self._deployment.triton.client.index()
        except (TritonError, OSError):
            return []

    def _at_once(self, what: Callable[[str], None], models: Iterable[str]) -> None:
        threads = [threading.Thread(target=what, args=(each,)) for each in models]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _kill_nvml(self) -> None:
        for pid in processes.tree(self._deployment.daemon.program.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"probe.sources.nvml.helper" in command:
                    os.kill(pid, signal.SIGKILL)
                    return
            except OSError:
                continue


def _wait(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_EVERY)
    return True
