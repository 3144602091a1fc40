"""What the bench of faults says of what it saw, and that it strikes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults import bench as faults
from bench.faults.bench import FULL, QUICK, Scale, Series, report
from bench.faults.cases import EVENT_MS, FAULTS, Fault, Pace
from bench.faults.measure import Outcome
from bench.faults.stage import MODEL, moment
from bench.harness import Listing, Measured, Options, Result
from probe.facts.catalogue import CATALOGUE
from probe.sandbox.repositories import Repository
from probe.sandbox.wheel import TritonInstallation
from probe.settings import load


def fault(name: str = "a fault", *reasons: str, pace: Pace = Pace.EVENT) -> Fault:
    """A fault that is never struck."""
    return Fault(
        name=name,
        reasons=reasons or ("StubDead",),
        write=lambda _: None,
        strike=lambda _: moment(),
        pace=pace,
        budget=EVENT_MS,
    )


def outcome(
    finding: float | None = 0.01,
    closed: float | None = 0.02,
    *reasons: str,
    live_failed: bool = False,
    held: bool = True,
) -> Outcome:
    """What came of a fault."""
    named = reasons or ("StubDead",)
    return Outcome(
        finding=finding,
        closed=closed,
        reasons=named,
        named="StubDead" in named,
        held=held,
        triton="yes/yes/yes",
        live_failed=live_failed,
    )


def split(measured: list[Measured]) -> tuple[dict[str, Result], Listing]:
    """Results by name, and the table."""
    results = {each.name: each for each in measured if isinstance(each, Result)}
    table, _ = (each for each in measured if isinstance(each, Listing))
    return results, table


def test_every_fault_can_be_named_and_prepared(tmp_path: Path) -> None:
    """Its reasons are of the catalogue, its settings are settings, and its model can be written."""
    assert len({each.name for each in FAULTS}) == len(FAULTS)
    for number, each in enumerate(FAULTS):
        assert set(each.reasons) <= set(CATALOGUE), each.name
        each.write(Repository(tmp_path / str(number)))
        assert (tmp_path / str(number) / MODEL / "config.pbtxt").is_file()
        file = tmp_path / f"{number}.yaml"
        file.write_text(each.settings)
        load(file, {}, {})


def test_a_fault_that_is_seen_is_told_with_its_delays() -> None:
    """From the fault to the finding, and to the 503, of which the slowest counts."""
    series = Series(fault(), [outcome(0.01, 0.02), outcome(0.03, 0.05)])
    results, table = split(report([series]))
    assert results["a fault: to finding"].figure == pytest.approx(30)
    assert results["a fault: to 503"].figure == pytest.approx(50)
    assert results["a fault: to 503"].met
    assert table.rows == (("a fault", "2", "StubDead", "10 / 30 ms", "20 / 50 ms", "yes/yes/yes"),)
    assert all(each.met is not False for each in results.values())


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (outcome(None, None, "none"), "that no finding named"),
        (outcome(0.01, 0.02, "ModelNotReady"), "the first 503 gave another reason"),
        (outcome(held=False), "did not keep the gate closed"),
        (outcome(live_failed=True), "that failed live at once"),
        (outcome(0.5, 0.6), "to finding"),
    ],
)
def test_what_is_not_as_it_should_be_is_not_met(seen: Outcome, complaint: str) -> None:
    """Not seen, misnamed, seen for a moment alone, a restart asked for at once, or too late."""
    results, _ = split(report([Series(fault(), [outcome(), seen])]))
    assert any(complaint in name and each.met is False for name, each in results.items())


def test_a_fault_that_can_not_be_measured_is_told_with_its_reason() -> None:
    """What was seen until then counts all the same."""
    measured = report([Series(fault(), [outcome()], "no stub to strike at")])
    results, table = split(measured)
    assert results["faults that could not be measured"].met is False
    assert table.rows[0][1] == "1"
    assert any(
        "no stub to strike at" in row for each in measured if isinstance(each, Listing) for row in each.rows
    )


def test_a_delay_is_told_in_the_unit_that_fits_and_with_those_that_never_came() -> None:
    """Milliseconds below a second."""
    _, table = split(report([Series(fault(), [outcome(2.5, None), outcome(7.25, None)])]))
    assert table.rows[0][3:5] == ("2.50 / 7.25 s", "never")
    _, table = split(report([Series(fault(), [outcome(0.5, 0.5), outcome(None, 0.5)])]))
    assert table.rows[0][3] == "500 / 500 ms, 1x never"


def test_slow_faults_happen_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the command line says how often."""
    slow = fault(pace=Pace.POLLED)
    assert FULL.times(fault()) > FULL.times(slow) > QUICK.times(slow) >= 1
    scales: list[Scale] = []

    def measure(_: object, scale: Scale) -> list[Measured]:
        scales.append(scale)
        return []

    monkeypatch.setattr(faults, "measure", measure)
    for options in (Options(), Options(quick=True), Options(quick=True, repeat=4)):
        faults.run(options)
    assert scales == [FULL, QUICK, Scale(4, 4)]


@pytest.mark.parametrize("name", ["SIGSEGV in execute", "stub killed under traffic"])
def test_the_bench_of_faults_strikes_and_finds(
    name: str, pods_work: None, triton_installation: TritonInstallation
) -> None:
    """By the real daemon beside a real Triton, which says that all is well; twice, so that all was well between."""
    (struck,) = (each for each in FAULTS if each.name == name)
    results, table = split(faults.measure([struck], Scale(2, 2)))
    assert table.rows[0][:3] == (name, "2", "StubDead")
    assert table.rows[0][5] == "yes/yes/yes"
    assert 0 < results[f"{name}: to finding"].figure <= results[f"{name}: to 503"].figure < 60_000
    assert results["faults that could not be measured"].met
