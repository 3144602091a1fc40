"""Which model to reload next, if any: pure, and rather none than one too many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from probe.checks.observation import Observation
from probe.engine.standing import Held, Rules, Standing
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Action, Key
from probe.facts.instants import Instant
from probe.facts.models import ModelState
from probe.ledgers.models import ModelRecord

CURABLE = frozenset(("StubDead", "WorkerDead", "InstancesMissing"))
"""Processes of a model that are gone, which a load starts anew.  What errs or answers slowly may be its own fault,
and a reload would only begin it again."""
_HUNG = frozenset(("ModelStalled", "StubFrozen", "ModelStuckLoading", "ModelStuckUnloading"))
"""Of such a model an unload never ends, and Triton keeps its processes and their memory (release 24.10)."""
_NO_MOMENT = frozenset(
    (
        "Initializing",
        "TritonStarting",
        "TritonDown",
        "TritonHung",
        "ControlPlaneBlocked",
        "ProtocolRestricted",
        "TlsMismatch",
    )
)
"""While one of these stands Triton is asked for nothing that it would have to work on."""
_RESTS_ON = frozenset(("triton", "processes"))
"""Sources without whose present word no model is touched."""

BACK_OFF = 10.0
"""Seconds after a reload before the same model is reloaded again: longer than a look takes to tell its result."""
BACK_OFF_AT_MOST = 300.0
"""The kubelet's own largest pause between restarts."""
ATTEMPTS = 3
"""Reloads of one model within ``WITHIN``: what three did not cure is in the model, or in its machine.  Each may
also leave processes of the old load behind, when the dead stub had failed a request (release 24.10)."""
WITHIN = 3600.0
"""Seconds."""
_MOVING = (ModelState.LOADING, ModelState.UNLOADING)


class Treatment(msgspec.Struct, frozen=True):
    """What was done for one model.

    ``owed``: it was unloaded to be loaded again and was not seen ready since, so it is to be loaded whatever
    is said of it.
    """

    began: tuple[Instant, ...] = ()
    ended: Instant | None = None
    owed: bool = False
    given_up: bool = False
    cured: int = 0
    """How many reloads worked."""


class Healing(msgspec.Struct, frozen=True):
    """Everything that was done, and the model that is being reloaded now."""

    treatments: dict[str, Treatment] = {}
    under_way: str | None = None
    counts: dict[tuple[str, str], int] = {}
    """By model and outcome, ``ok`` or ``failed``, over epochs."""

    @property
    def treated(self) -> frozenset[str]:
        """The models that are being reloaded now."""
        return frozenset() if self.under_way is None else frozenset((self.under_way,))

    def of(self, name: str) -> Treatment:
        """What was done for this model."""
        return self.treatments.get(name, Treatment())

    def attempts(self, name: str, now: Instant) -> int:
        """How many reloads of this model began within the time that counts."""
        return sum(now.mono - each.mono < WITHIN for each in self.of(name).began)

    def next(self, standing: Standing, rules: Rules, seen: Observation) -> str | None:
        """The model to reload now, or None; the one whose finding is the oldest first."""
        if self.under_way is not None or not _is_a_moment(standing, seen):
            return None
        ready = (name for name in self.patients(standing, rules, seen) if not self._must_wait(name, seen.now))
        return next(ready, None)

    def exhausted(self, standing: Standing, rules: Rules, seen: Observation) -> str | None:
        """A model that needs a reload, had all that it may have, and of which this was not said yet."""
        return next(
            (
                name
                for name in self.patients(standing, rules, seen)
                if self.attempts(name, seen.now) >= ATTEMPTS and not self.of(name).given_up
            ),
            None,
        )

    def patients(self, standing: Standing, rules: Rules, seen: Observation) -> Iterator[str]:
        """The models that a reload may cure, those whose findings are oldest first."""
        if not seen.explicit_control:
            return
        since: dict[str, float] = {
            name: each.ended.mono if each.ended is not None else -math.inf
            for name, each in self.treatments.items()
            if each.owed and _is_away(name, seen)
        }
        hung = {subject.model for reason, subject in standing.held if reason in _HUNG}
        for key, held in standing.held.items():
            if _curable(key, held, rules, seen) and key[1].model not in hung:
                since[key[1].model] = min(held.since.mono, since.get(key[1].model, math.inf))
        yield from sorted(since, key=lambda name: (since[name], name))

    def _must_wait(self, name: str, now: Instant) -> bool:
        made = self.attempts(name, now)
        if made >= ATTEMPTS:
            return True
        ended = self.of(name).ended
        return ended is not None and now.mono - ended.mono < back_off(made)

    # What became of it.

    def after(self, seen: Observation) -> Healing:
        """After what was seen: a model that is ready is owed nothing any more."""
        paid = [name for name, each in self.treatments.items() if each.owed and _is_back(name, each, seen)]
        return self._without_debts(paid) if paid else self

    def in_new_epoch(self) -> Healing:
        """A new tritonserver loads its models itself."""
        return self._without_debts(self.treatments)

    def _without_debts(self, names: Iterable[str]) -> Healing:
        paid = {name: msgspec.structs.replace(self.treatments[name], owed=False) for name in names}
        return msgspec.structs.replace(self, treatments={**self.treatments, **paid})

    def started(self, name: str, now: Instant) -> Healing:
        """A reload began."""
        before = self.of(name)
        recent = tuple(each for each in before.began if now.mono - each.mono < WITHIN)
        # Names of models may come and go for ever.
        kept = {
            other: each
            for other, each in self.treatments.items()
            if each.owed or any(now.mono - one.mono < WITHIN for one in each.began)
        }
        after = msgspec.structs.replace(before, began=(*recent, now), given_up=False)
        counts = {**dict.fromkeys(((name, "ok"), (name, "failed")), 0), **self.counts}
        return Healing({**kept, name: after}, name, counts)

    def unloading(self, name: str) -> Healing:
        """Triton is asked to unload it: from now on it is owed a load."""
        return self._with(name, self.of(name), under_way=self.under_way, owed=True)

    def ended(self, name: str, now: Instant, *, ok: bool) -> Healing:
        """The reload came to its end."""
        before, named = self.of(name), (name, "ok" if ok else "failed")
        after = self._with(
            name, before, under_way=None, ended=now, owed=before.owed and not ok, cured=before.cured + ok
        )
        return msgspec.structs.replace(after, counts={**self.counts, named: self.counts.get(named, 0) + 1})

    def gave_up(self, name: str) -> Healing:
        """It was said that the limit is reached."""
        return self._with(name, self.of(name), under_way=self.under_way, given_up=True)

    def _with(self, name: str, before: Treatment, *, under_way: str | None, **changes: object) -> Healing:
        after = msgspec.structs.replace(before, **changes)
        return msgspec.structs.replace(self, treatments={**self.treatments, name: after}, under_way=under_way)


def back_off(attempts: int) -> float:
    """Seconds between the end of the latest of so many reloads and the next."""
    return min(BACK_OFF_AT_MOST, BACK_OFF * 2.0 ** min(max(0, attempts - 1), 10))


def still_wanted(name: str, standing: Standing, seen: Observation) -> bool:
    """Whether a finding that a reload was to cure is still made of this model, or it is not ready."""
    if any(
        reason in CURABLE and subject.model == name and held.gone is None
        for (reason, subject), held in standing.held.items()
    ):
        return True
    return not any(each.ready for each in seen.book.models.named(name))


def _is_a_moment(standing: Standing, seen: Observation) -> bool:
    server = seen.book.server
    return (
        seen.watching
        and server.reachable is True
        and not any(reason in _NO_MOMENT for reason, _ in standing.held)
        and not any(each.source in _RESTS_ON for each in seen.stale)
        and not any(_moves(each, seen) for each in seen.book.models.records.values())
    )


def _moves(record: ModelRecord, seen: Observation) -> bool:
    # What is stuck may be so for ever, as an unload is after a death, and must not keep others from their cure.
    doubtful = record.since is None or seen.now.mono - record.since.mono < seen.settings.models.stuck_after
    return record.state in _MOVING and doubtful


def _curable(key: Key, held: Held, rules: Rules, seen: Observation) -> bool:
    reason, subject = key
    if reason not in CURABLE or not subject.model:
        return False
    settings = seen.settings
    if reason in settings.shadow or subject.model in settings.models.ignore:
        return False
    if (held.claim.action or CATALOGUE[reason].action) is not Action.RELOAD_MODEL:
        return False
    # What must last to fail a gate must last to be acted on, and what is only kept meets no hold; what fails no
    # gate by configuration is acted on at once.
    holds, now = rules.holds(held), seen.now
    if holds and not rules.met(held, now):
        return False
    return any(
        each.ready
        for each in seen.book.models.named(subject.model)
        if subject.version in ("", each.key.version)
    )


def _is_back(name: str, treatment: Treatment, seen: Observation) -> bool:
    # Told by a poll that began after the reload: an older one knows the model as it was before.
    ended = treatment.ended
    return ended is not None and any(
        each.ready and each.statistics_at is not None and each.statistics_at.mono > ended.mono
        for each in seen.book.models.named(name)
    )


def _is_away(name: str, seen: Observation) -> bool:
    return not any(each.ready for each in seen.book.models.named(name))
