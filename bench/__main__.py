"""``python -m bench [NAMES…]``: run benches, print a table, write JSON; without names, those of the budgets."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    detect,
    endpoints,
    harness,
    heal,
    machine,
    oom,
    oom_machine,
    placement,
    pods,
    rest,
    start,
    table,
)
from bench.faults import bench as faults
from bench.harness import BenchError, Listing, Measured, Options, Report, Result
from bench.soak import bench as soak
from probe.sandbox.errors import SandboxError

BENCHES: dict[str, Callable[[Options], Sequence[Measured]]] = {
    detect.NAME: detect.run,
    rest.NAME: rest.run,
    endpoints.NAME: endpoints.run,
    start.NAME: start.run,
    faults.NAME: faults.run,
    heal.NAME: heal.run,
    oom.NAME: oom.run,
    oom_machine.NAME: oom_machine.run,
    placement.NAME: placement.run,
    pods.NAME: pods.run,
    soak.NAME: soak.run,
}
USUAL = (detect.NAME, rest.NAME, endpoints.NAME, start.NAME)
"""Run where none is named: the others take longer."""
OUT = Path(__file__).resolve().parent / "out"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 all budgets met, 1 one is not, 2 a bench could not be run."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if unknown := [each for each in asked.names if each not in BENCHES]:
        parser.error(f"no bench is called {unknown[0]}; there are {', '.join(BENCHES)}")
    if asked.models < 1:
        parser.error(f"--models: expected at least 1, not {asked.models}")
    if asked.repeat is not None and asked.repeat < 1:
        parser.error(f"--repeat: expected at least 1, not {asked.repeat}")
    options = Options(
        quick=asked.quick,
        models=asked.models,
        seconds=asked.seconds,
        seed=asked.seed,
        repeat=asked.repeat,
    )
    report = run(asked.names or USUAL, options)
    file = asked.json or OUT / f"{report.started_at.replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(harness.to_json(report))
    table.show(report)
    print(f"all samples: {file}")
    return report.verdict


def run(names: Sequence[str], options: Options) -> Report:
    """Run these benches one after the other; one that fails does not keep the others from running."""
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    noise = machine.noise()
    measured: list[Measured] = []
    failures: dict[str, str] = {}
    for name in dict.fromkeys(names):
        print(f"running {name}...", file=sys.stderr, flush=True)
        try:
            measured += BENCHES[name](options)
        except (BenchError, SandboxError, OSError) as error:
            failures[name] = str(error) or repr(error)
    return Report(
        started_at=started_at,
        options=options,
        machine=machine.describe(),
        noise=noise,
        load_1_minute_at_end=machine.load(),
        results=tuple(each for each in measured if isinstance(each, Result)),
        failures=failures,
        listings=tuple(each for each in measured if isinstance(each, Listing)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)}; default: {', '.join(USUAL)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples, for a first impression")
    parser.add_argument("--models", type=int, default=20, help="models in rest and endpoints (default 20)")
    parser.add_argument("--seconds", type=float, metavar="N", help="how long the soak lasts (default 3600)")
    parser.add_argument("--seed", type=int, metavar="N", help="what the soak's chance begins with")
    parser.add_argument("--repeat", type=int, metavar="N", help="how often each fault happens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default bench/out)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
