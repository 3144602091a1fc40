"""The placement bench: what it counts, and how its table reads."""

from __future__ import annotations

import msgspec

from bench.harness import Listing, Result
from bench.placement import report
from probe.facts.placement import EvidenceMode, Verdict
from testbed.placement.cases import Case, Conclusion, Hold, Plan, Sight, on
from testbed.placement.table import markdown

CASE = Case(
    name="m",
    says="its stub has 7 MiB on GPU 1",
    declared="gpu",
    expected="gpu",
    holds=[Hold(1, 7)],
    whole=on("gpu"),
    unproven=on("unknown", "PlacementUnknown"),
)
PLAN = Plan(name="two GPUs", devices=2, cases=[CASE], sights=[Sight.WHOLE, Sight.EMPTY])
SEEN = Conclusion(
    mode=EvidenceMode.FULL,
    declared="gpu",
    expected="gpu",
    verdict=Verdict.GPU,
    gpus=("GPU-1",),
    gpu_memory_bytes=7 << 20,
    why=(),
    reasons=frozenset(),
    ever=frozenset(),
)
HIDDEN = msgspec.structs.replace(
    SEEN,
    mode=EvidenceMode.BLIND,
    verdict=Verdict.UNKNOWN,
    reasons=frozenset(("PlacementUnknown",)),
    ever=frozenset(("PlacementUnknown",)),
)


def figures(hidden: Conclusion) -> tuple[list[tuple[float, bool | None]], tuple[tuple[str, ...], ...]]:
    """Both counts, each with whether it is met, and the rows of what was concluded otherwise."""
    told = report({PLAN.name: {("m", Sight.WHOLE): SEEN, ("m", Sight.EMPTY): hidden}}, [PLAN])
    rows = next(each.rows for each in told if isinstance(each, Listing))
    return [(each.figure, each.met) for each in told if isinstance(each, Result)], rows


def test_what_is_as_it_must_be_counts_nothing() -> None:
    """Both budgets of 0 are met, and nothing is listed."""
    assert figures(HIDDEN) == ([(0, True), (0, True)], ())


def test_another_verdict_is_counted_and_listed() -> None:
    """What must be stands beside what is."""
    wrong = msgspec.structs.replace(HIDDEN, verdict=Verdict.CPU)
    counts, rows = figures(wrong)
    assert counts == [(1, False), (0, True)]
    assert rows == (
        ("two GPUs", "m", Sight.EMPTY.value, "unknown, PlacementUnknown", "cpu, PlacementUnknown"),
    )


def test_a_claim_of_absence_that_came_and_went_is_counted() -> None:
    """Where lists prove nothing, GpuNotUsed is false however short it stood."""
    wrong = msgspec.structs.replace(HIDDEN, ever=frozenset(("PlacementUnknown", "GpuNotUsed")))
    assert figures(wrong) == ([(0, True), (1, False)], ())


def test_the_table_tells_each_placement_and_then_how_it_looks_otherwise() -> None:
    """One row a model and one column a sight."""
    told = markdown({PLAN.name: {("m", Sight.WHOLE): SEEN, ("m", Sight.EMPTY): HIDDEN}}, [PLAN])
    assert told.splitlines() == [
        "### Triton with two GPUs",
        "",
        "NVML tells pids and memory, as they are: evidence mode `full`.",
        "",
        "| model | what it is | declared | expected | NVML says | verdict | reason |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| `m` | its stub has 7 MiB on GPU 1 | `gpu` | `gpu` | 7 MiB on GPU 1 | `gpu` | - |",
        "",
        "The same models, where NVML tells otherwise:",
        "",
        "| model | no process on any GPU (`blind`) |",
        "| --- | --- |",
        "| `m` | unknown |",
    ]
