"""What an exit was: a death, or a process that an unload or a reload ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from probe.engine.desk import Desk
from probe.engine.looks import Looks
from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.facts.processes import Exit
from probe.facts.triton import CallFailure, Failure, Inquiry
from probe.ledgers.kills import suspicious

VIOLENT_PATIENCE = 0.03
"""Seconds that Triton has to say that a stub killed by a signal was being unloaded."""


class Explainer:
    """Asks, at each exit, those who can tell what it was."""

    def __init__(self, desk: Desk, looks: Looks) -> None:
        """``looks`` are rung for, and taken at once where an exit can not wait for them."""
        self._desk = desk
        self._looks = looks
        self._asking = asyncio.Lock()
        self._explaining: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Leave what is not explained yet."""
        for task in self._explaining:
            task.cancel()

    def told(self, event: Exit) -> None:
        """After the kernel told of an exit: what is known at once, and a task that asks for the rest."""
        before = self._desk.book
        self._desk.book = before.with_exit(event)
        if suspicious(event):
            # At this moment the counts can be read, in whatever order the kernel tells of kill and exit; the
            # next, a runtime may have removed the cgroup with the container.
            self._looks.container.tell_kills()
        if self._desk.book.server.gone != before.server.gone:
            self._desk.stirred.ring()
            self._desk.wake["triton"].ring()
            return
        model = self._desk.book.workers.model_of(event.id)
        work = self._explain(event) if model is None else self._explain_worker(event, model)
        task = asyncio.get_running_loop().create_task(work, name=f"explain-{event.id.pid}")
        self._explaining.add(task)
        task.add_done_callback(self._explaining.discard)

    async def _explain(self, event: Exit) -> None:
        # Was it a death, or is Triton unloading the model?  Its statistics know only loaded versions.
        death = next((each for each in self._desk.book.stubs.dead if each.id == event.id), None)
        if death is None:
            # Its end is no death of a model's, but whom the kernel kills is told of the container.
            if event.signal == signal.SIGKILL:
                await self._count_kills(event)
                self._desk.stirred.ring()
            return
        if death.model is None:
            # It ended while its model was loading, for want of memory more often than not.
            await self._count_kills(event)
            self._desk.stirred.ring()
            self._desk.wake["triton"].ring()
            return
        violent = event.violent
        # Beyond its time Triton's word comes with the next poll.
        patience = VIOLENT_PATIENCE if violent else self._desk.settings.triton.timeout
        answer, _ = await asyncio.gather(
            self._still_ready(death.model.name, patience), self._count_kills(event)
        )
        if isinstance(answer, tuple):
            observed, versions = answer
            if death.model not in versions:
                self._desk.book = self._desk.book.with_models(
                    self._desk.book.models.without(death.model, observed)
                )
            elif violent:
                if not self._desk.ready(death.model):
                    # It became ready after the last poll, of which its death must first be told.
                    await self._looks.look_at_triton()
                self._desk.book = self._desk.book.believing(event.id)
            else:
                # It may be the old stub of a reload, during which Triton never says "not ready": the scan and
                # the poll that are rung for below tell whether a new one has taken its place.  Or its group
                # was made smaller in place, which the configuration tells.
                await self._ask_configuration(death.model)
        elif violent and not _going(answer):
            self._desk.book = self._desk.book.believing(event.id)
        self._desk.stirred.ring()
        self._desk.wake["processes"].ring()
        self._desk.wake["triton"].ring()

    async def _still_ready(
        self, name: str, patience: float
    ) -> tuple[Instant, tuple[ModelVersion, ...]] | CallFailure | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                return await self._desk.eyes.triton.still_ready(name)
        return None

    async def _explain_worker(self, event: Exit, model: ModelVersion) -> None:
        # Was it a death, or does its model end it while it is unloaded or reloaded?  A scan tells whether its
        # stub lives and serves, and Triton whether it still has the model.
        await asyncio.gather(
            self._looks.scan_after(event.observed),
            self._ask_for_worker(event, model),
            self._count_kills(event),
        )
        if self._desk.book.workers.model_of(event.id) is not None and not self._desk.ready(model):
            await self._looks.look_at_triton()
        self._desk.stirred.ring()
        self._desk.wake["triton"].ring()

    async def _ask_for_worker(self, event: Exit, model: ModelVersion) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._desk.settings.triton.timeout), self._asking:
                # Of many workers that end together, one asks for all.
                if self._desk.book.workers.unexplained(event.id):
                    answer = await self._desk.eyes.triton.still_ready(model.name)
                    if isinstance(answer, tuple):
                        observed, versions = answer
                        self._desk.book = self._desk.book.with_word(model.name, versions, observed)
                if self._desk.book.workers.configuration_wanted(event.id, self._desk.book.models):
                    await self._ask_configuration(model)

    async def _ask_configuration(self, model: ModelVersion) -> None:
        if self._desk.book.models.asked is None:
            # The first inquiry of all is under way, and reads every configuration.
            return
        inquiry = Inquiry(configs=(model,))
        answers = await self._desk.eyes.triton.inquire(inquiry, budget=self._desk.settings.triton.timeout)
        self._desk.book = self._desk.book.with_answers(answers)

    async def _count_kills(self, event: Exit) -> None:
        # Whether the kernel killed it for want of memory shows in the container's count: where that is not held
        # open, a look brings it.
        if suspicious(event):
            await self._looks.container.count_kills(event.observed, VIOLENT_PATIENCE)


def _going(answer: object) -> bool:
    # Triton itself is going down with its stubs: its own exit says what is to be said.
    return isinstance(answer, CallFailure) and answer.failure in (Failure.REFUSED, Failure.EXITING)
