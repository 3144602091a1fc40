"""From observations to snapshots: the whole fold, without a loop."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from probe.engine.publishing import Publisher
from probe.engine.tracking import Track
from probe.engine.transitions import KEPT
from probe.facts.findings import Finding
from probe.facts.gates import AT_ONCE, Gate
from probe.facts.models import InstanceKind, ModelState
from probe.facts.nvml import NvmlState
from probe.facts.status import Snapshot
from probe.facts.triton import Failure
from probe.settings import ModelsSettings, RestartSettings, Settings
from tests.worlds import GIB, START, World, at, entry, gpu, python_model, server, serving, stub

TWO = python_model("m", 2)
TRACKS = {"triton": Track(START).looked(at(1), 0.02, ok=True, delivered=True, error=None)}


class Judged:
    """A publisher and what it last published."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.publisher = Publisher(settings or Settings(), "1.2.3", START)
        self.last: Snapshot | None = None

    def of(self, world: World) -> Snapshot:
        """Judge this moment."""
        self.last = self.publisher.snapshot(world.seen, TRACKS)
        return self.last

    def gates(self, world: World) -> dict[str, bool]:
        """Judge this moment, and say how the gates are."""
        return {gate.value: each.ok for gate, each in self.of(world).status.gates.items()}

    def finding(self, reason: str) -> Finding:
        """The one finding of this reason."""
        assert self.last is not None
        (found,) = (each for each in self.last.status.findings if each.reason == reason)
        return found


def killed(world: World, *instances: str) -> World:
    """These stubs are killed, and both who is left and what Triton has loaded is seen after it."""
    for instance in instances:
        world = world.exits(instance, signal=9)
    return world.scans().polls()


def serving_anew(world: World) -> World:
    """Another tritonserver with the same models and new stubs, everything read."""
    before = world.server
    assert before is not None
    pid = before.process.id.pid + 1000
    stubs = (stub(pid + 1, "m_0_0"), stub(pid + 2, "m_0_1"))
    gone = world.server_exits(signal=9).having(server=server(pid=pid), stubs=stubs)
    return gone.scans().polls().asks().scans()


def test_nothing_seen_is_initializing() -> None:
    """200 for live, 503 for ready and startup, and no figure made up."""
    judged = Judged()
    assert judged.gates(World()) == {"live": True, "ready": False, "startup": False}
    snapshot = judged.of(World())
    assert [each.reason for each in snapshot.status.findings] == ["Initializing"]
    assert snapshot.status.gates[Gate.READY].findings == snapshot.status.findings
    assert snapshot.status.triton.reachable is None
    assert snapshot.status.models == ()
    assert snapshot.known_models == frozenset()


def test_a_serving_triton_has_every_gate_open() -> None:
    """With its models, and its own state."""
    assert Judged().gates(serving(TWO)) == {"live": True, "ready": True, "startup": True}


def test_a_death_fails_ready_at_once_and_live_after_a_minute() -> None:
    """And the cure opens both at once."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    dead = killed(world, "m_0_1")
    assert judged.gates(dead) == {"live": True, "ready": False, "startup": True}
    assert judged.finding("StubDead").pending == (Gate.LIVE,)
    assert judged.publisher.due(dead.now) == 60
    assert judged.gates(dead.later(60)) == {"live": False, "ready": False, "startup": True}
    assert judged.finding("StubDead").gates == (Gate.READY, Gate.LIVE)
    assert judged.publisher.due(dead.later(60).now) is None
    cured = dead.later(61).with_stub(stub(200, "m_0_1")).scans()
    assert judged.gates(cured) == {"live": True, "ready": True, "startup": True}


def test_the_delay_of_detection_is_taken_once_from_the_event_to_the_first_gate() -> None:
    """Two deaths in one judgement are two delays; the live gate a minute later is none."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    event = world.now
    dead = killed(world, "m_0_0", "m_0_1")
    snapshot = judged.of(dead)
    delays = snapshot.tallies.delays["StubDead"]
    seconds = dead.now.mono - event.mono
    assert sum(delays.counts) == 2
    # The second died a second after the first.
    assert delays.total == pytest.approx(2 * seconds - 1)
    (moved,) = (
        each for each in snapshot.transitions if each.kind == "gate_failed" and each.reason == "StubDead"
    )
    assert moved.delay_seconds in (pytest.approx(seconds), pytest.approx(seconds - 1))
    for later in (1, 60, 61):
        assert judged.of(dead.later(later)).tallies.delays["StubDead"] == delays
    live = next(each for each in judged.of(dead.later(62)).transitions if each.gate is Gate.LIVE)
    assert live.kind == "gate_failed"
    assert live.delay_seconds is None


def test_a_shadowed_reason_is_listed_counted_and_moves_nothing() -> None:
    """To be watched before it is trusted."""
    judged, world = Judged(Settings(shadow=("StubDead",))), serving(TWO)
    judged.of(world)
    snapshot = judged.of(killed(world, "m_0_1"))
    assert snapshot.status.gates[Gate.READY].ok
    assert judged.finding("StubDead").shadow
    assert snapshot.tallies.findings["StubDead"] == 1
    assert snapshot.tallies.delays == {}


def test_findings_are_listed_by_severity_critical_first() -> None:
    """Whoever reads the first line reads the worst."""
    world = killed(serving(TWO, server=server()).contained().looks(state=NvmlState.NO_LIBRARY), "m_0_1")
    found = Judged().of(world).status.findings
    assert [each.severity.value for each in found] == sorted(
        (each.severity.value for each in found), key=["critical", "warning", "info"].index
    )
    assert found[0].reason == "StubDead"
    assert len({each.severity for each in found}) > 1


def test_startup_that_opened_stays_open_within_its_epoch_and_starts_anew_with_the_next() -> None:
    """A model that loads later fails it no more; a new tritonserver does."""
    judged, world = Judged(), serving(TWO)
    loading = world.asks(index=(entry("m", ModelState.READY), entry("late", ModelState.LOADING)))
    assert judged.gates(loading)["startup"] is False
    assert judged.gates(world)["startup"] is True
    assert judged.gates(loading)["startup"] is True
    assert judged.finding("ModelLoading").pending == ()
    again = loading.server_exits(signal=9).having(server=server(pid=77), stubs=()).scans()
    assert judged.gates(again) == {"live": True, "ready": False, "startup": False}
    assert judged.finding("Initializing").gates == (Gate.READY, Gate.STARTUP)


def test_a_new_epoch_drops_verdicts_and_keeps_counters() -> None:
    """What was pending against live does not run on under the next server."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    dead = killed(world, "m_0_1")
    judged.of(dead)
    again = serving_anew(dead.later(50))
    snapshot = judged.of(again)
    assert snapshot.status.triton.epoch == 2
    assert snapshot.status.findings == ()
    second = killed(again, "m_0_1")
    judged.of(second)
    # The same instance dies under a third server before anybody looked: another finding, a hold of its own.
    third = killed(serving_anew(second.later(50)), "m_0_1")
    snapshot = judged.of(third)
    assert judged.finding("StubDead").since == third.now.as_datetime()
    assert [each.kind for each in snapshot.transitions[:3]] == ["finding_raised", "finding_cleared", "epoch"]
    assert judged.gates(third.later(15))["live"] is True
    assert snapshot.tallies.findings["StubDead"] == 3
    assert snapshot.tallies.stub_exits == {("m", "signal"): 3}
    assert judged.gates(third.later(60))["live"] is False


def test_a_missing_sample_neither_raises_nor_clears() -> None:
    """While Triton does not answer, what was known of its models stands."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    dead = killed(world, "m_0_1")
    judged.of(dead)
    since = judged.finding("StubDead").since
    judged.of(dead.fails(Failure.TIMEOUT))
    assert judged.finding("StubDead").since == since
    assert judged.finding("TritonHung").pending == (Gate.READY, Gate.LIVE)


def test_transitions_are_newest_first_and_500_are_kept() -> None:
    """What flaps for hours fills no memory."""
    judged, world = Judged(), serving(TWO)
    snapshot = judged.of(world)
    for turn in range(KEPT // 4 + 5):
        # So seldom that nothing is kept for having come and gone.
        world = killed(world.later(400), "m_0_1")
        judged.of(world)
        world = world.with_stub(stub(500 + turn, "m_0_1")).scans().polls()
        snapshot = judged.of(world)
    assert len(snapshot.transitions) == KEPT == 500
    moments = [each.at for each in snapshot.transitions]
    assert moments == sorted(moments, reverse=True)
    assert snapshot.transitions[0].kind == "gate_opened"


def test_transitions_count_every_move_but_the_first_sight() -> None:
    """How a gate was found when the probe started is no move."""
    judged = Judged()
    assert judged.of(World()).tallies.gate_transitions == dict.fromkeys(Gate, 0)
    tallies = judged.of(serving(TWO)).tallies
    assert tallies.gate_transitions == {Gate.LIVE: 0, Gate.READY: 1, Gate.STARTUP: 1}
    assert tallies.findings["Initializing"] == 1
    assert tallies.sources["triton"].last_success_wall == at(1).wall


def test_suspects_are_models_with_a_critical_finding() -> None:
    """A warning may stand for ever, and would cost Triton a question at every look."""
    implicit = msgspec.structs.replace(TWO, groups=(msgspec.structs.replace(TWO.groups[0], name="m"),))
    judged, world = Judged(), serving(implicit, python_model("n"))
    warned = judged.of(world).status.findings
    assert "PlacementImplicit" in {each.reason for each in warned}
    assert judged.publisher.suspects == frozenset()
    judged.of(killed(world, "n_0_0"))
    assert judged.publisher.suspects == {"n"}


def test_known_models_are_those_of_triton_and_of_configuration() -> None:
    """So that a request about a required model that is missing is no typing error."""
    settings = Settings(models=ModelsSettings(required=("absent",)))
    world = serving(TWO, settings=settings).asks(
        index=(entry("m", ModelState.READY), entry("never", ModelState.UNKNOWN))
    )
    assert Judged(settings).of(world).known_models == {"m", "never", "absent"}


# The shape of /status


def everything() -> World:
    """A world in which no part of the status is empty."""
    config = python_model("m", 2, InstanceKind.GPU, (0,))
    world = serving(config, server=server(minors=(0,)))
    world = world.looks(gpu("GPU-a", {100: GIB, 101: GIB}, minor=0)).contained(cgroup=2).scans()
    return killed(world, "m_0_1")


ADDED = "pending shadow"
FINDING = f"reason severity subject gates message remedy action evidence since observed_at {ADDED}"
CONTRACT = {
    "": "schema probe triton gates findings models gpus container evidence sizing",
    "probe": "version started_at uptime_seconds loop_age_seconds sources",
    "probe.sources.triton": "ok age_seconds error duration_seconds",
    "triton": "version pid epoch reachable live ready control_mode readiness_semantics",
    "gates": "live ready startup",
    "gates.ready": "ok since findings",
    "gates.ready.findings.0": FINDING,
    "findings.0": FINDING,
    "models.0": "canary name version state backend platform ready placement instances stubs traffic "
    "shm_bytes",
    "models.0.placement": "verdict expected declared explicit gpus gpu_memory_bytes why memory_bytes_by_gpu",
    "models.0.instances": "expected alive dead frozen",
    "models.0.stubs.0": "pid instance state rss_bytes gpu_memory_bytes gpus shm_region shm_bytes children",
    "models.0.traffic": "success_total failure_total last_success_seconds_ago compute_seconds_per_inference",
    "gpus.0": "uuid name minor mig memory_total_bytes memory_used_bytes recovery_action xids ok",
    "container": "cgroup qos memory cpu pids shm",
    "container.shm": "size_bytes used_bytes orphan_bytes peak_bytes inodes_free regions others",
    "evidence": "mode why",
    "sizing": "since watched_seconds minutes busy_minutes enough why_not headroom container models proposal",
}
"""Section 3 of the contract: the keys at each place."""


@pytest.mark.parametrize("place", CONTRACT)
def test_the_status_has_exactly_the_keys_of_the_contract(place: str) -> None:
    """In JSON, as every surface writes it; additions are made here and in the contract."""
    found: Any = msgspec.json.decode(msgspec.json.encode(Judged().of(everything()).status))
    for name in filter(None, place.split(".")):
        found = found[int(name)] if name.isdigit() else found[name]
    assert set(found) == set(CONTRACT[place].split())


@pytest.mark.parametrize(
    "world", [World(), serving(TWO), everything()], ids=["nothing", "serving", "everything"]
)
def test_every_status_and_every_transition_is_json(world: World) -> None:
    """Whatever is known, and what is not known is null."""
    snapshot = Judged().of(world)
    status = msgspec.json.decode(msgspec.json.encode(snapshot.status))
    assert status["schema"] == 1
    assert status["probe"]["version"] == "1.2.3"
    assert status["gates"].keys() == {"live", "ready", "startup"}
    assert len(msgspec.json.decode(msgspec.json.encode(snapshot.transitions))) == len(snapshot.transitions)


# Findings that come and go


def flapping(judged: Judged, world: World, times: int) -> World:
    """A stub is killed and replaced, as Triton does up to 24.05, so often and within seconds."""
    for each in range(times):
        world = killed(world, "m_0_1")
        judged.of(world)
        world = world.with_stub(stub(500 + each, "m_0_1")).scans().polls()
        judged.of(world)
    return world


def test_ready_does_not_toggle_with_a_finding_that_comes_and_goes() -> None:
    """From the third time on it is kept, is not raised anew when it returns, and goes after its time."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    world = flapping(judged, world, 3)
    assert judged.gates(world) == {"live": True, "ready": False, "startup": True}
    assert "came and went 3 times in 10 min; kept until 30 s" in judged.finding("StubDead").message
    left = judged.publisher.due(world.now)
    assert left is not None
    again = flapping(judged, world, 1)
    assert judged.gates(again)["ready"] is False
    tallies = judged.of(again).tallies
    assert tallies.findings["StubDead"] == 3
    assert tallies.gate_transitions[Gate.READY] == 5
    left = judged.publisher.due(again.now)
    assert left is not None
    assert left <= 60
    assert judged.gates(again.later(left - 0.1))["ready"] is False
    assert judged.gates(again.later(left)) == {"live": True, "ready": True, "startup": True}
    assert judged.of(again.later(left)).tallies.findings["StubDead"] == 3


def test_a_reload_opens_ready_at_once_however_often_the_model_was_ill() -> None:
    """The cure that the finding names is no pause of the trouble."""
    judged, world = Judged(), serving(TWO)
    judged.of(world)
    world = killed(flapping(judged, world, 4), "m_0_1")
    assert judged.gates(world)["ready"] is False
    away = (
        world.having(rows=(), stubs=()).polls().asks(index=(entry("m", ModelState.UNAVAILABLE, "unloaded"),))
    )
    judged.of(away)
    back = away.having(rows=world.rows, stubs=(stub(801, "m_0_0"), stub(802, "m_0_1")))
    assert judged.gates(back.scans().polls().asks().scans())["ready"] is True


# The budget of restarts


def restarting(times: int, **restarts: float) -> tuple[Judged, World]:
    """A stub that dies under one tritonserver after the other, and fails live at once."""
    settings = Settings(
        gates={"StubDead": {Gate.LIVE: AT_ONCE}},
        restarts=msgspec.convert(restarts, RestartSettings),
    )
    judged, world = Judged(settings), serving(TWO, settings=settings)
    judged.of(world)
    for _ in range(times):
        world = killed(world, "m_0_1")
        assert judged.gates(world)["live"] is False
        world = serving_anew(world)
        assert judged.gates(world)["live"] is True
    return judged, killed(world, "m_0_1")


def test_when_the_budget_is_spent_live_stays_open_and_a_finding_says_so() -> None:
    """No finding lists the live gate any more; ready fails by both."""
    judged, world = restarting(3)
    snapshot = judged.of(world)
    assert snapshot.status.gates[Gate.LIVE].ok
    assert snapshot.status.gates[Gate.LIVE].findings == ()
    assert not snapshot.status.gates[Gate.READY].ok
    dead, spent = judged.finding("StubDead"), judged.finding("RestartBudgetSpent")
    assert (dead.gates, dead.pending) == ((Gate.READY,), ())
    assert (spent.gates, spent.severity.value) == ((Gate.READY,), "critical")
    assert "StubDead m/1 m_0_1" in spent.message
    assert snapshot.tallies.gate_transitions[Gate.LIVE] == 6
    later = judged.of(world.later(100))
    assert judged.finding("RestartBudgetSpent").since == spent.since
    assert later.tallies.findings["RestartBudgetSpent"] == 1


def test_the_budget_is_said_to_be_spent_only_while_something_wants_a_restart() -> None:
    """A cure ends it at once; the next death is refused as well, and pending is nothing that will not be."""
    judged, world = restarting(1, max=1)
    assert judged.gates(world)["live"] is True
    cured = world.with_stub(stub(9000, "m_0_1")).scans().polls()
    assert judged.gates(cured) == {"live": True, "ready": True, "startup": True}
    judged.of(killed(cured, "m_0_1"))
    assert judged.finding("RestartBudgetSpent").gates == (Gate.READY,)


def test_when_the_window_slides_free_live_fails_again_at_that_moment() -> None:
    """``due`` wakes the loop for it."""
    judged, world = restarting(2, max=2, window=600)
    judged.of(world)
    left = judged.publisher.due(world.now)
    assert left is not None
    assert judged.gates(world.later(left - 0.1))["live"] is True
    assert judged.gates(world.later(left))["live"] is False
    assert "RestartBudgetSpent" not in {each.reason for each in judged.of(world.later(left)).status.findings}


def test_a_pending_live_gate_is_not_shown_while_the_budget_is_spent() -> None:
    """It would say that something will happen which will not."""
    settings = Settings(restarts=RestartSettings(max=0))
    judged, world = Judged(settings), serving(TWO, settings=settings)
    judged.of(world)
    judged.of(killed(world, "m_0_1"))
    assert judged.finding("StubDead").pending == ()
    assert judged.gates(killed(world, "m_0_1").later(60))["live"] is True
    assert judged.finding("RestartBudgetSpent").message.startswith("restarts.max is 0")


def test_in_shadow_the_budget_moves_no_gate_and_still_refuses() -> None:
    """What it refuses is a setting of its own."""
    settings = Settings(restarts=RestartSettings(max=0), shadow=("RestartBudgetSpent",))
    judged, world = Judged(settings), serving(TWO, settings=settings)
    judged.of(world)
    dead = killed(world, "m_0_1")
    judged.of(dead)
    assert judged.gates(dead.later(60))["live"] is True
    assert judged.finding("RestartBudgetSpent").gates == ()
