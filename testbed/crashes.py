"""A crash of Triton's own, which no test is about: what it does about once in a hundred times.

Where an instance can not be created, 2.51 takes the failed model apart and may end by a SIGSEGV in doing so,
after it has written the reason; so it may where a model is unloaded under traffic.  A container would be
started again, and so is what a test does with it::

    for life in lives(servers):
        with life:
            server = triton()
            ...
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from types import TracebackType

from probe.sandbox.tritonserver import TritonServer

_LIVES = 3  # three crashes in a row are no chance


def lives(servers: Sequence[TritonServer]) -> Iterator[Life]:
    """One life, and another where Triton crashed in it, three in all.

    ``servers`` are those that were started so far, to which each life adds its own.  A failure without a
    crash is raised as it is.
    """
    for number in range(1, _LIVES + 1):
        life = Life(servers, last=number == _LIVES)
        yield life
        if life.lived:
            return


class Life:
    """From the start of a server on; a failure in it is nothing where the server ended by a SIGSEGV."""

    def __init__(self, servers: Sequence[TritonServer], *, last: bool) -> None:
        self.lived = False
        self._servers, self._before, self._last = servers, len(servers), last

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.lived = error is None
        if self._last or not isinstance(error, Exception):
            return False
        return any(each.program.poll() == -signal.SIGSEGV for each in self._servers[self._before :])
