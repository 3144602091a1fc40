"""How a command asks a running daemon: one ``GET``, in time or not at all.

Nothing here is heavier than the standard library: ``check`` runs as an exec probe.
"""

from __future__ import annotations

import http.client
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from probe.kits.quantities import format_duration

NO_ANSWER = 3
LARGEST_BYTES = 1024 * 1024
"""More than this is no answer of ours."""


class Target(NamedTuple):
    """Where a daemon answers."""

    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """From ``http://host:port``, behind a path where a proxy adds one.  Raises ValueError."""
        expected = "expected http://host:port such as http://127.0.0.1:8003"
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise ValueError(f"found {url!r} ({error}), {expected}") from None
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"found {url!r}, {expected}")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"found {url!r}, {expected}")
        return cls(parts.hostname, port, parts.path.rstrip("/"))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.prefix}"


class Answer(NamedTuple):
    """An HTTP answer; the body is text fit for a terminal."""

    status: int
    body: str


def ask(
    target: Target, path: str, timeout_seconds: float, largest_bytes: int = LARGEST_BYTES
) -> Answer | str:
    """What a ``GET`` of this path answers, or why there is no answer.

    On a thread of its own: the timeout then covers name resolution and an answer that drips, too, which
    no socket's timeout does.
    """
    outcome: list[Answer | str] = []
    deadline = time.monotonic() + timeout_seconds
    asking = threading.Thread(
        target=lambda: outcome.append(_get(target, path, timeout_seconds, largest_bytes)), daemon=True
    )
    try:
        asking.start()
    except RuntimeError as error:  # no more threads: the container's limit of processes is reached
        return str(error)
    asking.join(deadline - time.monotonic())
    return outcome[0] if outcome else f"none within {format_duration(timeout_seconds)}"


def _get(target: Target, path: str, timeout_seconds: float, largest_bytes: int) -> Answer | str:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "triton-probe"})
        response = connection.getresponse()
        return Answer(response.status, _printable(response.read(largest_bytes)))
    except TimeoutError:
        return f"none within {format_duration(timeout_seconds)}"
    except http.client.HTTPException as error:
        return f"not HTTP ({type(error).__name__})"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except ValueError as error:  # a host name that no resolver can be asked for
        return str(error)
    finally:
        connection.close()


def _printable(raw: bytes) -> str:
    """Text without what would steer a terminal."""
    text = raw.decode("utf-8", "replace").strip()
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def no_answer(target: Target, why: str) -> int:
    """Say so, and return the exit status of it."""
    click.echo(f"triton-probe: no answer from {target}: {why}", err=True)
    return NO_ANSWER
