"""``check``: what a running daemon answers, for exec probes and scripts.

It starts in a tenth of a second because it needs nothing but the standard library: an exec probe pays
for every import at every period.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import click

from probe.kits.quantities import format_duration

PATHS = {"live": "/livez", "ready": "/readyz", "startup": "/startupz"}
OPEN, FAILING, NO_ANSWER = 0, 1, 3
_OK, _UNAVAILABLE = 200, 503
_LARGEST_BYTES = 1024 * 1024
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


def check(
    target: Target,
    gate: str,
    timeout_seconds: float,
    *,
    models: Sequence[str] = (),
    excluded: Sequence[str] = (),
    verbose: bool = False,
    output_format: str = "text",
) -> int:
    """Print the daemon's answer about a gate and return the exit status.

    0 open, 1 failing, 3 no answer: refused, not in time, not HTTP, or a status that no gate has.
    """
    query = [("model", model) for model in models] + [("exclude", reason) for reason in excluded]
    query += [("verbose", "1")] if verbose else []
    query += [("format", "json")] if output_format == "json" else []
    path = f"{target.prefix}{PATHS[gate]}{'?' if query else ''}{urlencode(query, errors='surrogateescape')}"
    answer = _asked(target, path, timeout_seconds)
    if isinstance(answer, str):
        return _no_answer(target, answer)
    if answer.status not in (_OK, _UNAVAILABLE):
        return _no_answer(target, f"status {answer.status} for {path}, which no triton-probe gives")
    click.echo(f"{answer.body}\n".encode(), nl=False)
    return OPEN if answer.status == _OK else FAILING


def _asked(target: Target, path: str, timeout_seconds: float) -> Answer | str:
    """The answer, or why there is none.

    On a thread of its own: the timeout then covers name resolution and an answer that drips, too, which
    no socket's timeout does.
    """
    outcome: list[Answer | str] = []
    deadline = time.monotonic() + timeout_seconds
    asking = threading.Thread(target=lambda: outcome.append(_get(target, path, timeout_seconds)), daemon=True)
    try:
        asking.start()
    except RuntimeError as error:  # no more threads: the container's limit of processes is reached
        return str(error)
    asking.join(deadline - time.monotonic())
    return outcome[0] if outcome else f"none within {format_duration(timeout_seconds)}"


def _get(target: Target, path: str, timeout_seconds: float) -> Answer | str:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "triton-probe check"})
        response = connection.getresponse()
        return Answer(response.status, _printable(response.read(_LARGEST_BYTES)))
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
    return "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def _no_answer(target: Target, why: str) -> int:
    click.echo(f"triton-probe: no answer from {target}: {why}", err=True)
    return NO_ANSWER
