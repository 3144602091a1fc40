"""Where a controller accounts a process: which version, which mount, which directories.

Read from ``/proc/<pid>/cgroup`` and ``/proc/<pid>/mountinfo`` (proc(5), cgroup_namespaces(7)).  The
kernel writes the paths in both relative to the **reader's** cgroup namespace, so that they can be compared
with each other, and lie outside of it as ``/../other``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

UNIFIED = b""
"""The name under which version 2's only hierarchy stands in ``/proc/<pid>/cgroup``."""

_FIELDS_BEFORE_OPTIONAL = 6
_FIELDS_AFTER_DASH = 3
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_UP = b".."


class Membership(msgspec.Struct, frozen=True):
    """One line of ``/proc/<pid>/cgroup``: the version of the hierarchy and the path in it."""

    version: int
    path: bytes


class Mount(msgspec.Struct, frozen=True):
    """A cgroup file system: ``root`` is the cgroup that is seen at ``point``; version 2 has no names."""

    version: int
    controllers: frozenset[bytes]
    root: bytes
    point: bytes


class Place(msgspec.Struct, frozen=True):
    """The directories of a process's cgroup: a mount point and the names below it."""

    version: int
    point: bytes
    names: tuple[bytes, ...] = ()

    def levels(self) -> Iterator[bytes]:
        """The directories from the process's own cgroup up to the mount point."""
        for depth in range(len(self.names), -1, -1):
            yield b"/".join((self.point.rstrip(b"/"), *self.names[:depth]))


def memberships(text: bytes) -> dict[bytes, Membership]:
    """By controller, where a process is; version 2 stands under ``UNIFIED``.  Nonsense is passed over."""
    found = {}
    for line in text.split(b"\n"):
        number, colon, rest = line.partition(b":")
        names, second, path = rest.partition(b":")
        if not (colon and second and number.isdigit() and path.startswith(b"/")):
            continue
        if number == b"0" and not names:
            found[UNIFIED] = Membership(2, path)
        else:
            found.update(dict.fromkeys(filter(None, names.split(b",")), Membership(1, path)))
    return found


def membership(known: dict[bytes, Membership], controller: bytes) -> Membership | None:
    """Where a controller has the process: a hierarchy of its own if it has one, else version 2.

    A controller is bound to one hierarchy at a time, so a line that names it settles the matter, also
    where version 2 is mounted beside it (the hybrid layout of systemd).
    """
    return known.get(controller) or known.get(UNIFIED)


def mounts(text: bytes) -> list[Mount]:
    """The cgroup file systems in a ``mountinfo``; of two on one mount point, the one on top."""
    found: dict[bytes, Mount] = {}
    for line in text.split(b"\n"):
        if b" - cgroup" not in line:
            continue
        before, _, after = line.partition(b" - ")
        fields, described = before.split(b" "), after.split(b" ")
        if len(fields) < _FIELDS_BEFORE_OPTIONAL or len(described) < _FIELDS_AFTER_DASH:
            continue
        kind, options = described[0], described[2]
        if kind not in (b"cgroup", b"cgroup2"):
            continue
        root, point = _unescaped(fields[3]), _unescaped(fields[4])
        names = frozenset(options.split(b",")) if kind == b"cgroup" else frozenset[bytes]()
        found.pop(point, None)
        found[point] = Mount(1 if kind == b"cgroup" else 2, names, root, point)
    return list(found.values())


def device_at(text: bytes, point: bytes) -> tuple[int, int] | None:
    """Major and minor number of the file system mounted at ``point``, the one on top, or None."""
    device = None
    for line in text.split(b"\n"):
        fields = line.split(b" ", 5)
        if len(fields) == _FIELDS_BEFORE_OPTIONAL and _unescaped(fields[4]) == point:
            major, _, minor = fields[2].partition(b":")
            device = (int(major), int(minor)) if _small(major) and _small(minor) else None
    return device


def place(known: dict[bytes, Membership], mounted: list[Mount], controller: bytes) -> Place | None:
    """The directories in which a controller accounts the process, or None where they can not be told.

    Of several mounts that show its cgroup, the one with the widest view is taken: limits of its
    ancestors count.  A mount that does not show it is a container's own (the paths are then from
    different namespaces), and its mount point is the container's cgroup.
    """
    member = membership(known, controller)
    if member is None:
        return None
    found = shown(member, mounted, controller)
    if found is not None:
        return found
    for each in reversed(_of_hierarchy(member, mounted, controller)):
        # A root above our namespace's own root shows the cgroup under names that we are not told:
        # its mount point is an ancestor of the container, perhaps the whole node.
        if _split(each.root)[0] <= _split(member.path)[0]:
            return Place(each.version, each.point)
    return None


def shown(member: Membership, mounted: list[Mount], controller: bytes) -> Place | None:
    """The directories of this cgroup in the mount that shows it with the widest view, or None in none."""
    showing = [
        (len(names), Place(each.version, each.point, names))
        for each in _of_hierarchy(member, mounted, controller)
        if (names := names_below(member.path, each.root)) is not None
    ]
    return max(showing, key=lambda pair: pair[0])[1] if showing else None


def _of_hierarchy(member: Membership, mounted: list[Mount], controller: bytes) -> list[Mount]:
    return [
        each
        for each in mounted
        if each.version == member.version and (each.version != 1 or controller in each.controllers)
    ]


def names_below(path: bytes, root: bytes) -> tuple[bytes, ...] | None:
    """The names that lead from a mount's root down to a cgroup, or None where it is not below."""
    ups, names = _split(path)
    root_ups, root_names = _split(root)
    if ups != root_ups or names[: len(root_names)] != root_names:
        return None
    below = names[len(root_names) :]
    return None if _UP in below else below


def _split(path: bytes) -> tuple[int, tuple[bytes, ...]]:
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    ups = next((index for index, name in enumerate(names) if name != _UP), len(names))
    return ups, tuple(names[ups:])


def _unescaped(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field)


def _small(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 10  # noqa: PLR2004 - the digits of 2**32
