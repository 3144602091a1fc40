"""A canary: a small inference that the probe sends to a model that nobody else has asked for a while."""

from __future__ import annotations

import enum
from typing import Any

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


class CanaryOrigin(enum.StrEnum):
    """Where a canary's inputs can come from."""

    INPUTS = "inputs"
    """The configuration file says them."""
    WARMUP = "warmup"
    """The model's own ``model_warmup``, as Triton sends it before the model is ready."""
    GENERATED = "generated"
    """Made from the shapes that the model declares: zeros, and empty texts."""


class CanaryOrder(msgspec.Struct, frozen=True):
    """What to send to one model version, and what is expected back.

    ``origins`` are tried in their order.  ``inputs`` and ``expected`` are nested lists by tensor, as YAML
    says them; ``tolerance`` is for floats; ``deadline`` in seconds.  ``folders`` are where the files of the
    model's warmup may be read.  ``touches``: how many requests Triton will count for it, by model: one of
    the model itself, and of an ensemble one for each step.  ``misspelt`` is what the model's own parameter
    says where that means nothing.
    """

    key: ModelVersion
    origins: tuple[CanaryOrigin, ...]
    inputs: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    tolerance: float = 1e-3
    deadline: float = 10.0
    folders: tuple[str, ...] = ()
    touches: tuple[tuple[ModelVersion, int], ...] = ()
    misspelt: str = ""


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
