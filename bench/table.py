"""A report for people: one table, then the conditions under which its figures hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.harness import Listing, Report, Result

_COLUMNS = ("BENCH", "FIGURE", "VALUE", "UNIT", "BUDGET", "VERDICT", "OF BUDGET", "P50", "MAX", "SAMPLES")
_NUMBERS = {"VALUE", "BUDGET", "OF BUDGET", "P50", "MAX", "SAMPLES"}
_WIDTH = 150
_STYLES = {"met": "green", "NOT MET": "bold red"}


def show(report: Report, console: Console | None = None) -> None:
    """Print the report; where the output is no terminal, wide enough that no figure is cut."""
    out = console or Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    for line in heading(report):
        out.print(Text(line))
    out.print(table(report.results))
    for listing in (each for each in report.listings if each.rows):
        out.print(Text(f"\n{listing.bench}: {listing.title}", "bold"))
        out.print(words(listing))
    for line in notes(report):
        out.print(Text(line))


def heading(report: Report) -> Iterator[str]:
    """Say where and how quietly it was measured."""
    machine, noise = report.machine, report.noise
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_mib} MiB, Linux {machine.kernel}; {versions}"
    )
    yield (
        f"load {noise.load_1_minute:.2f} at the start, {report.load_1_minute_at_end:.2f} at the end; "
        f"calibration loop {noise.loop_median_ms:.2f} ms (fastest {noise.loop_fastest_ms:.2f}), "
        f"wake-ups late by {noise.wakeup_late_p50_ms:.2f} ms (p99 {noise.wakeup_late_p99_ms:.2f})"
    )


def table(results: tuple[Result, ...]) -> Table:
    """Lay out the results, each with its budget beside it."""
    drawn = Table(box=None, pad_edge=False)
    for each in _COLUMNS:
        drawn.add_column(each, justify="right" if each in _NUMBERS else "left", no_wrap=each != "FIGURE")
    for result in results:
        cells = row(result)
        drawn.add_row(*(Text(each, _STYLES.get(each, "")) for each in cells))
    return drawn


def words(listing: Listing) -> Table:
    """Lay out what happened; what is long is folded."""
    drawn = Table(box=None, pad_edge=False)
    for each in listing.columns:
        drawn.add_column(each, overflow="fold")
    for cells in listing.rows:
        drawn.add_row(*(Text(each) for each in cells))
    return drawn


def row(result: Result) -> tuple[str, ...]:
    """Return the cells of one result, in the order of the columns."""
    verdict = "" if result.met is None else "met" if result.met else "NOT MET"
    many = result.samples > 1
    return (
        result.bench,
        f"{result.name}, {result.statistic}" if many else result.name,
        number(result.figure),
        result.unit,
        "-" if result.budget is None else number(result.budget),
        verdict,
        "-" if result.ratio is None else f"{result.ratio:.2f}x",
        number(result.spread["p50"]) if many else "-",
        number(result.spread["max"]) if many else "-",
        str(result.samples),
    )


def notes(report: Report) -> Iterator[str]:
    """Yield each different set of conditions once, then what could not be measured."""
    told = dict.fromkeys((each.bench, each.conditions) for each in report.results)
    for bench, conditions in told:
        yield f"{bench}: {conditions}"
    for bench, why in report.failures.items():
        yield f"{bench}: FAILED: {why}"


def number(value: float) -> str:
    """Write a number with three figures that count, and no exponent."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2
    return f"{value:.{digits}f}"
