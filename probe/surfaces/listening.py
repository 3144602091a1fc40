"""Sockets to serve on: dual stack where the machine has IPv6, IPv4 alone where it has not."""

from __future__ import annotations

import contextlib
import errno
import socket

from probe.kits.addresses import parse_listen, split_host_port

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
_REMEDIES = {
    errno.EADDRINUSE: "another process has this port: stop it, or choose another port",
    errno.EACCES: "ports below 1024 need a privilege: choose a higher one",
    errno.EADDRNOTAVAIL: "no interface here has this address",
}


class ListenError(OSError):
    """The address can not be listened on; says which, why, and what to do."""


def bound(listen: str) -> socket.socket:
    """Bind a TCP socket for ``[::]:8003`` or ``host:port``; port 0 lets the kernel choose.

    ``[::]`` takes IPv4 too, and is ``0.0.0.0`` on a machine without IPv6.  Raises ListenError, and
    ValueError for what is no address.
    """
    host, port = split_host_port(parse_listen(listen))
    try:
        family, address = _resolved(host, port)
        try:
            return _bound(family, address)
        except OSError as error:
            if host != "::" or error.errno not in _NO_IPV6:
                raise
            return _bound(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  (what `[::]` means here)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        reason = error.strerror or str(error)
        raise ListenError(
            error.errno, f"can not listen on {listen}: {reason}{f' ({remedy})' if remedy else ''}"
        ) from error


def _resolved(host: str, port: int) -> tuple[int, tuple[str, int]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


def _bound(family: int, address: tuple[str, int]) -> socket.socket:
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it, every answer
    # on a kept connection waits 40 ms for the peer's delayed acknowledgement.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        # A probe that was restarted must not wait for its old connections to time out.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        made.bind(address)
        made.setblocking(False)
        undo.pop_all()
    return made
