"""Settings that are part of the contract and that nothing in this release acts on yet."""

from __future__ import annotations

from probe.settings.knobs import value_at
from probe.settings.schema import Settings

IDLE = ("grpc_listen",)
"""Knobs that are read and checked, so that a configuration written today stays valid, and do nothing."""


def set_in_vain(settings: Settings) -> tuple[str, ...]:
    """The knobs that were given a value of their own which has no effect yet."""
    plain = Settings()
    return tuple(path for path in IDLE if value_at(settings, path) != value_at(plain, path))
