"""How often /livez may fail: what restarts did not cure, one more will not, and it would wipe the evidence; pure."""

from __future__ import annotations

import datetime

import msgspec

from probe.facts.findings import SERVER, Claim
from probe.facts.instants import Instant
from probe.settings import RestartSettings

REASON = "RestartBudgetSpent"
_TIMES_TOLD = 10


class RestartBudget(msgspec.Struct, frozen=True):
    """When the live gate failed, over epochs: a restart of Triton's container is what is counted.

    ``failing``: the epoch in which it fails now, None while it is open.  ``refused``: something wants it to
    fail now, and the budget does not allow it.
    """

    failures: tuple[Instant, ...] = ()
    failing: int | None = None
    refused: bool = False

    def judged(self, now: Instant, epoch: int, settings: RestartSettings, *, wanted: bool) -> RestartBudget:
        """After a judgement that wants the live gate to fail, or does not.

        A failure that goes on is one failure; one that goes on in a new epoch is another, for a restart lies
        between.
        """
        failures = self._within(now, settings)
        if not wanted:
            return RestartBudget(failures)
        if self.failing == epoch:
            return RestartBudget(failures, epoch)
        if len(failures) >= settings.max:
            return RestartBudget(failures, refused=True)
        return RestartBudget((*failures, now), epoch)

    def spent(self, now: Instant, settings: RestartSettings) -> bool:
        """Whether the live gate would not fail now, whatever wanted it to."""
        return self.failing is None and len(self._within(now, settings)) >= settings.max

    def due(self, now: Instant, settings: RestartSettings) -> float | None:
        """Seconds until a refused failure may happen after all, or None where none is refused or none ever may."""
        oldest = self._within(now, settings)[-settings.max :] if settings.max else ()
        return oldest[0].mono + settings.window - now.mono if self.refused and oldest else None

    def claim(self, now: Instant, settings: RestartSettings, wants: tuple[str, ...]) -> Claim:
        """What is said while a failure is refused; ``wants`` are the findings that want it."""
        again = self._again(now, settings)
        done = (
            f"/livez failed {_times(len(self.failures))} within {_spelled(settings.window)}, since "
            f"{_clock(self.failures[0])}, and that cured nothing for good"
            if self.failures
            else f"restarts.max is {settings.max}"
        )
        when = f"It may fail again at {_clock(again)}" if again is not None else "It never fails"
        return Claim(
            REASON,
            SERVER,
            f"{done}: /livez answers 200 although {_listed(wants)} would fail it. {when}.",
            "Nothing restarts Triton any more, so that the evidence stays: read the findings, /events and the logs "
            "of the container and of the one before (kubectl logs --previous). Then mend the cause and restart it "
            "by hand, or move it to another node (kubectl delete pod). restarts.max and restarts.window set the "
            "budget.",
            now,
            {
                "failures": len(self.failures),
                "times": " ".join(_clock(each) for each in self.failures[-_TIMES_TOLD:]) or None,
                "max": settings.max,
                "window_seconds": settings.window,
                "wants": "; ".join(wants),
                "next_possible": _clock(again) if again is not None else None,
            },
        )

    def _again(self, now: Instant, settings: RestartSettings) -> Instant | None:
        left = self.due(now, settings)
        return now.shifted(left) if left is not None else None

    def _within(self, now: Instant, settings: RestartSettings) -> tuple[Instant, ...]:
        # The same sum as in `due`: a difference may round to just below the window that `due` says is over.
        return tuple(each for each in self.failures if each.mono + settings.window > now.mono)


def _listed(wants: tuple[str, ...]) -> str:
    first, rest = wants[0], len(wants) - 1
    return f"{first} and {rest} more" if rest else first


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _spelled(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def _clock(moment: Instant) -> str:
    told = moment.as_datetime().replace(microsecond=0)
    return told.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
