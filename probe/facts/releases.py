"""What Triton's words mean from which release on, as data.

Sources: Triton core 9686007 and 53fc26e, python_backend 27f04d1, 395a780 and 65529b0, and runs of 2.51.
"""

from __future__ import annotations

import msgspec

Release = tuple[int, int]

STUBS_NOT_RESTARTED: Release = (2, 47)
"""24.06: from here on a dead stub is never started again; before, non-decoupled ones were."""
MODEL_READY_SEES_INSTANCES: Release = (2, 64)
"""25.12: ``ModelReady`` is false when an instance's stub has exited."""
MODEL_READY_ASKS_USER: Release = (2, 67)
"""26.03: ``ModelReady`` also asks the model's own ``is_ready()``, for up to 5 s."""
SERVER_READY_SEES_INSTANCES: Release = (2, 68)
"""26.04: strict ``ServerReady`` is false when any ready model has a dead instance."""


class Semantics(msgspec.Struct, frozen=True):
    """What one release means; each is None where the release is not known."""

    restarts_stubs: bool | None
    model_ready_sees_instances: bool | None
    server_ready_sees_instances: bool | None
    text: str


def parse_release(version: str | None) -> Release | None:
    """Major and minor of a Triton version such as ``2.51.0``, or None for what is none."""
    parts = (version or "").split(".")
    if len(parts) < 2 or not parts[0].isdecimal() or not parts[1].isdecimal():  # noqa: PLR2004
        return None
    return int(parts[0]), int(parts[1])


def semantics(version: str | None) -> Semantics | None:
    """What readiness means in this release; None for an unknown version."""
    release = parse_release(version)
    if release is None:
        return None
    restarts = release < STUBS_NOT_RESTARTED
    model = release >= MODEL_READY_SEES_INSTANCES
    server = release >= SERVER_READY_SEES_INSTANCES
    asks = " and asks the model's is_ready()" if release >= MODEL_READY_ASKS_USER else ""
    return Semantics(
        restarts,
        model,
        server,
        f"ModelReady {'sees dead instances' + asks if model else 'is the lifecycle state only'}; "
        f"ServerReady {'sees dead instances' if server else 'does not see dead instances'}; "
        f"a dead stub is {'restarted by the next request' if restarts else 'never restarted'}",
    )
