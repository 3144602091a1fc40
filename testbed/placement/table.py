"""What was concluded, as Markdown: for each plan its placements, and how each sight changes the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from probe.facts.placement import Verdict
from testbed.placement.cases import ABSENCES, Case, Conclusion, Plan, Sight
from testbed.placement.eight import EIGHT
from testbed.placement.faults import FAULTS, WELL, Told, outcomes
from testbed.placement.stage import Concluded

_COLUMNS = ("model", "what it is", "declared", "expected", "NVML says", "verdict", "reason")


def markdown(played: Mapping[str, Concluded], plans: Sequence[Plan]) -> str:
    """The whole table; ``played`` is what was concluded in each plan, by its name."""
    return "\n\n".join(part for plan in plans for part in _parts(plan, played[plan.name])) + "\n"


def matrix(told: Mapping[str, Told]) -> str:
    """The faults of NVML beside sixteen models on eight GPUs; ``told`` is each one's story, by its name."""
    columns = ("NVML", "findings", "evidence", "/livez", "/readyz", "verdicts left", "said to be off its GPU")
    rows = [
        (
            fault.name,
            ", ".join(sorted(_on_gpus(story))) or "-",
            story.broken.evidence.mode.value,
            str(story.answers["/livez"]),
            str(story.answers["/readyz"]),
            f"{sum(each is not Verdict.UNKNOWN for each in outcomes(story.broken).values())} of {len(WELL)}",
            ", ".join(sorted(story.ever & ABSENCES)) or "nothing",
        )
        for fault, story in ((each, told[each.name]) for each in FAULTS)
    ]
    return f"### NVML broken beside {EIGHT.name}\n\n{_drawn(columns, rows, code={1, 2})}\n"


def _on_gpus(story: Told) -> set[str]:
    return {each.reason for each in story.broken.findings if each.reason.startswith(("Nvml", "Gpu"))}


def cells(case: Case, sight: Sight, concluded: Conclusion) -> tuple[str, ...]:
    """One row, in the order of the columns."""
    return (
        case.name,
        case.says,
        concluded.declared or "-",
        concluded.expected,
        _told(case, sight),
        concluded.verdict.value,
        ", ".join(sorted(concluded.reasons)) or "-",
    )


def _parts(plan: Plan, concluded: Concluded) -> Iterator[str]:
    first = plan.sights[0]
    yield f"### Triton with {plan.name}\n\nNVML tells {first.value}: evidence mode `{first.mode}`."
    yield _drawn(
        _COLUMNS,
        (cells(each, first, concluded[each.name, first]) for each in plan.cases),
        code={0, 2, 3, 5, 6},
    )
    if len(plan.sights) > 1:
        yield "The same models, where NVML tells otherwise:"
        columns = ("model", *(f"{each.value} (`{each.mode}`)" for each in plan.sights[1:]))
        yield _drawn(
            columns,
            (
                (each.name, *(_short(concluded[each.name, sight]) for sight in plan.sights[1:]))
                for each in plan.cases
            ),
            code={0},
        )


def _told(case: Case, sight: Sight) -> str:
    if sight in {Sight.EMPTY, Sight.ABSENT}:
        return "nothing"
    if case.steps:
        return "-"
    if not case.in_stubs:
        return "tritonserver's context on every GPU"
    if not case.holds:
        return "none of its processes"
    return ", ".join(
        f"{'' if sight is Sight.PIDS else f'{each.mib} MiB '}on GPU {each.gpu}"
        + (f", MIG device {each.device}" if each.device is not None else "")
        for each in case.holds
    )


def _short(concluded: Conclusion) -> str:
    reasons = ", ".join(sorted(concluded.reasons - {"PlacementUnknown", "PlacementImplicit"}))
    return f"{concluded.verdict}: {reasons}" if reasons else concluded.verdict.value


def _drawn(columns: Sequence[str], rows: Iterable[Sequence[str]], code: set[int]) -> str:
    def line(row: Sequence[str]) -> str:
        return f"| {' | '.join(row)} |"

    quoted = (
        [f"`{cell}`" if index in code and cell != "-" else cell for index, cell in enumerate(row)]
        for row in rows
    )
    return "\n".join((line(columns), line(["---"] * len(columns)), *map(line, quoted)))
