"""Is a dead, stopped or missing stub told, with what it means on this release?"""

from __future__ import annotations

import pytest

from probe.checks.stubs import judge, lost_instances
from probe.facts.container import MemoryUse
from probe.facts.findings import SubjectKind
from probe.facts.gates import Gate
from probe.facts.models import InstanceKind, ModelState
from probe.facts.processes import ProcessState, Stub
from probe.facts.triton import Failure
from probe.settings import HealSettings, Settings
from tests.worlds import MIB, World, config, entry, group, python_model, row, server, serving, stub

TWO = python_model("m", 2)
VLLM = "/opt/tritonserver/backends/vllm"


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def killed(seen: World, pid: int = 101, **how: int) -> World:
    """This stub died, and everybody looked."""
    return seen.exits(pid, **(how or {"signal": 9})).scans().polls().asks()


# StubDead


def test_a_death_is_told_with_its_cause_and_what_is_left() -> None:
    """The moment is the exit's own, the subject the instance."""
    seen = serving(TWO)
    moment = seen.now
    claim = killed(seen.contained(memory=MemoryUse(oom_kills=3)).later(-1)).only("StubDead")
    assert (claim.subject.kind, claim.subject.model) == (SubjectKind.INSTANCE, "m")
    assert (claim.subject.version, claim.subject.instance) == ("1", "m_0_1")
    assert claim.event_at == claim.observed == moment
    assert "(pid 101) exited, killed by SIGKILL" in claim.message
    assert "1 of 2 instances are left" in claim.message
    assert "still says that the model is ready" in claim.message
    assert claim.evidence == {
        "pid": 101,
        "cause": "killed by SIGKILL",
        "cause_rests_on": "the exit status that the kernel told; the container's count of OOM kills was not read "
        "at that moment",
        "signal": 9,
        "exit_code": None,
        "instances_alive": 1,
        "instances_expected": 2,
        "last_rss_bytes": 100 * MIB,
        "shm_region": "triton_python_backend_shm_region_101",
        "container_oom_kills": 3,
        "tree_rss_bytes": 100 * MIB,
        "tree_grown_bytes": 0,
    }


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"signal": 11}, "killed by SIGSEGV"),
        ({"signal": 100}, "killed by signal 100"),
        ({"code": 3}, "with exit code 3"),
        ({"code": 0}, "with exit code 0"),
        (None, "for a cause that the kernel does not tell here"),
    ],
)
def test_the_cause_of_an_exit_is_what_the_kernel_told(how: dict[str, int] | None, said: str) -> None:
    """And no more than that."""
    seen = serving(TWO)
    seen = seen.without_stub(101).scans().polls().asks() if how is None else killed(seen, **how)
    assert said in seen.only("StubDead").message
    assert seen.only("StubDead").evidence["cause"] == said


@pytest.mark.parametrize(
    ("version", "decoupled", "spared"),
    [
        ("2.34.0", False, True),
        ("2.46.0", False, True),
        ("2.46.0", True, False),
        ("2.47.0", False, False),
        ("2.51.0", False, False),
        ("2.68.0", False, False),
        ("garbage", False, True),
        (None, False, True),
        (None, True, False),
    ],
)
def test_live_is_failed_only_where_triton_never_starts_a_stub_again(
    version: str | None, *, decoupled: bool, spared: bool
) -> None:
    """Before 24.06 the next request does, but never for a decoupled model; an unknown release may."""
    seen = serving(python_model("m", 2, decoupled=decoupled), version=version)
    died = seen.exits(100, signal=9).scans().polls(version=version)
    assert died.only("StubDead").spares == (frozenset((Gate.LIVE,)) if spared else frozenset())


@pytest.mark.parametrize(("version", "decoupled"), [("2.46.0", False), ("2.46.0", True), ("2.47.0", False)])
def test_the_remedy_is_what_this_release_of_triton_needs(version: str, *, decoupled: bool) -> None:
    """Up to 24.05 a request starts the stub again, and where ready is failed for it nobody sends one."""
    seen = serving(python_model("m", 2, decoupled=decoupled), version=version)
    claim = seen.exits(100, signal=9).scans().polls(version=version).only("StubDead")
    by_request = version == "2.46.0" and not decoupled
    assert ("Send the model a request" in claim.remedy) == by_request
    assert ("starts the stub again with the next request" in claim.message) == by_request
    assert ("share of requests fails" in claim.message) != by_request


def test_a_death_of_a_model_without_a_configuration_is_told_with_who_is_left() -> None:
    """How many there should be is not known."""
    seen = World(server=server(), rows=(row("m"),), stubs=serving(TWO).stubs).scans().polls().scans()
    claim = killed(seen).only("StubDead")
    assert "; 1 are left." in claim.message
    assert claim.evidence["instances_expected"] is None
    assert claim.evidence["container_oom_kills"] is None
    lost = lost_instances(killed(seen).seen, killed(seen).record("m"))
    assert lost is not None
    assert (lost.count, lost.expected) == (1, 2)


def test_no_more_deaths_are_told_than_instances_are_missing() -> None:
    """A stub that was started again and died again is one dead instance; the latest death is told."""
    seen = killed(serving(TWO), 101).with_stub(stub(300, "m_0_1")).scans()
    seen = killed(seen, 300, signal=6)
    (claim,) = seen.claims(judge)
    assert claim.evidence["pid"] == 300


def test_a_model_that_is_whole_has_lost_nothing() -> None:
    """None, so that an ensemble need not count."""
    seen = serving(TWO)
    assert lost_instances(seen.seen, seen.record("m")) is None
    died = killed(seen)
    lost = lost_instances(died.seen, died.record("m"))
    assert lost is not None
    assert (lost.count, lost.expected, lost.observed) == (1, 2, seen.now)


def test_nothing_is_said_of_stubs_once_triton_is_gone_or_the_model_is_not_ready() -> None:
    """Others say it."""
    assert reasons(killed(serving(TWO)).server_exits(signal=9)) == []
    assert reasons(killed(serving(TWO)).without_model("m").polls()) == []
    assert reasons(World().scans().fails(Failure.REFUSED)) == []


# StubFrozen


def test_a_stopped_stub_is_told_at_once_and_since_when() -> None:
    """It is a fact at one look; the moment of the claim is that of the last scan."""
    seen = serving(TWO).with_stub(stub(100, "m_0_0", state=ProcessState.STOPPED)).scans()
    claim = seen.later(7).only("StubFrozen")
    assert claim.subject.instance == "m_0_0"
    assert "is stopped since 8 s" in claim.message
    assert claim.evidence == {"pid": 100, "state": "stopped"}
    assert "restart the Triton container" in claim.remedy
    again = seen.scans()
    assert again.only("StubFrozen").observed == seen.now
    assert reasons(seen.with_stub(stub(100, "m_0_0")).scans()) == []


def test_a_stub_in_a_frozen_cgroup_is_told_at_once_with_its_cgroup() -> None:
    """Also where it hung in the kernel before, as version 1 shows it; thawed, it is well."""
    seen = serving(TWO).with_stub(stub(100, "m_0_0", frozen="/pods/triton")).scans()
    claim = seen.later(7).only("StubFrozen")
    assert "is held by a frozen cgroup, /pods/triton, since 8 s" in claim.message
    assert claim.evidence == {"pid": 100, "state": "frozen", "cgroup": "/pods/triton"}
    assert "docker pause" in claim.remedy
    assert "restart the Triton container" in claim.remedy
    assert reasons(seen.with_stub(stub(100, "m_0_0")).scans()) == []
    stuck = serving(TWO).with_stub(stub(100, "m_0_0", state=ProcessState.UNINTERRUPTIBLE)).scans().scans()
    since = stuck.scans().alive("m")[0].stopped_since
    held = stuck.scans().with_stub(stub(100, "m_0_0", frozen="/a")).scans()
    assert held.only("StubFrozen").evidence["cgroup"] == "/a"
    assert held.alive("m")[0].stopped_since == since


def test_uninterruptible_sleep_is_told_when_it_lasts() -> None:
    """One look, and even a second, is disk access; three looks without a tick are a hang."""
    seen = serving(TWO).with_stub(stub(100, "m_0_0", state=ProcessState.UNINTERRUPTIBLE))
    assert reasons(seen.scans()) == reasons(seen.scans().scans()) == []
    claim = seen.scans().scans().scans().only("StubFrozen")
    assert "hangs in the kernel (state D)" in claim.message
    assert "kernel log" in claim.remedy


# InstancesMissing


def test_fewer_stubs_than_instances_without_a_witness_are_missing() -> None:
    """Nobody saw them end, so nobody calls them dead."""
    seen = serving(TWO).having(stubs=())
    fresh = World(server=server(), rows=seen.rows, configs=(TWO,), stubs=(stub(100, "m_0_0"),))
    fresh = fresh.scans().polls().asks().scans()
    claim = fresh.only("InstancesMissing")
    assert claim.subject.kind is SubjectKind.MODEL
    assert "calls for 2 instances and has 1 live stub process;" in claim.message
    assert claim.evidence == {"expected": 2, "alive": 1, "missing": 1}
    assert reasons(fresh) == ["InstancesMissing"]
    assert reasons(fresh.with_stub(stub(101, "m_0_1")).scans()) == []


def test_only_a_scan_after_triton_said_ready_can_miss_a_stub() -> None:
    """One before may be of a moment when it was still starting; the configuration counts likewise."""
    world = World(server=server(), rows=(row("m"),), configs=(TWO,))
    assert reasons(world.scans().polls().asks()) == []
    assert reasons(world.scans().polls().scans().asks()) == []
    assert reasons(world.scans().polls().asks().scans()) == ["InstancesMissing"]
    # Ready is what the poll said when it ended, which is later than this scan.
    slow = world.scans().polls(answered=world.now.shifted(30)).asks().scans()
    assert reasons(slow) == []


@pytest.mark.parametrize(
    ("nobodys", "missing"),
    [
        (stub(50, "m_0_7", "elsewhere"), False),
        (stub(50, "", "elsewhere"), False),
        (stub(50, "other_0", "elsewhere"), True),
        (stub(50, "m_0_7", "elsewhere", start=1), True),
    ],
    ids=["of its group", "without a name", "of another group", "older than tritonserver"],
)
def test_a_stub_that_no_model_was_found_for_may_be_the_one_that_is_missing(
    nobodys: Stub, *, missing: bool
) -> None:
    """Then nothing is known to be missing."""
    other = config("n", group("x"), version="2")
    world = World(server=server(), rows=(row("m"), row("n", "2")), configs=(TWO, other), stubs=(nobodys,))
    seen = world.scans().polls().asks(index=(entry("elsewhere", ModelState.UNKNOWN, version=""),)).scans()
    assert (
        "InstancesMissing" in {each.reason for each in seen.claims(judge) if each.subject.model == "m"}
    ) == missing


def test_a_configuration_that_is_only_read_again_makes_no_scan_too_old() -> None:
    """It is told since it is as it is."""
    seen = World(server=server(), rows=(row("m"),), configs=(TWO,)).scans().polls().asks().scans()
    assert reasons(seen.asks()) == ["InstancesMissing"]
    changed = seen.with_config(python_model("m", 3)).asks()
    assert reasons(changed) == []
    assert reasons(changed.scans()) == ["InstancesMissing"]


def test_a_dead_instance_is_not_missing_too() -> None:
    """Nor is one whose exit has not been explained yet."""
    seen = serving(TWO)
    assert reasons(seen.exits(100, signal=9).scans()) == []
    assert reasons(killed(seen).scans()) == ["StubDead"]
    both = World(server=server(), rows=seen.rows, configs=(python_model("m", 3),), stubs=seen.stubs)
    assert sorted(reasons(killed(both.scans().polls().asks().scans()).scans())) == [
        "InstancesMissing",
        "StubDead",
    ]


@pytest.mark.parametrize(
    "seen",
    [
        serving(TWO, server=None),
        serving(config("o", group("o"), backend="onnxruntime")),
        serving(config("v", group("v_0", InstanceKind.MODEL), backend="vllm")),
        World(rows=(row("m"),)).polls().asks(configs=(TWO,)),
    ],
    ids=["unseen server", "no stubs", "stubs never seen", "never scanned"],
)
def test_where_stubs_can_not_be_counted_none_are_missing(seen: World) -> None:
    """Ignorance is no finding."""
    assert reasons(seen) == []


def test_a_vllm_stub_that_was_seen_is_missed_when_it_ends() -> None:
    """A backend written in python has stubs like the python backend."""
    llm = config("llm", group("llm_0", InstanceKind.MODEL), backend="vllm")
    seen = serving(llm).with_stub(stub(50, "llm_0_0", path=f"{VLLM}/model.py", runtime=VLLM)).scans().polls()
    assert reasons(seen) == []
    claim = killed(seen, 50).only("StubDead")
    assert claim.subject.instance == "llm_0_0"
    assert "0 of 1 instances are left" in claim.message


# What the probe itself does about it


def test_a_woken_engineer_reads_that_the_probe_reloads_by_itself() -> None:
    """Only where it may, and where Triton lets it; else the remedy says why nothing happens."""
    explicit = server("--model-control-mode=explicit")
    healing = Settings(heal=HealSettings(reload_model=True))
    by_hand = killed(serving(TWO, server=explicit)).only("StubDead", judge).remedy
    assert "by itself" not in by_hand
    told = killed(serving(TWO, server=explicit, settings=healing)).only("StubDead", judge).remedy
    assert told.startswith("The probe reloads the model by itself (heal.reload_model)")
    assert told.endswith(by_hand)
    refused = killed(serving(TWO, settings=healing)).only("StubDead", judge).remedy
    assert refused.startswith("Restart the Triton container")
    assert refused.endswith("heal.reload_model is on, and works only with --model-control-mode=explicit.")
