"""Whose process it is, from ``/proc/<pid>/status``, which everybody may read (proc(5))."""

from __future__ import annotations

from probe.facts.container import Owner
from probe.sources.container.files import whole

_FIELDS = 4  # real, effective, saved, file system


def owner(status: bytes | None) -> Owner | None:
    """The owner that this file tells, or None where it tells none."""
    said: dict[bytes, list[bytes]] = {}
    for line in (status or b"").split(b"\n"):
        name, _, rest = line.partition(b":")
        said.setdefault(name, rest.split())
    uids, gids = said.get(b"Uid", []), said.get(b"Gid", [])
    if len(uids) != _FIELDS or len(gids) != _FIELDS:
        return None
    uid, gid = whole(uids[1]), whole(gids[1])
    if uid is None or gid is None:
        return None
    permitted = b"".join(said.get(b"CapPrm", []))
    return Owner(uid, gid, capable=permitted.strip(b"0") != b"")
