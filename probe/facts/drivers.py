"""What releases of NVIDIA's driver say of processes: hints beside what was measured, never a proof.

Source: NVIDIA's open kernel modules, tags 515 to 595 (``os_find_ns_pid``, ``gpuGetProcWithObject``,
``_gpuMatchClientPid``).
"""

from __future__ import annotations

OWN_PIDS = (535, 113)
"""From here on a list has the pids of the caller's namespace, and leaves out who can not be seen there."""
OWN_MEMORY = (565, 57)
"""From here on memory is told of processes outside the machine's first pid namespace too."""


def release(version: str | None) -> tuple[int, int] | None:
    """The first two numbers of a driver's version, None where it is none."""
    major, _, rest = (version or "").partition(".")
    minor = rest.partition(".")[0] or "0"
    plain = all(each.isascii() and each.isdecimal() and len(each) <= 6 for each in (major, minor))  # noqa: PLR2004
    return (int(major), int(minor)) if plain else None


def shown(version: str | None) -> str:
    """The driver as a sentence names it."""
    return f"driver {version or 'of unknown release'}"


def hint_on_pids(version: str | None) -> str:
    """What this release is known to do with pids, as a sentence; empty where it is not known."""
    told = release(version)
    if told is None:
        return ""
    # 536 to 544 are not for Linux.
    if told < OWN_PIDS:
        return " Drivers before 535.113 list the host's pids, of all tenants."
    return " From 535.113 on a driver lists only processes of the asking process's pid namespace."


def hint_on_memory(version: str | None) -> str:
    """What this release is known to do with memory outside the first pid namespace; empty where nothing is."""
    told = release(version)
    if told is None or not OWN_PIDS <= told < OWN_MEMORY:
        return ""
    return " From 535.113 to 560 drivers give none outside the machine's first pid namespace."
