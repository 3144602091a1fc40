"""What a measurement is: a figure with its unit, its budget, its conditions, and how often it was taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

SCHEMA = 1
MILLISECONDS = 1000.0
MEBIBYTE = 1 << 20


class BenchError(Exception):
    """A bench could not be run here; the message says what was waited for or missing."""


class Options(msgspec.Struct, frozen=True):
    """What the command line chose: fewer samples, and how many models to be at rest with.

    ``seconds`` and ``seed`` are the soak's, ``repeat`` is how often each fault happens; None: the bench's own.
    """

    quick: bool = False
    models: int = 20
    seconds: float | None = None
    seed: int | None = None
    repeat: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One figure.  ``statistic`` says which of ``values`` it is; ``budget`` is the most it may be.

    ``met`` and ``ratio`` (figure to budget) are None without a budget; ``spread`` holds other statistics
    of the same values.  All of ``figure``, ``budget``, ``spread`` and ``values`` are in ``unit``.
    """

    bench: str
    name: str
    figure: float
    unit: str
    statistic: str
    budget: float | None
    met: bool | None
    ratio: float | None
    conditions: str
    samples: int
    spread: dict[str, float]
    values: tuple[float, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in words: a table without verdicts.  Each row has a cell for each column."""

    bench: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Measured: TypeAlias = Result | Listing


class Noise(msgspec.Struct, frozen=True):
    """How quiet the machine was when the benches began.

    A fixed loop of work (its fastest and its median run), and how much later than asked a sleep of one
    millisecond ended: what is measured can not be steadier than these.
    """

    load_1_minute: float
    loop_fastest_ms: float
    loop_median_ms: float
    wakeup_late_p50_ms: float
    wakeup_late_p99_ms: float


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured, and the versions of what took part."""

    cpu: str
    cores: int
    memory_mib: int
    kernel: str
    versions: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benches, as the JSON file holds it.  ``failures`` says why a bench has no result."""

    schema: int = SCHEMA
    started_at: str
    options: Options
    machine: Machine
    noise: Noise
    load_1_minute_at_end: float
    results: tuple[Result, ...]
    failures: dict[str, str]
    listings: tuple[Listing, ...] = ()

    @property
    def verdict(self) -> int:
        """Exit code: 0 all budgets met, 1 one is not, 2 a bench could not be run."""
        if self.failures:
            return 2
        return int(any(each.met is False for each in self.results))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always one of ``values``, and with few of them rather too high.

    Raises ValueError where there are none, or for a percentage outside 0-100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"the {percent:g}th percentile of {len(values)} values")
    rank = max(1, math.ceil(round(percent / 100 * len(values), 9)))
    return sorted(values)[rank - 1]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, quartile-free: p50, p90, p99 and maximum, and the mean; empty where there are no values."""
    if not values:
        return {}
    return {
        "min": min(values),
        "p50": percentile(values, 50),
        "p90": percentile(values, 90),
        "p99": percentile(values, 99),
        "max": max(values),
        "mean": math.fsum(values) / len(values),
    }


def of_values(
    bench: str,
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    conditions: str,
    statistic: str = "p99",
    budget: float | None = None,
) -> Result:
    """Make the result of many samples; ``statistic`` names the one that is judged (see :func:`spread`).

    Raises BenchError where there are no samples: a bench that measured nothing has not met its budget.
    """
    if not values:
        raise BenchError(f"{name}: nothing was measured")
    told = spread(values)
    figure = told[statistic]
    return Result(
        bench=bench,
        name=name,
        figure=figure,
        unit=unit,
        statistic=statistic,
        budget=budget,
        met=None if budget is None else figure <= budget,
        ratio=figure / budget if budget else None,
        conditions=conditions,
        samples=len(values),
        spread=told,
        values=tuple(round(each, 6) for each in values),
    )


def of_figure(
    bench: str, name: str, figure: float, unit: str, *, conditions: str, budget: float | None = None
) -> Result:
    """Make the result of one figure that has no samples: a total over a window, a count."""
    return of_values(bench, name, (figure,), unit, conditions=conditions, statistic="mean", budget=budget)


def to_json(report: Report) -> bytes:
    """Render the report as the JSON file, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def from_json(data: bytes) -> Report:
    """Read a report again; raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(data, type=Report)
