"""Why did a process end, and what does that rest on?  Sentences for the checks that tell of a death."""

from __future__ import annotations

import signal

import msgspec

from probe.checks.observation import Observation
from probe.facts.findings import Scalar
from probe.facts.processes import Exit


class Cause(msgspec.Struct, frozen=True):
    """Why a process ended, as a clause, and what that rests on; ``oom``: for want of memory."""

    says: str
    rests_on: str
    oom: bool = False

    def evidence(self, event: Exit) -> dict[str, Scalar]:
        """As every death tells it."""
        return {
            "cause": self.says,
            "cause_rests_on": self.rests_on,
            "signal": event.signal,
            "exit_code": event.code,
        }


def cause_of(seen: Observation, event: Exit) -> Cause:
    """The cause of this exit, no further than it can be known."""
    if event.oom_killed:
        how = "SIGKILL" if event.signal is not None else "no exit status could be read"
        whole = " with its whole container" if event.oom is not None and event.oom.whole else ""
        says = f"killed by the kernel{whole} for want of memory ({how})"
        return Cause(says, _count(seen, event), oom=True)
    if event.signal is not None:
        rests = "the exit status that the kernel told"
        if event.signal == signal.SIGKILL:
            rests = f"{rests}; {_count(seen, event)}"
        return Cause(f"killed by {_name(event.signal)}", rests)
    if event.code is not None:
        return Cause(f"with exit code {event.code}", "the exit status that the kernel told")
    return Cause(
        "for a cause that the kernel does not tell here",
        f"no exit status could be read; {_count(seen, event)}",
    )


def _count(seen: Observation, event: Exit) -> str:
    if event.oom is not None:
        path = f"oom_kill of {event.oom.path or 'the container'}"
        if event.oom.rose:
            early = event.observed.mono - event.oom.seen.mono
            when = f", {early:.0f} s before it ended" if early >= 1.0 else ""
            return f"{path} rose from {event.oom.before} to {event.oom.after}{when}"
        return f"{path} counted no kill for it (it is {event.oom.after})"
    reading = seen.book.container
    if reading is None or reading.memory.oom_kills is None:
        return "the container's count of OOM kills can not be read here"
    return "the container's count of OOM kills was not read at that moment"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
