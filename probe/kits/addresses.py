"""Network addresses as people write them: ``host:port``, ``[::]:8003``, ``unix:/run/x.sock``."""

from __future__ import annotations

import ipaddress
import re

from probe.kits.words import quoted

_HIGHEST_PORT = 65535
_LONGEST_UNIX_PATH = 107
"""``sun_path`` holds 108 bytes with its closing zero (unix(7))."""
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_ENDPOINT = "host:port, [IPv6]:port or unix:/path"
_LISTEN = "host:port such as 127.0.0.1:8003 or [::]:8003"


def split_host_port(text: str) -> tuple[str, int]:
    """Host without brackets, and port, of an address that a function of this module returned.

    Raises ValueError for a ``unix:`` address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.startswith("unix:"):
        raise ValueError(f"found {quoted(text)}, expected {_LISTEN}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_endpoint(text: str) -> str:
    """The address of a server to call, in its plain form.  Raises ValueError saying what was expected."""
    stripped = text.strip()
    if stripped.startswith("unix:"):
        path = re.sub(r"^//+", "/", stripped.removeprefix("unix:"))
        if not path.startswith("/") or len(path.encode()) > _LONGEST_UNIX_PATH or "\0" in path:
            raise ValueError(
                f"found {quoted(stripped)}, expected unix:/path, "
                f"absolute and of at most {_LONGEST_UNIX_PATH} bytes"
            )
        return f"unix:{path}"
    host, port = _checked(stripped, _ENDPOINT, lowest_port=1)
    return f"{host}:{port}"


def parse_listen(text: str) -> str:
    """The address to listen on; port 0 lets the kernel pick one, and no host means every interface.

    Raises ValueError saying what was expected.
    """
    stripped = text.strip()
    bare_port = stripped.rfind(":") == 0
    host, port = _checked(f"[::]{stripped}" if bare_port else stripped, _LISTEN, lowest_port=0)
    return f"{host}:{port}"


def _checked(text: str, expected: str, *, lowest_port: int) -> tuple[str, int]:
    """Host (IPv6 in brackets) and port."""
    if "://" in text:
        raise ValueError(f"found {quoted(text)}, expected {expected}, without a scheme before it")
    host, colon, port = text.rpartition(":")
    if not colon or not _is_host(host):
        hint = ", an IPv6 address in brackets" if ":" in host and not host.startswith("[") else ""
        raise ValueError(f"found {quoted(text)}, expected {expected}{hint}")
    if not re.fullmatch("[0-9]{1,5}", port) or not lowest_port <= int(port) <= _HIGHEST_PORT:
        raise ValueError(f"found {quoted(text)}, expected a port from {lowest_port} to {_HIGHEST_PORT}")
    return host, int(port)


def _is_host(host: str) -> bool:
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
            return host.endswith("]")
        if re.fullmatch(r"[0-9.]+", host):
            ipaddress.IPv4Address(host)
            return True
    except ValueError:
        return False
    return _HOST_NAME.fullmatch(host) is not None
