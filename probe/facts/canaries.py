"""A canary: a small inference that the probe sends to a model that nobody else has asked for a while."""

from __future__ import annotations

import enum

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion


class CanaryOutcome(enum.StrEnum):
    """What became of one canary."""

    PASSED = "passed"
    """A full and valid answer, the expected one where one is expected."""
    ERROR = "error"
    """Triton answered with an error."""
    TIMEOUT = "timeout"
    """No full answer within the canary's own deadline."""
    WRONG = "wrong"
    """An answer that is not what the model declares, or not what is expected."""
    UNSENDABLE = "unsendable"
    """It could not be made: nothing says with which inputs, or they do not fit the model."""


class CanaryResult(msgspec.Struct, frozen=True):
    """One canary that came to its end; ``detail`` says what was wrong, in words."""

    key: ModelVersion
    sent: Instant
    ended: Instant
    outcome: CanaryOutcome
    detail: str = ""

    @property
    def seconds(self) -> float:
        """How long it was out."""
        return max(0.0, self.ended.mono - self.sent.mono)
