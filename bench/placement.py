"""The table of placements: what is declared, expected and seen of each model, and what the daemon concludes.

Its figures are counts that must be 0; the table goes to ``bench/out/placement.md``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.harness import Listing, Measured, Options, of_figure
from probe.sandbox.wheel import TritonInstallation, installed_triton
from testbed.placement.cases import Plan, Sight, false_absences
from testbed.placement.eight import EIGHT
from testbed.placement.faults import FAULTS, Told, play_all
from testbed.placement.rows import PLANS
from testbed.placement.sights import gpus_under
from testbed.placement.stage import Concluded, ask, play, staged
from testbed.placement.table import markdown, matrix

NAME = "placement"
TABLE = Path(__file__).resolve().parent / "out" / "placement.md"
_CONDITIONS = "the real tritonserver with the CUDA, NVML and backend doubles; a daemon for each sight"


def run(_: Options) -> list[Measured]:
    """Play every plan, write the table, and count what was concluded otherwise than it must be."""
    installation = installed_triton()
    played: dict[str, Concluded] = {}
    for plan in PLANS:
        print(f"  {plan.name}...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="triton-probe-placement-") as folder:
            played[plan.name] = play(installation, Path(folder), plan)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(f"{markdown(played, PLANS)}\n{matrix(_faults(installation))}")
    return report(played, PLANS)


def _faults(installation: TritonInstallation) -> dict[str, Told]:
    print(f"  {EIGHT.name}, NVML broken...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="triton-probe-placement-") as name:
        folder = Path(name)
        folders = [folder / f"fault-{index}" for index, _ in enumerate(FAULTS)]
        for each in folders:
            each.mkdir()
        with staged(installation, folder, EIGHT) as server:
            ask(server, EIGHT)
            told = play_all(server, gpus_under(Sight.WHOLE, EIGHT, server), folders)
            return {name: each.result() for name, each in told.items()}


def report(played: Mapping[str, Concluded], plans: Sequence[Plan]) -> list[Measured]:
    """The counts, and a row for each placement that was concluded otherwise."""
    rows = [
        (plan, case, sight, played[plan.name][case.name, sight])
        for plan in plans
        for case in plan.cases
        for sight in plan.sights
    ]
    wrong = [
        (
            *(plan.name, case.name, sight.value),
            _told(case.outcome(sight).verdict, case.outcome(sight).reasons),
            _told(concluded.verdict, concluded.reasons),
        )
        for plan, case, sight, concluded in rows
        if concluded.outcome != case.outcome(sight)
    ]
    false = sum(bool(false_absences(case, sight, concluded)) for _, case, sight, concluded in rows)
    return [
        _count(f"placements concluded otherwise than they must be, of {len(rows)}", len(wrong)),
        _count(f'false "not on the GPU", in modes {_modes(plans)}', false),
        Listing(
            bench=NAME,
            title="concluded otherwise",
            columns=("TRITON WITH", "MODEL", "NVML TELLS", "MUST BE", "IS"),
            rows=tuple(wrong),
        ),
    ]


def _count(name: str, value: int) -> Measured:
    return of_figure(NAME, name, value, "placements", budget=0, conditions=_CONDITIONS)


def _told(verdict: str, reasons: frozenset[str]) -> str:
    return ", ".join((str(verdict), *sorted(reasons)))


def _modes(plans: Sequence[Plan]) -> str:
    sights: set[Sight] = {sight for plan in plans for sight in plan.sights}
    return ", ".join(sorted({sight.mode.value for sight in sights}))
