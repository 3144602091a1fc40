"""The processes of a Triton that is none: started in a pod, killed and reaped as a test wants."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from probe.sandbox.pods import BarePod
from testbed.compile import build_program
from testbed.impostors.lines import STUB_FILE, Release, command_line
from testbed.tools import until

_SOURCE = Path(__file__).with_name("impostor.c")
SERVER_NAME, STUB_NAME = "tritonserver", "triton_python_b"


@dataclass(frozen=True)
class ImpostorStub:
    """One stub: its pid as the pod counts it, and what it was started with."""

    pid: int
    words: tuple[str, ...]


class ImpostorServer:
    """A ``tritonserver`` with children; everything ends with it."""

    def __init__(self, pod: BarePod, folder: Path, *, release: Release, options: Sequence[str] = ()) -> None:
        """Start it with these command line options; ``folder`` gets the programs of these names.

        Raises ``testbed.compile.CompileError``.
        """
        self.pod = pod
        self.release = release
        self._stub = folder / STUB_FILE
        binary = folder / SERVER_NAME
        program = build_program(_SOURCE)
        for each in (binary, self._stub):
            if not each.exists():
                shutil.copy(program, each)
        self.program = pod.popen([binary, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # What enters the pod becomes it by exec.
        until(lambda: (seen := self.program.look()) is not None and seen.name == SERVER_NAME)
        self.pid = pod.inside_pid(self.program.pid) or 0
        """The server's pid, as the pod counts."""
        self._regions = 0

    def start(self, name: str, model_path: str, *, pid: int | None = None, **line: str) -> ImpostorStub:
        """Start a stub of this instance name; ``pid``: a former one that nobody has any more."""
        self._regions += 1
        words = command_line(
            self.release,
            name=name,
            model_path=model_path,
            parent_pid=self.pid,
            number=self._regions,
            **line,
        )
        if pid is not None and (error := self._ask(f"pid {pid}")):
            raise OSError(error, os.strerror(error))
        started = self._ask(f"start {len(words)}", str(self._stub), *words)
        until(lambda: any(e.inside_pid == started and e.name == STUB_NAME for e in self.pod.processes()))
        if pid not in (None, started):
            raise OSError(f"the pid {pid} was wanted, and is {started}")
        return ImpostorStub(started, tuple(words))

    def kill(self, stub: ImpostorStub, number: int = signal.SIGKILL) -> None:
        """Send a stub a signal, as its own fault or the kernel would."""
        os.kill(self.outer(stub), number)

    def end(self, stub: ImpostorStub) -> None:
        """Let a stub exit cleanly, as one whose model is unloaded, and reap it."""
        self.kill(stub, signal.SIGUSR1)
        until(lambda: self.reap(stub))

    def outer(self, stub: ImpostorStub) -> int:
        """The stub's pid as seen from here."""
        found = self.pod.outer_pid(stub.pid)
        if found is None:
            raise ProcessLookupError(f"the stub {stub.pid} is gone")
        return found

    def reap(self, stub: ImpostorStub) -> bool:
        """Look after a stub as ``waitpid`` does: whether it had exited (and is gone now)."""
        return self._ask(f"reap {stub.pid}") != 0

    def close(self) -> None:
        """End it, and its stubs with it."""
        self.program.stop(1.0)
        self.program.close()

    def _ask(self, *lines: str) -> int:
        process = self.program.process
        if process.stdin is None or process.stdout is None:
            raise OSError("the impostor's input is closed")
        process.stdin.write("".join(f"{each}\n" for each in lines).encode())
        process.stdin.flush()
        return int(process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
