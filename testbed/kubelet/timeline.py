"""What a kubelet did, moment by moment."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator

import msgspec

POD = ""
"""In the place of a container's name: the whole pod."""


class What(enum.Enum):
    """A kind of moment."""

    STARTED = "started"
    ENDED = "ended"
    ENDING = "ending"
    BACK_OFF = "back-off"
    PASSED = "passed"
    FAILED = "failed"
    ERRED = "erred"
    IN_SERVICE = "in service"
    OUT_OF_SERVICE = "out of service"


class Moment(msgspec.Struct, frozen=True):
    """``at`` in seconds of the clock that was handed in; ``subject`` is a probe's kind, where it is about one."""

    at: float
    what: What
    container: str = POD
    subject: str = ""
    words: str = ""

    def __str__(self) -> str:
        return (
            f"{self.at:9.3f} {self.container or 'pod'} {self.subject} {self.what.value} {self.words}".rstrip()
        )


class TimeLine:
    """Every moment so far, oldest first."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Write one down."""
        self._moments.append(moment)

    def find(
        self, what: What, container: str = POD, *, subject: str = "", since: float = -math.inf
    ) -> list[Moment]:
        """Those of this kind about this container (the pod itself where none is given), since then, oldest first."""
        wanted = (what, container, subject)
        told = (each for each in tuple(self._moments) if each.at >= since)
        return [each for each in told if (each.what, each.container, each.subject) == wanted]

    def first(
        self, what: What, container: str = POD, *, subject: str = "", since: float = -math.inf
    ) -> Moment | None:
        """The first such moment since then, if there is one."""
        return next(iter(self.find(what, container, subject=subject, since=since)), None)

    def __iter__(self) -> Iterator[Moment]:
        return iter(tuple(self._moments))

    def __str__(self) -> str:
        return "\n".join(map(str, self))
