"""The three questions of a kubelet, and how long a reason must hold before it answers one."""

from __future__ import annotations

import enum

import msgspec


class Gate(enum.StrEnum):
    """What a finding can fail: ``/livez``, ``/readyz``, ``/startupz``."""

    LIVE = "live"
    READY = "ready"
    STARTUP = "startup"


class Hold(msgspec.Struct, frozen=True):
    """How long a finding must hold before it moves a gate: both parts must be met.

    ``seconds`` since the finding was first seen without a break; ``looks``: how many fresh looks showed
    it (a missing sample is no look: it neither raises nor clears).
    """

    seconds: float = 0.0
    looks: int = 0


AT_ONCE = Hold()
