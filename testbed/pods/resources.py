"""What a manifest gives a container, and what the kubelet makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil
import yaml

from probe.kits.quantities import parse_size

CPU_PERIOD = 100_000
"""Microseconds, as the kubelet sets it."""
_SHARES_OF_A_CORE = 1024
_LEAST_SHARES = 2
_CAP_SYS_RESOURCE = 1 << 24
_GUARANTEED, _BEST_EFFORT = -997, 1000


class Resources(msgspec.Struct, frozen=True):
    """The ``resources:`` of a container: memory in bytes, CPU in cores, None where nothing is said.

    ``pids`` is not a manifest's business but the kubelet's (``podPidsLimit``).
    """

    memory: int | None = None
    cpu: float | None = None
    memory_request: int | None = None
    cpu_request: float | None = None
    pids: int | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``resources: {limits: …, requests: …}``, as it stands in a manifest."""
        return cls.of(yaml.safe_load(text)["resources"])

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Take ``limits`` and ``requests``, as they were read from a manifest."""
        limits, requests = told.get("limits") or {}, told.get("requests") or {}
        return cls(
            memory=_size(limits.get("memory")),
            cpu=_cores(limits.get("cpu")),
            memory_request=_size(requests.get("memory")),
            cpu_request=_cores(requests.get("cpu")),
        )

    @property
    def guaranteed(self) -> bool:
        """Whether limits are set and requests are the same (or not set, which means the same)."""
        whole = self.memory is not None and self.cpu is not None
        return whole and self.memory_request in (None, self.memory) and self.cpu_request in (None, self.cpu)

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for at all."""
        return self == Resources(pids=self.pids)

    def flags(self) -> list[str]:
        """Podman's options for it, as the kubelet would set limits, shares and the score for the OOM killer.

        The score is the kubelet's (``pkg/kubelet/qos/policy.go``), were this container alone in its pod, or the
        lowest that :func:`may_be_spared` leaves.
        """
        score = self._score() if may_be_spared() else max(self._score(), 0)
        told = [f"--oom-score-adj={score}", f"--cpu-shares={self._shares()}"]
        if self.memory is not None:
            told += [f"--memory={self.memory}", f"--memory-swap={self.memory}"]
        if self.cpu is not None:
            told += [f"--cpu-period={CPU_PERIOD}", f"--cpu-quota={round(self.cpu * CPU_PERIOD)}"]
        return [*told, f"--pids-limit={-1 if self.pids is None else self.pids}"]

    def _score(self) -> int:
        if self.guaranteed:
            return _GUARANTEED
        if self.empty:
            return _BEST_EFFORT
        asked = self.memory if self.memory_request is None else self.memory_request
        score = 1000 - 1000 * (asked or 0) // psutil.virtual_memory().total
        return min(max(score, 1000 + _GUARANTEED), _BEST_EFFORT - 1)

    def _shares(self) -> int:
        asked = self.cpu if self.cpu_request is None else self.cpu_request
        return max(int((asked or 0) * _SHARES_OF_A_CORE), _LEAST_SHARES)


def may_be_spared() -> bool:
    """Whether a process may be given a negative score here (``CAP_SYS_RESOURCE``)."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _CAP_SYS_RESOURCE)


def _size(value: object) -> int | None:
    return None if value is None else parse_size(str(value))


def _cores(value: object) -> float | None:
    if value is None:
        return None
    text = str(value)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
