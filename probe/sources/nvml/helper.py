"""The process that talks to NVML: a request a line on stdin, an answer a line on stdout, both JSON.

A request is ``{"id": N}``.  The answer repeats the id and adds what :meth:`Session.look` says.  Nothing
that NVML does ends this process; the end of stdin or of the parent does.  It imports only pynvml and the
lightest of the standard library, so that it stays small.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

from probe.sources.nvml.session import Session

_PR_SET_PDEATHSIG = 1
_BAD_REQUEST = {"id": 0, "detail": 'the request is not {"id": NUMBER}'}


def main(parent: int | None = None) -> None:
    """Answer until stdin ends.  ``parent`` is the process without which this one must not live on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's business
    _die_with_parent(parent)
    session = Session()
    with os.fdopen(_reserved_stdout(), "wb") as answers:
        for line in sys.stdin.buffer:
            answers.write(json.dumps(answer(session, line)).encode() + b"\n")
            answers.flush()


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
