"""What Triton's words mean from which release on, as data.

Sources: Triton core 9686007, 53fc26e and 73aad7c, python_backend 27f04d1, 395a780 and 65529b0, and runs of
2.51.  One question has one column in :data:`TABLE`; who wants to know asks :func:`semantics`.
"""

from __future__ import annotations

import enum

import msgspec

Release = tuple[int, int]

_MOST_DIGITS = 6
"""No release is longer; what is comes from no Triton, and costs ``int`` dearly."""


class ModelReady(enum.IntEnum):
    """What ``ModelReady`` looks at; each sees what the one before sees, and more."""

    LIFECYCLE = 0
    """The lifecycle's state alone, which the statistics tell as well."""
    INSTANCES = 1
    """Also false where the stub of any instance has exited; asking reaps the zombie."""
    USER = 2
    """Also asks the model's own ``is_ready()``: every instance in turn, for up to 5 s each."""


class Semantics(msgspec.Struct, frozen=True):
    """What the releases from ``since`` on mean, up to the next row's."""

    since: Release
    container: str
    """The container's release, as NVIDIA counts those."""
    restarts_stubs: bool
    """The next request starts a dead stub again, unless its model is decoupled."""
    model_ready: ModelReady
    server_ready_sees_instances: bool
    """Strict ``ServerReady`` asks every ready model what ``ModelReady`` asks, one after the other."""
    unready_is_an_error: bool
    """``ModelReady`` of a model that is unknown or not loaded is NOT_FOUND or UNAVAILABLE, not false."""

    @property
    def text(self) -> str:
        """As ``/status`` says it."""
        model = {
            ModelReady.LIFECYCLE: "ModelReady is the lifecycle state only",
            ModelReady.INSTANCES: "ModelReady sees dead instances",
            ModelReady.USER: "ModelReady sees dead instances and asks the model's is_ready()",
        }[self.model_ready]
        error = ", and is an error for a model that is not loaded" if self.unready_is_an_error else ""
        sees = "sees dead instances" if self.server_ready_sees_instances else "does not see dead instances"
        stub = (
            "restarted by the next request, unless the model is decoupled"
            if self.restarts_stubs
            else "never restarted"
        )
        return f"{model}{error}; ServerReady {sees}; a dead stub is {stub}"


_LIFE, _INSTANCES, _USER = ModelReady.LIFECYCLE, ModelReady.INSTANCES, ModelReady.USER

TABLE: tuple[Semantics, ...] = (
    #          since    container  restarts ModelReady  ServerReady errors
    Semantics((0, 0), "", True, _LIFE, False, False),
    Semantics((2, 47), "24.06", False, _LIFE, False, False),
    Semantics((2, 64), "25.12", False, _INSTANCES, False, False),
    Semantics((2, 67), "26.03", False, _USER, False, False),
    Semantics((2, 68), "26.04", False, _USER, True, False),
    Semantics((2, 71), "26.07", False, _USER, True, True),
)
"""Oldest first.  The first row stands for all before the second (stubs were not restarted before 21.08
either: taken for restarted, they cost nobody a restart), the last for every release that is yet to come."""


def parse_release(version: str | None) -> Release | None:
    """Major and minor of a Triton version such as ``2.51.0``, or None for what is none."""
    parts = (version or "").split(".")
    if len(parts) < 2 or not _number(parts[0]) or not _number(parts[1]):  # noqa: PLR2004
        return None
    return int(parts[0]), int(parts[1])


def _number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def semantics(version: str | None) -> Semantics | None:
    """What readiness means in this release; None for what is no version, of which nothing is known."""
    release = parse_release(version)
    if release is None:
        return None
    return next(row for row in reversed(TABLE) if row.since <= release)
