"""Is the cause of a failed load told from what the probe saw die in it, and never from another load?"""

from __future__ import annotations

import time
from typing import Any

import pytest

from probe.checks.models import judge
from probe.facts.container import Limit, MemoryUse, ShmUse
from probe.facts.findings import Claim
from probe.facts.models import ModelState
from probe.facts.processes import Stub
from probe.ledgers.obituaries import KEPT
from probe.settings import Settings
from probe.settings.schema import ModelsSettings
from tests.worlds import GIB, MIB, World, entry, python_model, server, serving, stub, worker

OTHER = python_model("other")
UNHEALTHY = "Internal: Stub process 'm_0_0' is not healthy."
NO_SPACE = (
    "Internal: Unable to initialize shared memory key 'x' to requested size. Error: No space left on device"
)
CODE = "Internal: RuntimeError: Engine core initialization failed\n\nAt:\n  model.py(3): initialize"
PATH = "/c/memory.events"


def counted(world: World, kills: int | None, held: int = 100 * MIB, **more: Any) -> World:  # noqa: ANN401
    """The container is looked at: so many kills, so much of 600 MiB."""
    limit = Limit(600.0 * MIB, "max")
    return world.contained(memory=MemoryUse(limit, held, held, oom_kills=kills, oom_kills_path=PATH), **more)


def indexed(world: World, state: ModelState, text: str = "", name: str = "m", version: str = "1") -> World:
    """Triton's index says this of the model, and that the other one serves."""
    return world.asks(index=(entry("other", ModelState.READY), entry(name, state, text, version)))


def loading(*stubs: Stub, world: World | None = None, kills: int | None = 0) -> World:
    """A model loads beside one that serves, and these are its stubs."""
    begun = world if world is not None else counted(serving(OTHER), kills)
    new = stubs or (stub(200, "m_0_0", rss=300 * MIB),)
    return indexed(begun.with_stub(*new).scans(), ModelState.LOADING)


def failed(world: World, text: str = UNHEALTHY) -> Claim:
    """Triton gives up, and what is said of it."""
    return indexed(world, ModelState.UNAVAILABLE, text).only("ModelLoadFailed", judge)


# What was seen


def test_a_stub_that_the_kernel_killed_in_its_load_is_the_cause() -> None:
    """With the count, what was held of which limit, and a line that is above it."""
    claim = failed(counted(loading().exits(200, signal=9), 1))
    assert claim.evidence["cause"] == "stub_oom_killed"
    assert claim.message.startswith(
        f"Triton gave up loading it (stub_oom_killed): {UNHEALTHY} Its stub process"
    )
    assert "m_0_0 (pid 200) ended while it loaded, killed by the kernel for want of memory" in claim.message
    assert f"(oom_kill of {PATH} rose from 0 to 1)" in claim.message
    assert "The container held 100 MiB of its limit of 600 MiB" in claim.message
    assert "from 600Mi to 768Mi or more (the process last held 300 MiB)" in claim.remedy
    assert "resources: {limits: {memory: 768Mi}}" in claim.remedy
    assert "nobody saw how much" in claim.remedy
    assert claim.remedy.endswith("Then load m again.")
    assert {
        "pid": 200,
        "process": "m_0_0",
        "signal": 9,
        "processes_dead": 1,
        "tree_rss_bytes": 300 * MIB,
        "container_limit_bytes": 600 * MIB,
    }.items() <= claim.evidence.items()


@pytest.mark.parametrize(
    ("how", "said", "remedy"),
    [
        ({"signal": 9}, "killed by SIGKILL.", "who sends such a signal"),
        ({"signal": 11}, "killed by SIGSEGV.", "who sends such a signal"),
        ({"code": 3}, "with exit code 3.", "os._exit"),
        ({"code": 0}, "with exit code 0.", "os._exit"),
    ],
)
def test_another_end_is_told_as_what_it_was(how: dict[str, int], said: str, remedy: str) -> None:
    """No memory is proposed for what memory did not do."""
    claim = failed(counted(loading().exits(200, **how), 0))
    assert claim.evidence["cause"] == "stub_unhealthy"
    assert f"ended while it loaded, {said}" in claim.message
    assert remedy in claim.remedy
    assert "resources" not in claim.remedy


def test_an_end_that_nobody_can_tell_is_a_possibility_where_there_were_kills() -> None:
    """The count was first read when it had ended."""
    claim = failed(counted(loading(kills=None).without_stub(200).scans(), 2))
    assert "for a cause that the kernel does not tell here" in claim.message
    assert "has killed 2 processes of this container" in claim.message
    assert claim.evidence["cause"] == "stub_unhealthy"
    assert "resources.limits.memory" in claim.remedy
    none = failed(counted(loading().without_stub(200).scans(), 0))
    assert "perhaps" not in none.message


def test_kills_of_another_time_are_no_possibility() -> None:
    """They were counted before the load began, or of this container's past when the probe came."""
    past = counted(serving(OTHER), 2)
    late = counted(past, 3).later(9000).asks()
    for begun, kills in ((past, 2), (late, 3)):
        ended = failed(counted(loading(world=begun).without_stub(200).scans(), kills))
        assert "does not tell here" in ended.message
        unseen = failed(counted(indexed(begun.asks(), ModelState.LOADING), kills))
        assert "did not see its stub process end" in unseen.message
        assert "perhaps" not in ended.message + unseen.message


def test_a_bus_error_with_a_full_dev_shm_is_its_exhaustion() -> None:
    """Although Triton's text says nothing of it."""
    full = counted(loading(), 0, shm=ShmUse(16 * MIB, 16 * MIB)).exits(200, signal=7)
    claim = failed(full)
    assert claim.evidence["cause"] == "shm_exhausted"
    assert "/dev/shm held 16 MiB of 16 MiB." in claim.message
    assert "sizeLimit: 64Mi" in claim.remedy


def test_a_text_that_speaks_of_dev_shm_is_told_with_its_size() -> None:
    """Its regions are gone again by the next look; what it has is not."""
    claim = failed(counted(loading(), 0, shm=ShmUse(16 * MIB, 0)), NO_SPACE)
    assert claim.evidence["cause"] == "shm_exhausted"
    assert "At its last look /dev/shm held 0 MiB of 16 MiB." in claim.message
    assert "sizeLimit: 64Mi" in claim.remedy
    assert claim.evidence["shm_size_bytes"] == 16 * MIB
    unseen = failed(loading(kills=None), NO_SPACE)
    assert "sizeLimit: 1Gi" in unseen.remedy


def test_of_several_stubs_the_one_that_was_killed_is_told() -> None:
    """Triton ends the others when it gives up."""
    pair = (stub(200, "m_0_0"), stub(201, "m_0_1"), stub(202, "m", "m"))
    world = loading(*pair).exits(202, code=0)
    world = counted(world.exits(201, signal=9), 1).exits(200, signal=9)
    claim = failed(world)
    assert claim.evidence["process"] == "m_0_1"
    assert claim.evidence["processes_dead"] == 2
    assert ", and 1 more of the same load ended." in claim.message


def test_an_auto_complete_stub_that_was_killed_is_one_of_the_load() -> None:
    """It runs the model's imports under the bare name of the model; ending by itself is its work."""
    helper = stub(200, "m", "m")
    claim = failed(counted(loading(helper).exits(200, signal=9), 1))
    assert claim.evidence["cause"] == "stub_oom_killed"
    assert "Its stub process m (pid 200)" in claim.message
    quiet = failed(counted(loading(helper).exits(200, code=0), 0))
    assert "did not see its stub process end" in quiet.message


def test_a_worker_that_was_killed_is_told_beside_the_error_of_the_code() -> None:
    """The engine of vLLM is too large, and its frontend raises."""
    engine = stub(200, "m_0_0", workers=[worker(210, rss=GIB)])
    world = counted(loading(engine).worker_exits(210, signal=9), 1).exits(200, code=1)
    claim = failed(world, CODE)
    assert claim.evidence["cause"] == "model_code"
    assert (
        "Its worker VLLM::EngineCore (pid 210) ended while it loaded, killed by the kernel" in claim.message
    )
    assert "{memory: 1536Mi}" in claim.remedy
    alone = failed(counted(loading(engine).exits(200, code=1), 0), CODE)
    assert alone.evidence == {"cause": "model_code", "triton": CODE}


def test_a_text_of_another_release_is_open_to_what_was_seen() -> None:
    """What no pattern knows may be a death."""
    text = "Internal: instance is gone"
    assert failed(counted(loading().exits(200, signal=9), 1), text).evidence["cause"] == "stub_oom_killed"
    assert failed(counted(loading().exits(200, signal=11), 0), text).evidence["cause"] == "unknown"
    assert failed(counted(loading(), 0), text).evidence == {"cause": "unknown", "triton": text}


# Whose load it was


def test_a_death_in_an_earlier_load_does_not_explain_a_later_one() -> None:
    """That was cured, and this is another fault; where it is seen, its own death is told."""
    first = indexed(counted(loading().exits(200, signal=9), 1), ModelState.UNAVAILABLE, UNHEALTHY)
    again = indexed(first.later(20), ModelState.LOADING)
    claim = failed(again)
    assert claim.evidence["cause"] == "stub_unhealthy"
    assert "did not see its stub process end" in claim.message
    assert "perhaps" not in claim.message
    second = indexed(again.with_stub(stub(300, "m_0_0")).scans(), ModelState.LOADING)
    assert failed(counted(second.exits(300, code=3), 1)).evidence["exit_code"] == 3


def test_a_load_that_was_tried_again_between_two_looks_is_told_by_its_last_death() -> None:
    """Triton's text is the same, and nobody saw it load."""
    first = indexed(counted(loading().exits(200, signal=9), 1), ModelState.UNAVAILABLE, UNHEALTHY)
    again = first.later(20).with_stub(stub(300, "m_0_0")).scans().exits(300, code=3)
    assert failed(again).evidence["exit_code"] == 3


def test_the_end_of_what_served_before_is_no_death_in_the_load() -> None:
    """It was unloaded, with force, and the load that followed failed."""
    seen = counted(serving(OTHER, python_model("m")), 0).polls()
    (old,) = (each for each in seen.stubs if each.arguments.name == "m_0_0")
    seen = seen.without_model("m").exits(old.process.id.pid, signal=9).polls()
    claim = failed(counted(seen, 1))
    assert "pid" not in claim.evidence
    assert claim.evidence["cause"] == "stub_unhealthy"


@pytest.mark.parametrize(
    "other",
    [
        stub(200, "n_0_0", "n"),
        stub(200, "m_0_0", "m", version="2"),
        stub(200, "m_0_0", path="/models/other/1/model.py"),
    ],
)
def test_the_stub_of_another_model_or_version_explains_nothing(other: Stub) -> None:
    """By the path of its file."""
    claim = failed(counted(loading(other).exits(200, signal=9), 1))
    assert claim.evidence["cause"] == "stub_unhealthy"


@pytest.mark.parametrize("name", ["m_0_0", "m_3", "m"])
def test_a_path_that_leads_nowhere_leaves_the_name(name: str) -> None:
    """A repository in an object store is copied to a folder of a random name; vLLM runs its backend's file."""
    for path in ("/tmp/folderXY12/1/model.py", "/opt/tritonserver/backends/vllm/model.py", "model.py"):
        claim = failed(counted(loading(stub(200, name, path=path)).exits(200, signal=9), 1))
        assert claim.evidence["cause"] == "stub_oom_killed"


def test_what_died_under_an_earlier_triton_is_not_asked() -> None:
    """The same model fails to load under the next one."""
    unseen = counted(indexed(counted(serving(OTHER), 0), ModelState.LOADING), 1).later(20)
    for killed in (counted(loading().exits(200, signal=9), 1), unseen):
        seen = killed.server_exits(code=1)
        again = serving(OTHER, server=server(pid=77), first_pid=500)
        seen = seen.having(server=again.server, stubs=again.stubs).scans().polls()
        assert failed(counted(seen, 0)).evidence["cause"] == "stub_unhealthy"


# Stubs that were never seen


def test_a_kill_in_the_load_that_no_watched_process_ended_of_is_its_stub() -> None:
    """It was dead before a scan could show it: the count alone tells."""
    world = counted(indexed(counted(serving(OTHER), 0), ModelState.LOADING), 1)
    claim = failed(world)
    assert claim.evidence["cause"] == "stub_oom_killed"
    assert "no process that the probe watched ended of it" in claim.message
    assert "The container held 100 MiB of its limit of 600 MiB" in claim.message
    assert "{memory: 768Mi}" in claim.remedy
    late = counted(
        indexed(indexed(counted(serving(OTHER), 0), ModelState.LOADING), ModelState.UNAVAILABLE, UNHEALTHY), 1
    )
    assert late.only("ModelLoadFailed", judge).evidence["cause"] == "stub_oom_killed"


def test_a_kill_at_another_time_is_not_its_stub() -> None:
    """Before the load began, long after it failed, or where nobody saw it begin."""
    before = indexed(counted(counted(serving(OTHER), 0), 1).asks(), ModelState.LOADING)
    assert failed(counted(before, 1)).evidence["cause"] == "stub_unhealthy"
    after = indexed(
        indexed(counted(serving(OTHER), 0), ModelState.LOADING), ModelState.UNAVAILABLE, UNHEALTHY
    )
    after = counted(counted(after, 0).later(60), 1)
    assert after.only("ModelLoadFailed", judge).evidence["cause"] == "stub_unhealthy"


def test_a_kill_that_another_claims_is_not_its_stub() -> None:
    """Nor one for which there are two loads and one kill."""
    seen = indexed(counted(serving(OTHER), 0), ModelState.LOADING)
    other = counted(seen.exits("other_0_0", signal=9), 1)
    assert failed(other).evidence["cause"] == "stub_unhealthy"
    both = (entry("m", ModelState.UNAVAILABLE, UNHEALTHY), entry("n", ModelState.UNAVAILABLE, UNHEALTHY))
    for kills, cause in ((1, "stub_unhealthy"), (2, "stub_oom_killed")):
        claims = counted(seen, kills).asks(index=both).claims(judge)
        assert [each.evidence["cause"] for each in claims] == [cause, cause]


def test_a_thousand_loads_that_failed_together_are_told_in_no_time() -> None:
    """With kills that may have been of any, and deaths that are of others: a turn of the engine waits for it."""
    names = [f"x{number}" for number in range(1000)]
    others = tuple(stub(3000 + number, f"y{number}_0_0") for number in range(KEPT))
    world = counted(serving(OTHER), 0).with_stub(*others).scans()
    world = counted(world.asks(index=tuple(entry(each, ModelState.LOADING) for each in names)), 1)
    world = counted(world, 3)
    for each in others:
        world = world.exits(each.process.id.pid, signal=11)
    world = world.asks(index=tuple(entry(each, ModelState.UNAVAILABLE, UNHEALTHY) for each in names))
    began = time.process_time()
    claims = world.claims(judge)
    assert time.process_time() - began < 1.0
    assert {each.evidence["cause"] for each in claims} == {"stub_unhealthy"}
    assert len(claims) == 1000


def test_a_probe_that_came_later_tells_what_may_have_been() -> None:
    """From the counters, as a possibility; without them it says only what it did not see."""
    seen = serving(OTHER).asks(index=(entry("m", ModelState.UNAVAILABLE, UNHEALTHY),))
    bare = seen.only("ModelLoadFailed", judge)
    assert bare.message.endswith("is not healthy. The probe did not see its stub process end.")
    assert bare.evidence == {"cause": "stub_unhealthy", "triton": UNHEALTHY}
    memory = MemoryUse(Limit(None, "max"), MIB, oom_kills=1, oom_kills_path=PATH)
    told = seen.contained(memory=memory, shm=ShmUse(64 * MIB, 60 * MIB)).only("ModelLoadFailed", judge)
    assert told.evidence == {"cause": "stub_unhealthy", "triton": UNHEALTHY, "oom_kills": 1}
    assert told.message.endswith(
        "The kernel has killed 1 process of this container for want of memory of which it is not known whom, perhaps "
        "this one. The container has no memory limit. At its last look /dev/shm held 60 MiB of 64 MiB."
    )
    quiet = seen.contained(memory=MemoryUse(Limit(1.0 * GIB, "max"), MIB)).only("ModelLoadFailed", judge)
    assert quiet.message == bare.message


# While it goes on


def test_a_stub_that_dies_while_its_model_still_loads_is_told_at_once() -> None:
    """Triton says so after seconds; of one that completes a configuration it never does, and waits for ever."""
    world = counted(loading().exits(200, signal=9), 1)
    claim = world.only("ModelLoading", judge)
    assert "Its stub process m_0_0 (pid 200) ended while it loaded, killed by the kernel" in claim.message
    assert claim.remedy.startswith("Raise resources.limits.memory")
    crashed = counted(loading().exits(200, signal=11), 0).only("ModelLoading", judge)
    assert "killed by SIGSEGV" in crashed.message
    assert crashed.remedy.startswith("Wait")
    quiet = counted(loading().exits(200, code=0), 0).only("ModelLoading", judge)
    assert "Its stub" not in quiet.message
    stuck = world.having(settings=Settings(models=ModelsSettings(stuck_after=60.0))).later(100)
    told = stuck.only("ModelStuckLoading", judge)
    assert "killed by the kernel" in told.message
    assert told.remedy.startswith("Raise resources.limits.memory")
    assert "A load has no deadline" in told.remedy
