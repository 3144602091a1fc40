"""Of each fault: does the daemon name it, how soon, and what does Triton itself say meanwhile?

Every fault begins with a Triton and a daemon of its own, and a model that is well.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bench.deployment import deployed
from bench.faults.cases import FAULTS, Fault, Pace
from bench.faults.measure import Outcome, once
from bench.faults.stage import MODEL, Stage
from bench.harness import (
    MILLISECONDS,
    BenchError,
    Listing,
    Measured,
    Options,
    Result,
    of_figure,
    of_values,
    spread,
)
from bench.table import number
from probe.sandbox.errors import SandboxError

NAME = "faults"
_COLUMNS = ("FAULT", "N", "REASON", "TO FINDING", "TO 503", "TRITON: LIVE, READY, MODEL READY")


class Scale(msgspec.Struct, frozen=True):
    """How often each fault happens: those that the kernel tells of, and those that take long."""

    events: int = 10
    polled: int = 3

    def times(self, fault: Fault) -> int:
        """How often this one."""
        return self.events if fault.pace is Pace.EVENT else self.polled


FULL = Scale()
QUICK = Scale(events=2, polled=1)


class Series(msgspec.Struct):
    """A fault and what came of it; ``failure`` says why there is no more of it."""

    fault: Fault
    outcomes: list[Outcome] = []
    failure: str = ""
    conditions: str = ""


def run(options: Options) -> list[Measured]:
    """Let all of them happen."""
    scale = QUICK if options.quick else FULL
    if options.repeat is not None:
        scale = Scale(options.repeat, options.repeat)
    return measure(FAULTS, scale)


def measure(faults: Sequence[Fault], scale: Scale) -> list[Measured]:
    """Let these happen, one after the other, each in a deployment of its own."""
    return report([_series(each, scale.times(each)) for each in faults])


def _series(fault: Fault, times: int) -> Series:
    series = Series(fault)
    print(f"  {fault.name}...", file=sys.stderr, flush=True)
    try:
        with deployed() as deployment:
            fault.write(deployment.repository)
            deployment.start_triton()
            deployment.start_daemon(settings=fault.settings)
            series.conditions = deployment.conditions
            try:
                for _ in range(times):
                    series.outcomes.append(once(deployment, fault))
            finally:
                # Stopped stubs would outlive a pod without namespaces.
                Stage(deployment).clear_stubs()
    except (BenchError, SandboxError, OSError) as error:
        series.failure = str(error) or repr(error)
    return series


def report(all_series: Sequence[Series]) -> list[Measured]:
    """Figures of each fault that happened, verdicts over all, and the table."""
    conditions = next((each.conditions for each in all_series if each.conditions), "nothing ran")
    happened = [each for each in all_series if each.outcomes]
    outcomes = [(each.fault, outcome) for each in happened for outcome in each.outcomes]

    def figure(name: str, value: float, unit: str) -> Result:
        return of_figure(NAME, name, value, unit, budget=0, conditions=conditions)

    return [
        *(result for each in happened for result in _results(each)),
        figure(
            f"faults that no finding named, of {len(outcomes)}",
            sum(outcome.finding is None for _, outcome in outcomes),
            "faults",
        ),
        figure(
            "faults of which the first 503 gave another reason, or none came",
            sum(fault.closes and not outcome.named for fault, outcome in outcomes),
            "faults",
        ),
        figure(
            "faults that did not keep the gate closed for a second",
            sum(not outcome.held for _, outcome in outcomes),
            "faults",
        ),
        figure("faults that failed live at once", sum(each.live_failed for _, each in outcomes), "faults"),
        figure("faults that could not be measured", sum(bool(each.failure) for each in all_series), "faults"),
        _table(all_series),
        Listing(
            bench=NAME,
            title="faults that could not be measured",
            columns=("FAULT", "WHY"),
            rows=tuple((each.fault.name, each.failure) for each in all_series if each.failure),
        ),
    ]


def _results(series: Series) -> Iterator[Result]:
    fault = series.fault
    traffic = f"{fault.per_second:g} requests/s" if fault.per_second else "no traffic"
    conditions = (
        f"{series.conditions}{' but ' + fault.settings.strip() if fault.settings else ''}; {traffic} to "
        f"{MODEL}; /readyz polled every {fault.pace.value * MILLISECONDS:g} ms; afterwards "
        f"{fault.restore.value}"
    )

    def values(what: str, pick: Callable[[Outcome], float | None], budget: float | None) -> Iterator[Result]:
        found = [each * MILLISECONDS for each in map(pick, series.outcomes) if each is not None]
        if found:
            yield of_values(
                NAME,
                f"{fault.name}: to {what}",
                found,
                "ms",
                statistic="max",
                budget=budget,
                conditions=conditions,
            )

    yield from values("finding", lambda each: each.finding, fault.budget)
    yield from values("503", lambda each: each.closed, fault.budget if fault.pace is Pace.EVENT else None)
    yield from values("200, from its end", lambda each: each.recovered, None)


def _table(all_series: Sequence[Series]) -> Listing:
    return Listing(
        bench=NAME,
        title="what was seen, p50 / max",
        columns=_COLUMNS,
        rows=tuple(_row(each) for each in all_series),
    )


def _row(series: Series) -> tuple[str, ...]:
    fault, outcomes = series.fault, series.outcomes
    return (
        fault.name,
        str(len(outcomes)),
        _counted("+".join(each.reasons) or "none" for each in outcomes),
        _delays([each.finding for each in outcomes]),
        _delays([each.closed for each in outcomes]) if fault.closes else "stays open",
        _counted(each.triton for each in outcomes),
    )


def _counted(told: Iterator[str]) -> str:
    counted = Counter(told).most_common()
    if len(counted) == 1:
        return counted[0][0]
    return "; ".join(f"{what} ({times}x)" for what, times in counted) or "-"


def _delays(found: Sequence[float | None]) -> str:
    seconds = [each for each in found if each is not None]
    if not seconds:
        return "never"
    told = spread([each * MILLISECONDS for each in seconds])
    unit, scale = ("ms", 1.0) if told["max"] < 1000 else ("s", MILLISECONDS)
    text = f"{number(told['p50'] / scale)} / {number(told['max'] / scale)} {unit}"
    return text if len(seconds) == len(found) else f"{text}, {len(found) - len(seconds)}x never"
