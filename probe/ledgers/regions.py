"""What Triton's options and names say of the shared memory regions of stubs; pure.

python_backend ``python_be.cc`` and ``pb_utils.cc``: the prefix is ``triton_<backend>_backend_shm_region_`` unless
an option sets it; behind it stands a number up to 24.03 and a UUID from 24.04 on.  Sizes are those of options, or
64 MiB up to 23.08 and 1 MiB from 23.09 (2.38) on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from probe.facts.processes import Server

_PREFIX = re.compile(r"triton_[\w.-]+_backend_shm_region_")
_ID = re.compile(r"[0-9]{1,10}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PREFIX_OPTION = "shm-region-prefix-name"
_OPTIONS_OF = "python,"
_SMALL, _LARGE = 1 << 20, 64 << 20
_SMALL_SINCE = (2, 38)
_RELEASE = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


class RegionSizes(msgspec.Struct, frozen=True):
    """In bytes: with what a stub's region begins, and by what steps it grows."""

    default_bytes: int
    growth_bytes: int


def prefixes_of(server: Server) -> tuple[str, ...]:
    """The prefixes that this server's options give to the names of regions."""
    return tuple(dict.fromkeys(each for each in _values(server, _PREFIX_OPTION) if each))


def looks_like_region(name: str, prefixes: Iterable[str] = ()) -> bool:
    """Whether a file is named as the python backend names a region, with one of these prefixes or its own."""
    own = _PREFIX.match(name)
    heads = (*prefixes, own[0]) if own is not None else prefixes
    return any(name.startswith(each) and _ID.fullmatch(name[len(each) :]) is not None for each in heads)


def sizes_of(server: Server | None, version: str | None) -> RegionSizes:
    """What regions of this server's stubs begin with where no stub of it tells."""
    found = _RELEASE.match(version or "")
    old = found is not None and (int(found[1]), int(found[2])) < _SMALL_SINCE
    usual = _LARGE if old else _SMALL
    default = _number(server, "shm-default-byte-size")
    growth = _number(server, "shm-growth-byte-size")
    return RegionSizes(usual if default is None else default, usual if growth is None else growth)


def _values(server: Server, option: str) -> list[str]:
    settings = (each.removeprefix(_OPTIONS_OF) for each in server.options("backend-config"))
    return [each.partition("=")[2] for each in settings if each.startswith(f"{option}=")]


def _number(server: Server | None, option: str) -> int | None:
    told = _values(server, option)[-1:] if server is not None else []
    return next((int(each) for each in told if each.isdecimal() and len(each) <= 18), None)  # noqa: PLR2004
