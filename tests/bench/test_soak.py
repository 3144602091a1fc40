"""The soak's chance, what it takes for a right move of a gate, and that it runs."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.deployment import deployed
from bench.harness import Listing, Options, Result
from bench.soak import bench as soak
from bench.soak import recorder
from bench.soak.diary import Diary
from bench.soak.driver import Driver
from bench.soak.models import CANARIES, CAST, SETTINGS, VERSIONED
from bench.soak.moves import FAILED, MOST, OPENED, Move, Moves
from bench.soak.plan import VERSIONS, Kind, Plan, Step
from bench.soak.recorder import Recorder
from probe.facts.gates import Gate
from probe.sandbox.errors import SandboxError
from probe.sandbox.wheel import TritonInstallation
from probe.settings import load

SEEDS = st.integers(0, 2**32)


def steps(seed: int, count: int, *, each: float = 4.0, restart_every: float = 600.0) -> list[Step]:
    """The first steps of a plan, each of which takes so many seconds."""
    plan = Plan(seed, CAST, restart_every=restart_every)
    return [plan.next(number * each) for number in range(count)]


# The plan


@given(SEEDS)
def test_a_seed_is_a_plan(seed: int) -> None:
    """The same seed gives the same steps, so that a wrong move can be tried again."""
    assert steps(seed, 60) == steps(seed, 60)


def test_another_seed_is_another_plan() -> None:
    """Chance it is."""
    assert steps(1, 60) != steps(2, 60)


def test_everything_happens_in_an_hour() -> None:
    """Every kind of step, a restart about every ten minutes, and no pause that is a stop."""
    hour = steps(7, 900)
    assert {each.kind for each in hour} == set(Kind)
    assert 4 <= sum(each.kind is Kind.RESTART for each in hour) <= 8
    assert all(0 <= each.pause <= 20 for each in hour)
    assert {each.versions for each in hour if each.kind is Kind.VERSIONS} == set(VERSIONS)
    assert {name for each in hour for name in each.models} == set(CAST.names)


@given(SEEDS)
def test_only_what_is_there_is_unloaded_and_only_what_is_away_is_loaded(seed: int) -> None:
    """A restart loads everything; never are more than half of the models away."""
    away: set[str] = set()
    for step in steps(seed, 200, restart_every=300.0):
        named = set(step.models)
        match step.kind:
            case Kind.RESTART:
                away.clear()
            case Kind.LOAD:
                assert named <= away
                away -= named
            case Kind.UNLOAD:
                assert not named & away
                away |= named
            case _:
                assert not named & away
        assert 2 * len(away) <= len(CAST.names)


def test_a_step_is_told_in_a_few_words() -> None:
    """What a list of wrong moves shows beside them."""
    assert str(Step(Kind.RESIZE, ("a",), instances=2)) == "resize a with 2 instance(s)"
    assert str(Step(Kind.VERSIONS, (VERSIONED,), versions=(1, 2))) == "version policy versioned to 1, 2"
    assert str(Step(Kind.TRAFFIC, rates=(("a", 0.5), ("b", 25.0)))) == "traffic a at 0.5/s b at 25/s"


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """Canaries for some of the models, all else as it comes."""
    file = tmp_path / "soak.yaml"
    file.write_text(SETTINGS)
    assert set(load(file, {}, {}).settings.canary) == set(CANARIES)


# The moves


def move(at: float, gate: Gate, kind: str, reason: str = "StubDead") -> Move:
    """A move of a gate."""
    return Move(at, gate, kind, reason if kind == FAILED else "")


def started() -> Moves:
    """A daemon that began at 0, and knew all at 10."""
    moves = Moves(0.0)
    assert moves.judge((move(5, Gate.STARTUP, OPENED), move(5, Gate.READY, OPENED))) == []
    moves.settled(10.0)
    return moves


ROUND = (
    (Gate.READY, FAILED),
    (Gate.STARTUP, FAILED),
    (Gate.STARTUP, OPENED),
    (Gate.READY, OPENED),
)
"""What a restart of Triton does."""


def test_a_start_opens_startup_and_ready() -> None:
    """And that is all."""
    moves = started()
    assert (moves.expected, moves.wrongs, moves.missing) == (2, 0, [])


def test_a_restart_closes_and_opens_both_once() -> None:
    """Whenever they are told: what counts is when they happened."""
    moves = started()
    moves.restarting(100.0)
    assert moves.judge(move(101 + n, *each) for n, each in enumerate(ROUND)) == []
    moves.settled(110.0)
    assert (moves.expected, moves.wrongs, moves.missing) == (6, 0, [])


@pytest.mark.parametrize("at", [50.0, 99.9, 110.1, 200.0])
@pytest.mark.parametrize("gate", [Gate.READY, Gate.LIVE, Gate.STARTUP])
def test_every_failure_outside_a_restart_is_wrong_and_counted_once(gate: Gate, at: float) -> None:
    """The gate's way back is its end and no wrong move of its own."""
    moves = started()
    moves.restarting(100.0)
    moves.judge(move(101 + n, *each) for n, each in enumerate(ROUND))
    moves.settled(110.0)
    (wrong,) = moves.judge((move(at, gate, FAILED), move(at + 1.5, gate, OPENED)))
    assert (wrong.move.gate, wrong.lasted, moves.wrongs) == (gate, 1.5, 1)


def test_live_never_fails_not_even_in_a_restart() -> None:
    """Triton comes back by itself."""
    moves = started()
    moves.restarting(100.0)
    (wrong,) = moves.judge((move(101, Gate.LIVE, FAILED, "TritonDown"),))
    assert wrong.lasted is None


@pytest.mark.parametrize("extra", ROUND)
def test_a_second_time_in_one_restart_is_wrong(extra: tuple[Gate, str]) -> None:
    """A gate that flaps on its way is no gate."""
    moves = started()
    moves.restarting(100.0)
    moves.judge(move(101 + n, *each) for n, each in enumerate(ROUND))
    assert len(moves.judge((move(106, *extra),))) == 1


@pytest.mark.parametrize("left_out", ROUND)
def test_a_move_that_does_not_come_is_missing(left_out: tuple[Gate, str]) -> None:
    """A restart that a gate did not show was not seen."""
    moves = started()
    moves.restarting(100.0)
    moves.judge(move(101 + n, *each) for n, each in enumerate(ROUND) if each != left_out)
    moves.settled(110.0)
    (missing,) = moves.missing
    assert missing.startswith(f"{left_out[0]} never {'failed' if left_out[1] == FAILED else 'opened'}")


def test_a_gate_that_fails_wrongly_need_not_fail_for_the_restart() -> None:
    """It is closed already, and opens with the new Triton."""
    moves = started()
    moves.judge((move(50, Gate.READY, FAILED),))
    moves.restarting(100.0)
    moves.judge(move(101 + n, *each) for n, each in enumerate(ROUND[1:]))
    moves.settled(110.0)
    assert (moves.wrongs, moves.missing) == (1, [])


def test_an_opening_out_of_nowhere_is_wrong() -> None:
    """It failed without a word."""
    assert len(started().judge((move(50, Gate.READY, OPENED),))) == 1


def test_a_gate_that_flaps_for_hours_fills_no_memory() -> None:
    """All are counted, and the first of them kept."""
    moves = started()
    flaps = itertools.cycle((FAILED, OPENED))
    moves.judge(move(20 + n, Gate.READY, next(flaps)) for n in range(4 * MOST))
    assert (moves.wrongs, len(moves.wrong)) == (2 * MOST, MOST)


# The diary


def test_a_diary_tells_what_was_done_just_before() -> None:
    """What ended in the last seconds, and what was not over."""
    diary = Diary()
    diary.note("long ago")
    with diary.doing("a reload"):
        diary.note("a request")
        now = time.time()
        told = diary.before(now)
        assert [each.split("] ")[1] for each in told] == ["long ago", "a reload", "a request"]
        assert told[1].startswith("[-0.0")
        assert "…]" in told[1]
        assert len(diary.before(now + 10)) == 1
    assert diary.before(now - 10) == ()


# The recorder


def event(second: int, kind: str = FAILED, **more: str) -> dict[str, Any]:
    """An entry of ``/events``."""
    return {
        "at": f"2026-01-01T00:00:{second:02d}.5Z",
        "kind": kind,
        "subject": "m/1",
        "message": "it is",
        "reason": "StubDead",
        "severity": "critical",
        "gate": "ready" if kind in (FAILED, OPENED) else None,
        "epoch": 1,
        **more,
    }


def line(told: dict[str, Any]) -> bytes:
    """The same in the log, where a time has all its digits and nothing is null."""
    entry = {key: value for key, value in told.items() if value is not None and key not in ("at", "kind")}
    stamp = told["at"].replace(".5Z", ".500000Z")
    return json.dumps({"timestamp": stamp, "level": "error", "event": told["kind"], **entry}).encode() + b"\n"


def test_what_both_sources_tell_counts_once(tmp_path: Path) -> None:
    """And what only one of them tells counts too, each once, oldest first."""
    log, events = tmp_path / "log", [event(3), event(2)]
    log.write_bytes(line(event(1)) + line(event(2)))
    reads = Recorder(log, lambda: events)
    fresh = reads.read()
    assert [each.move for each in fresh] == [
        Move(each.at, Gate.READY, FAILED, "StubDead", "m/1", "it is") for each in fresh
    ]
    assert [each.at % 60 for each in fresh] == [1.5, 2.5, 3.5]
    with log.open("ab") as file:
        file.write(line(event(3)) + line(event(4, "finding_raised"))[:-20])
    assert reads.read() == []
    with log.open("ab") as file:
        file.write(line(event(4, "finding_raised"))[-20:])
    (raised,) = reads.read()
    assert raised.move is None
    assert reads.raised == {("critical", "StubDead"): 1}


def test_what_the_daemon_complains_of_is_kept(tmp_path: Path) -> None:
    """A task that failed, and what is no line of a log at all; not what it says in passing."""
    log = tmp_path / "log"
    log.write_bytes(
        b'{"level": "info", "event": "listens"}\n{"level": "error", "event": "the task failed"}\nTraceback\n'
    )

    def silent() -> list[dict[str, Any]]:
        raise msgspec.DecodeError("no answer")

    reads = Recorder(log, silent)
    assert reads.read() == []
    assert reads.complaints == ['{"level": "error", "event": "the task failed"}', "Traceback"]


def test_a_large_log_is_emptied_when_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is lost, and nothing is told twice."""
    monkeypatch.setattr(recorder, "LARGE", 1000)
    log = tmp_path / "log"
    reads = Recorder(log, list)
    seen = []
    for second in range(30):
        with log.open("ab") as file:
            file.write(line(event(second)))
        seen += reads.read()
    assert [each.at % 60 for each in seen] == [second + 0.5 for second in range(30)]
    assert log.stat().st_size < 1000


# The whole


def test_the_bench_of_a_soak_drives_a_triton_and_counts(
    pods_work: None, triton_installation: TritonInstallation
) -> None:
    """A few steps and a restart: the moves of the start and of the restart are those that are expected."""
    with deployed() as deployment:
        measured = soak.measure(deployment, soak.Scale(20.0, seed=5, restart_every=6.0))
    figures = {each.name: each.figure for each in measured if isinstance(each, Result)}
    assert figures["wrong gate moves"] == 0
    assert figures["gate moves that did not come"] == 0
    assert figures["ends before its time"] == 0
    assert figures["answers that did not come, or /healthz not 200"] == 0
    restarts = figures["steps: restart Triton"]
    assert restarts >= 1
    assert figures["gate moves as expected"] == 2 + 4 * restarts
    raised = next(each for each in measured if isinstance(each, Listing) and "raised" in each.title)
    assert ("critical", "TritonDown", str(int(restarts))) in raised.rows
    assert "seed 5" in next(each.conditions for each in measured if isinstance(each, Result))


def test_a_soak_that_breaks_off_tells_what_it_saw(
    pods_work: None, triton_installation: TritonInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour's findings are not lost to an error in its last minute; that it ended early is not met."""

    def breaks(_: object, __: object) -> None:
        raise SandboxError("no more")

    monkeypatch.setattr(Driver, "take", breaks)
    with deployed() as deployment:
        measured = soak.measure(deployment, soak.Scale(60.0, seed=5))
    results = {each.name: each for each in measured if isinstance(each, Result)}
    assert results["ends before its time"].met is False
    assert results["gate moves as expected"].figure == 2
    assert ("no more",) in [row for each in measured if isinstance(each, Listing) for row in each.rows]


def test_without_a_seed_there_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the conditions, and a quick soak is a short one."""
    scales: list[soak.Scale] = []

    def measure(_: object, scale: soak.Scale) -> list[Result]:
        scales.append(scale)
        return []

    class Deployed:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(soak, "measure", measure)
    monkeypatch.setattr(soak, "deployed", Deployed)
    for options in (Options(), Options(quick=True), Options(seconds=60.0, seed=3)):
        soak.run(options)
    assert [each.seconds for each in scales] == [3600.0, 300.0, 60.0]
    assert [each.restart_every for each in scales] == [600.0, 100.0, 20.0]
    assert scales[2].seed == 3
