"""Reloads the models that the planner names, one at a time, and tells what became of it."""

from __future__ import annotations

from collections.abc import Callable

from probe.checks.observation import Observation
from probe.engine import healing
from probe.engine.eyes import TritonEye
from probe.engine.healing import ATTEMPTS, CURABLE, WITHIN
from probe.engine.publishing import Publisher
from probe.facts.findings import Severity
from probe.facts.instants import Instant
from probe.facts.processes import ProcessId
from probe.facts.status import Transition
from probe.facts.triton import CallFailure
from probe.kits.tasks import Bell
from probe.settings import Settings

SETTLED_WITHIN = 10.0
"""Seconds from Triton's word that the model is loaded to the end of what was found of it: a few looks."""
LOOKED_WITHIN = 6.0
"""Seconds for a scan and a poll, with the deadlines that each has; without them nothing more is done."""
_HOUR = 3600.0


class Healer:
    """Acts on what the publisher's planner says.

    Triton loads a model whose files did not change since its last load by doing nothing, and answers at once
    (release 24.10).  Yet a load comes first: it proves that Triton lets the probe load and still finds the model
    in its repository, without which an unload could not be made good; and where files did change (the first
    load may have written ``__pycache__``) it replaces the model without a moment in which nothing serves.
    Only where it replaced no process follow unload and load.
    """

    def __init__(
        self,
        settings: Settings,
        triton: TritonEye,
        publisher: Publisher,
        *,
        observe: Callable[[], Observation],
        judge: Callable[[], object],
        look: Callable[[], None],
        loaded: Callable[[str, Instant], None],
        news: Bell,
    ) -> None:
        """``observe`` tells all that is known now, ``judge`` judges it, ``look`` asks for looks.

        ``loaded`` is told of a model whose processes were replaced by a load that began then.  ``news`` is rung
        after each look and each judgement.
        """
        self._settings = settings
        self._triton = triton
        self._publisher = publisher
        self._observe = observe
        self._judge = judge
        self._look = look
        self._loaded = loaded
        self._news = news

    async def run(self) -> None:
        """Wait for something to do, for ever."""
        while True:
            await self._news.wait(_HOUR)
            await self.consider()

    async def consider(self) -> None:
        """Reload one model, if one is to be reloaded now."""
        publisher, seen = self._publisher, self._observe()
        publisher.healing = publisher.healing.after(seen)
        name = publisher.healing.next(publisher.standing, publisher.rules, seen)
        if name is not None:
            await self._treat(name)
            return
        name = publisher.healing.exhausted(publisher.standing, publisher.rules, seen)
        if name is not None:
            publisher.healing = publisher.healing.gave_up(name)
            self._tell(
                name,
                f"Reloaded {ATTEMPTS} times within {WITHIN / _HOUR:.0f} h, and no cure: it is not reloaded again "
                "before one of these is that long ago.",
                Severity.WARNING,
            )

    async def _treat(self, name: str) -> None:
        publisher, began = self._publisher, self._observe().now
        attempt = publisher.healing.attempts(name, began) + 1
        reason = next(
            (
                reason
                for reason, subject in publisher.standing.held
                if subject.model == name and reason in CURABLE
            ),
            None,
        )
        publisher.healing = publisher.healing.started(name, began)
        self._tell(
            name,
            f"Reloading it for {reason or 'an earlier reload that did not end well'} (reload {attempt} of at most "
            f"{ATTEMPTS} within {WITHIN / _HOUR:.0f} h).",
            reason=reason,
        )
        trouble: str | None = "the probe itself failed"
        try:
            trouble = await self._reload(name)
        finally:
            ended = self._observe().now
            seconds = ended.mono - began.mono
            publisher.healing = publisher.healing.ended(name, ended, ok=trouble is None)
            if trouble is None:
                self._tell(name, f"Reloaded in {seconds:.1f} s; {self._instances(name)}.")
            else:
                again = healing.back_off(attempt)
                self._tell(
                    name,
                    f"The reload failed after {seconds:.1f} s: {trouble}."
                    + (f" Next one in {again:.0f} s at the earliest." if attempt < ATTEMPTS else ""),
                    Severity.WARNING,
                )

    async def _reload(self, name: str) -> str | None:
        # None where the model is well again, else what went wrong.
        patience = self._settings.models.stuck_after
        before, began = self._stubs(name), self._observe().now
        failed = await self._triton.load_model(name, patience)
        if failed is not None:
            return _text(failed)
        if not await self._looked():
            return "Triton took the load, and what it did can not be seen"
        if self._stubs(name) - before:
            self._loaded(name, began)
        elif self._wanted(name):
            began = self._observe().now
            self._publisher.healing = self._publisher.healing.unloading(name)
            failed = await self._triton.reload_model(name, patience)
            if failed is not None:
                return _text(failed)
            await self._looked()
            self._loaded(name, began)
        if await self._until(lambda: not self._wanted(name), SETTLED_WITHIN):
            return None
        return f"Triton says that it is loaded, and {self._left(name)} after {SETTLED_WITHIN:.0f} s"

    async def _looked(self) -> bool:
        # A scan and a poll that began from now on, and a judgement of both.
        since = self._observe().now
        self._look()

        def done() -> bool:
            book = self._observe().book
            looks = (book.stubs.scanned, book.models.statistics_at)
            return all(each is not None and since.mono <= each.mono for each in looks)

        seen = await self._until(done, LOOKED_WITHIN)
        self._judge()
        return seen

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self._observe().now.mono + seconds
        while not condition():
            left = end - self._observe().now.mono
            if left <= 0:
                return False
            await self._news.wait(left)
        return True

    def _wanted(self, name: str) -> bool:
        return healing.still_wanted(name, self._publisher.standing, self._observe())

    def _stubs(self, name: str) -> frozenset[ProcessId]:
        live = self._observe().book.stubs.live
        return frozenset(
            process for process, each in live.items() if each.model is not None and each.model.name == name
        )

    def _left(self, name: str) -> str:
        reasons = sorted(
            {
                reason
                for (reason, subject), held in self._publisher.standing.held.items()
                if reason in CURABLE and subject.model == name and held.gone is None
            }
        )
        return f"{' and '.join(reasons)} still stands" if reasons else "its statistics do not have it ready"

    def _instances(self, name: str) -> str:
        book = self._observe().book
        ready = [each for each in book.models.named(name) if each.ready]
        alive = sum(len(book.stubs.of(each.key)) for each in ready)
        expected = [book.stubs.expected(each.key, each.config) for each in ready]
        whole = sum(each for each in expected if each is not None) if None not in expected else None
        left = sum(
            each.retired and each.model is not None and each.model.name == name
            for each in book.stubs.live.values()
        )
        # They may never end, and keep their memory: an unload waits for ever for a stub that died and then
        # failed a request (release 24.10).
        beside = f" (and {left} of an earlier load that did not end yet)" if left else ""
        return (
            f"{alive} of {whole} instances are alive{beside}" if whole is not None else f"{alive} are alive"
        )

    def _tell(
        self, name: str, message: str, severity: Severity = Severity.INFO, *, reason: str | None = None
    ) -> None:
        seen = self._observe()
        self._publisher.note(
            Transition(
                seen.now.as_datetime(),
                "heal",
                name,
                message,
                reason=reason,
                severity=severity.value,
                epoch=seen.book.server.epoch,
            )
        )
        self._look()


def _text(failed: CallFailure) -> str:
    return f"{failed.call}: {failed.detail or failed.failure.value}"
