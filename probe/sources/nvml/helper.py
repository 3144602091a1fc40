"""The process that talks to NVML: a request a line on stdin, an answer a line on stdout, both JSON.

A request is ``{"id": N}``.  The answer repeats the id and adds what :meth:`Session.look` says.  Between
answers, and while one is not found, each Xid comes at once in a line of its own, ``{"xid": {…}}``, with the
fields of ``probe.facts.nvml.Xid`` but its moment.

The end of stdin or of the parent ends this process; nothing that NVML says does, but a session that broke
and can not be left, because the thread that waits for Xids hangs in it.  It imports only pynvml and the
lightest of the standard library, so that it stays small.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

from probe.sources.nvml.session import Session

_PR_SET_PDEATHSIG = 1
HELD = 3
"""The exit status where a session could not be left."""

_BAD_REQUEST = {"id": 0, "detail": 'the request is not {"id": NUMBER}'}


class Lines:
    """The way to the daemon.  A line goes out whole, from whichever thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def write(self, message: dict[str, Any]) -> None:
        """Write one; raises OSError where nobody reads any more."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()


def main(parent: int | None = None) -> None:
    """Answer until stdin ends.  ``parent`` is the process without which this one must not live on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's business
    _die_with_parent(parent)
    lines = Lines(_reserved_stdout())
    session = Session(lambda xid: lines.write({"xid": xid}))
    for line in sys.stdin.buffer:
        lines.write(answer(session, line))
        if not session.settle():
            os._exit(HELD)
    os._exit(0)  # without tidying up: a thread may be inside the library that would be torn down


def answer(session: Session, line: bytes) -> dict[str, Any]:
    """Do what one request line asks; an unreadable one is answered too."""
    try:
        number = int(json.loads(line)["id"])
    except (ValueError, TypeError, KeyError):
        return dict(_BAD_REQUEST)
    return {"id": number, **session.look()}


def _reserved_stdout() -> int:
    """Move stdout to a number of its own, so that a library that prints can not disturb an answer."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _die_with_parent(parent: int | None) -> None:
    """Have the kernel end this process with its parent: a call that hangs does not see stdin end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        sys.exit(0)  # it died before the line above


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
