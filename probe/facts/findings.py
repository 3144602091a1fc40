"""What is wrong (or worth knowing) now, with its reason, its evidence and its cure."""

from __future__ import annotations

import datetime
import enum

import msgspec

from probe.facts.gates import Gate
from probe.facts.instants import Instant

Scalar = str | int | float | bool | None


class Severity(enum.StrEnum):
    """``critical`` wakes somebody, ``warning`` files a ticket, ``info`` explains."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Action(enum.StrEnum):
    """What a machine, or a person, should do about it."""

    NONE = "NONE"
    WAIT = "WAIT"
    CHECK_CONFIG = "CHECK_CONFIG"
    RELOAD_MODEL = "RELOAD_MODEL"
    RESTART_CONTAINER = "RESTART_CONTAINER"
    RESCHEDULE_POD = "RESCHEDULE_POD"
    CHECK_NODE = "CHECK_NODE"


class SubjectKind(enum.StrEnum):
    """What kind of thing a finding is about."""

    SERVER = "server"
    MODEL = "model"
    INSTANCE = "instance"
    GPU = "gpu"
    CONTAINER = "container"
    PROBE = "probe"


class Subject(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom a finding is about; empty names are left out of the JSON."""

    kind: SubjectKind
    model: str = ""
    version: str = ""
    instance: str = ""
    gpu_uuid: str = ""
    source: str = ""

    def __str__(self) -> str:
        """How the subject is named in one line: ``model/version instance``, a UUID, or its kind."""
        if self.kind is SubjectKind.GPU:
            return self.gpu_uuid
        if self.kind is SubjectKind.PROBE:
            return self.source or "probe"
        if self.model:
            name = f"{self.model}/{self.version}" if self.version else self.model
            return f"{name} {self.instance}" if self.instance else name
        return self.kind.value


SERVER = Subject(SubjectKind.SERVER)
CONTAINER = Subject(SubjectKind.CONTAINER)

Key = tuple[str, Subject]
"""Reason and subject: what makes two claims the same finding."""


class Claim(msgspec.Struct, frozen=True):
    """What a check says it sees in one look: a finding before the engine gave it a history.

    ``observed`` is the moment of the reading it rests on, not of the judgement: two judgements of one
    reading are one look.  ``event_at`` is the moment of the event itself where it has one (an exit), for
    the delay of detection.  ``spares`` names gates that this reason fails in general but not here.
    ``severity`` overrides the catalogue's where the reason's severity depends on the case.
    """

    reason: str
    subject: Subject
    message: str
    remedy: str
    observed: Instant
    evidence: dict[str, Scalar] = {}
    action: Action | None = None
    severity: Severity | None = None
    spares: frozenset[Gate] = frozenset()
    event_at: Instant | None = None


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong now, as ``/status`` shows it.

    ``gates`` are those it fails at this moment; ``pending`` those it will fail if it goes on;
    ``shadow`` says that configuration keeps it from moving any gate.
    """

    reason: str
    severity: Severity
    subject: Subject
    gates: tuple[Gate, ...]
    message: str
    remedy: str
    action: Action
    evidence: dict[str, Scalar]
    since: datetime.datetime
    observed_at: datetime.datetime
    pending: tuple[Gate, ...] = ()
    shadow: bool = False

    def line(self) -> str:
        """The finding in one line, as gate bodies print it (without the mark)."""
        return f"{self.reason} {self.subject}: {self.message}"
