"""The security context that lets the probe see what it was refused; pure."""

from __future__ import annotations

from probe.facts.container import Owner

_TRITONS_OWN = 1000
"""The user ``triton-server`` of Triton's own images."""

_TRACING = (
    "or set securityContext: {runAsUser: 0, capabilities: {add: [SYS_PTRACE]}} on the probe's container"
    " (a capability that is added to another user than 0 has no effect)."
)


def remedy(owner: Owner | None) -> str:
    """What to paste into the manifest.

    The kernel shows the root of a process, and with it its cgroup files and ``/dev/shm``, to the same user and
    group with no fewer capabilities, or to whoever may trace it (ptrace(2), access mode checking).
    """
    if owner is None:
        return (
            "In the probe's securityContext, set runAsUser and runAsGroup to those of Triton's container and drop"
            f" no capability that Triton's keeps; {_TRACING}"
        )
    if owner.capable:
        return (
            f"Set {_line(_TRITONS_OWN, _TRITONS_OWN, dropped=True)} on both containers; or, while tritonserver runs"
            f" with capabilities as user {owner.uid} and group {owner.gid}, set"
            f" {_line(owner.uid, owner.gid, dropped=False)} on the probe's and drop no capability that Triton's"
            f" keeps; {_TRACING}"
        )
    return (
        f"Set {_line(owner.uid, owner.gid, dropped=True)} on the probe's container: tritonserver runs as that user"
        f" and group, and without capabilities; {_TRACING}"
    )


def _line(uid: int, gid: int, *, dropped: bool) -> str:
    capabilities = ", capabilities: {drop: [ALL]}" if dropped else ""
    return f"securityContext: {{runAsUser: {uid}, runAsGroup: {gid}{capabilities}}}"
