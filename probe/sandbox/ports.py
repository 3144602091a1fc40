"""Ports of 127.0.0.1 that are free, and that nobody else who asks here is given meanwhile.

Between the choice of a port and the server that binds it lie seconds.  So every process takes a share of the
ports for itself, by an abstract socket that the kernel gives back when the process ends however it ends, and
goes through its share from one end to the other: a port comes again only after all others.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Iterator

from probe.sandbox.errors import SandboxError

# Below the range that Linux gives to outgoing connections, so that none of those takes a port in between.
_PORTS = range(20_000, 32_000)
_SHARE = 500
_LOCK = threading.Lock()


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 that nothing uses now.  Raises :class:`SandboxError` where there are not so many."""
    with _LOCK:
        found = tuple(itertools.islice(filter(_unused, itertools.islice(_MINE, _SHARE)), count))
    if len(found) < count:
        raise SandboxError(f"no {count} free ports on 127.0.0.1 in {_PORTS.start}-{_PORTS.stop}")
    return found


def _mine() -> Iterator[int]:
    """The ports of this process's share, again and again; where all shares are taken, any at random."""
    for share in random.sample(range(0, len(_PORTS), _SHARE), len(_PORTS) // _SHARE):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0triton-probe-ports-{_PORTS[share]}")
        except OSError:
            holder.close()
            continue
        holder.detach()  # held until this process ends
        yield from itertools.cycle(_PORTS[share : share + _SHARE])
    while True:
        yield from random.sample(_PORTS, len(_PORTS))


_MINE = _mine()


def _unused(port: int) -> bool:
    with socket.socket() as candidate, contextlib.suppress(OSError):
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind(("127.0.0.1", port))
        return True
    return False
