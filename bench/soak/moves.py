"""Which moves of the gates are to be expected, and which are wrong.  Pure.

Within an epoch whose startup gate has opened, no gate moves.  A restart of Triton fails ready, closes
startup, and opens both again, each once; live never fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from probe.facts.gates import Gate

FAILED, OPENED = "gate_failed", "gate_opened"

Kinds = Counter[tuple[Gate, str]]

START: Kinds = Counter({(Gate.STARTUP, OPENED): 1, (Gate.READY, OPENED): 1})
"""What belongs to a daemon that begins beside a Triton."""
RESTART: Kinds = START + Counter({(Gate.STARTUP, FAILED): 1, (Gate.READY, FAILED): 1})
"""What belongs to a restart of Triton."""

MOST = 1000
"""Wrong moves that are kept; those beyond are only counted."""


class Move(msgspec.Struct, frozen=True):
    """One move of a gate, at this time (seconds since the Unix epoch), for this reason."""

    at: float
    gate: Gate
    kind: str
    reason: str = ""
    subject: str = ""
    message: str = ""


class Wrong(msgspec.Struct):
    """One wrong move; ``lasted`` in seconds until the gate moved back, None where it did not (yet).

    ``doing`` is what was going on then.
    """

    move: Move
    lasted: float | None = None
    doing: tuple[str, ...] = ()


class _Span:
    """A time in which some moves are to be expected; ``ended`` None while it goes on."""

    def __init__(self, began: float, left: Kinds) -> None:
        self.began = began
        self.ended: float | None = None
        self.left = Counter(left)

    def holds(self, at: float) -> bool:
        return self.began <= at and (self.ended is None or at <= self.ended)


class Moves:
    """Judges moves in the order in which they are told, which is that of their times."""

    def __init__(self, began: float) -> None:
        """At the daemon's own start."""
        self.expected = 0
        self.wrongs = 0
        self.wrong: list[Wrong] = []
        self.missing: list[str] = []
        self._spans = [_Span(began, START)]
        self._failing: dict[Gate, Wrong] = {}

    def restarting(self, at: float) -> None:
        """Triton is about to be stopped."""
        expected = Counter(RESTART)
        for gate in self._failing:
            expected[gate, FAILED] = 0  # it fails already, for a wrong reason
        self._failing.clear()
        self._spans.append(_Span(at, expected))

    def settled(self, at: float) -> None:
        """End the present span: Triton is up, and all is known; what did not happen is missing."""
        span = self._spans[-1]
        span.ended = at
        self.missing += [
            f"{gate} {'never failed' if kind == FAILED else 'never opened'} from {span.began:.3f} to {at:.3f}"
            for (gate, kind), left in span.left.items()
            for _ in range(left)
        ]

    def judge(self, moves: Iterable[Move]) -> list[Wrong]:
        """Return those of them that are wrong."""
        found = []
        for move in moves:
            if self._belongs(move):
                self.expected += 1
            elif move.kind == OPENED and move.gate in self._failing:
                # The end of a wrong move is not another.
                wrong = self._failing.pop(move.gate)
                wrong.lasted = move.at - wrong.move.at
            else:
                wrong = Wrong(move)
                found.append(wrong)
                self.wrongs += 1
                if self.wrongs <= MOST:
                    self.wrong.append(wrong)
                if move.kind == FAILED:
                    self._failing[move.gate] = wrong
        return found

    def _belongs(self, move: Move) -> bool:
        span = next((each for each in self._spans if each.holds(move.at)), None)
        if span is None or span.left[move.gate, move.kind] <= 0:
            return False
        span.left[move.gate, move.kind] -= 1
        return True
