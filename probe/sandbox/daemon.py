"""The daemon itself as a process in a pod, asked over HTTP as its users ask it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from probe.facts.findings import Finding
from probe.facts.status import Status
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod

T = TypeVar("T")

OPEN, CLOSED = 200, 503
"""What a gate answers."""

_PATIENCE = 60.0
"""Seconds that every wait has: it costs nothing where all is well, and a busy machine needs many of them."""


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer; ``code`` 0 where nobody answered."""

    code: int
    body: str
    headers: dict[str, str] = {}

    def __bool__(self) -> bool:
        return self.code != 0


class DaemonClient:
    """Asks a ``triton-probe serve`` that listens at a port of 127.0.0.1, whoever started it; ``log`` is its output."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def ask(self, path: str, *, seconds: float = 20.0, headers: Mapping[str, str] | None = None) -> Answer:
        """``GET`` this path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
            return Answer(response.status, body, {k.lower(): v for k, v in response.getheaders()})
        except (OSError, http.client.HTTPException):
            return Answer(0, "")
        finally:
            connection.close()

    def status(self) -> Status:
        """The whole of ``/status``; raises SandboxError where nobody answers."""
        answer = self.ask("/status")
        if answer.code != OPEN:
            raise SandboxError(f"the daemon answers /status with {answer.code}: {self.log_tail()}")
        return msgspec.json.decode(answer.body, type=Status)

    def events(self) -> list[dict[str, Any]]:
        """The transitions, newest first."""
        told: list[dict[str, Any]] = msgspec.json.decode(self.ask("/events").body)
        return told

    def finding(self, reason: str, model: str = "") -> Finding | None:
        """The first finding of this reason (about this model) that stands now."""
        if not (answer := self.ask("/status")):
            return None
        return next(
            (
                each
                for each in msgspec.json.decode(answer.body, type=Status).findings
                if each.reason == reason and model in ("", each.subject.model)
            ),
            None,
        )

    def wait_until(
        self, what: str, look: Callable[[], T | None], seconds: float = _PATIENCE, *, pause: float = 0.02
    ) -> T:
        """The first answer that is something; raises SandboxError, with the log's end, where none comes."""
        deadline = time.monotonic() + seconds
        while True:
            if answer := look():
                return answer
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"waited {seconds:g} s for {what}; the daemon's log ends:\n{self.log_tail()}"
                )
            time.sleep(pause)

    def wait_code(self, path: str, *codes: int, seconds: float = _PATIENCE, pause: float = 0.02) -> Answer:
        """The first answer with one of these codes."""

        def look() -> Answer | None:
            answer = self.ask(path)
            return answer if answer.code in codes else None

        return self.wait_until(f"{path} to answer {codes}", look, seconds, pause=pause)

    def wait_finding(self, reason: str, model: str = "", seconds: float = _PATIENCE) -> Finding:
        """The finding, once it stands."""
        return self.wait_until(f"{reason} {model}", lambda: self.finding(reason, model), seconds)

    def wait_clear(self, reason: str, model: str = "", seconds: float = _PATIENCE) -> None:
        """Until no such finding stands."""
        self.wait_until(f"{reason} {model} to clear", lambda: self.finding(reason, model) is None, seconds)

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class Daemon(DaemonClient):
    """A started ``triton-probe serve``.  :meth:`stop` it, or use it as a context manager."""

    def __init__(
        self,
        pod: BarePod,
        port: int,
        *,
        log: Path,
        addresses: Mapping[str, str] | None = None,
        settings: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "probe"),
    ) -> None:
        """Start it on ``127.0.0.1:port``.

        ``addresses`` are Triton's by protocol (``grpc``, ``http``, ``metrics``); ``settings`` is the text
        of its YAML file; ``environment`` comes on top of this process's own; ``log`` gets its output.
        ``program`` is what is called, nothing where the pod knows that itself.
        """
        super().__init__(port, log)
        file = log.with_suffix(".yaml")
        file.write_text(settings)
        told = [word for name, value in (addresses or {}).items() for word in (f"--{name}", value)]
        command = [*program, "serve", "--config", str(file), *told]
        with log.open("ab") as output:
            self.program = pod.popen(
                [*command, "--listen", f"127.0.0.1:{port}", *arguments],
                {**os.environ, **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        return self.program.stop(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.program.close()
