"""One run of a line-speaking child process on the event loop: lines in, lines out, and its end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence

LONGEST_LINE = 4 << 20
"""Bytes.  Sixteen GPUs with the driver's limit of 950 processes each, all busy, come to a third of it."""

ENDED = "ended"
"""Why there are no more lines when it was the child itself that ended."""

_POLL_SECONDS = 0.005
_READ_BYTES = 1 << 16


class LineProcess:
    """A started child.  ``on_line`` gets each of its lines, ``on_end`` once why there will be no more.

    The child must be started from a thread that lives as long as the daemon: the kernel takes the end of
    that thread for the end of the parent (PR_SET_PDEATHSIG).  Raises OSError where it can not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._buffer = bytearray()
        self._killed = False
        self.ended = False
        """Whether it will answer no more; it may still exist (see :meth:`gone`)."""
        self._popen = subprocess.Popen(  # noqa: S603 - the command is this package's own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )
        assert self._popen.stdin is not None  # noqa: S101 - for the type checker
        assert self._popen.stdout is not None  # noqa: S101 - likewise
        self._stdin, self._stdout = self._popen.stdin, self._popen.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._stdout.fileno(), self._read)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def send(self, line: bytes) -> None:
        """Write one line; where it does not take it whole, that is its end."""
        try:
            taken = os.write(self._stdin.fileno(), line + b"\n")
        except BrokenPipeError:
            # It has ended, and the loop has not read that yet.
            self.end(ENDED)
        except OSError as error:
            self.end(f"took no request: {error.strerror}")
        else:
            if taken <= len(line):
                self.end("took half a request")

    def kill(self) -> None:
        """Send SIGKILL, once; in uninterruptible sleep it takes effect only when the driver lets go."""
        if not self._killed:
            self._killed = True
            self._popen.kill()

    def end(self, why: str) -> None:
        """Have nothing more to do with it: it is killed, its pipes are closed, ``on_end`` learns why."""
        if self.ended:
            return
        self.ended = True
        self._loop.remove_reader(self._stdout.fileno())
        self._stdin.close()
        self._stdout.close()
        self.kill()
        self._on_end(why)

    def gone(self) -> bool:
        """Whether the kernel has let go of it."""
        return self._popen.poll() is not None

    @property
    def exit_words(self) -> str:
        """How it ended: ``exit status 1``, ``signal 9``; empty while it exists."""
        status = self._popen.returncode
        if status is None:
            return ""
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    async def wait_gone(self, seconds: float) -> bool:
        """Wait at most so long until it is gone; says whether it is."""
        for _ in range(int(seconds / _POLL_SECONDS)):
            if self.gone():
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return self.gone()

    def close_stdin(self) -> None:
        """Ask it to end by itself."""
        if not self.ended:
            self._stdin.close()

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.end(f"can not be read: {error.strerror}")
            return
        if not data:
            self.end(ENDED)
            return
        self._buffer += data
        while b"\n" in data and not self.ended:
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer = bytearray(rest)
            data = rest
            self._on_line(line)
        if len(self._buffer) > LONGEST_LINE:
            self.end(f"answered a line longer than {LONGEST_LINE} bytes")
