"""Is a load that failed before the probe came laid to the kernel's kills, and only where nobody else can be meant?"""

from __future__ import annotations

import pytest

from probe.checks.models import judge
from probe.facts.container import Limit, MemoryUse
from probe.facts.findings import Claim
from probe.facts.models import ModelState
from probe.facts.processes import Stub
from tests.worlds import MIB, World, entry, python_model, row, server, stub, stubs_of

OTHER = python_model("other")
UNHEALTHY = "Internal: Stub process 'm_0_0' is not healthy."
PATH = "/sys/fs/cgroup/memory/memory.oom_control"


def came(kills: int | None, *failed: str, limit: float | None = 400.0 * MIB, text: str = UNHEALTHY) -> World:
    """A probe that comes when one model serves and these have failed, and the kernel had killed so many."""
    return counted(found(*failed, text=text), kills, limit)


def found(*failed: str, text: str = UNHEALTHY, stubs: tuple[Stub, ...] = tuple(stubs_of((OTHER,)))) -> World:
    """Before it looked at the container."""
    world = World(server=server(), rows=(row("other"),), configs=(OTHER,), stubs=stubs)
    index = (
        entry("other", ModelState.READY),
        *(entry(name, ModelState.UNAVAILABLE, text) for name in failed),
    )
    return world.scans().polls().asks(index=index).scans()


def counted(
    world: World, kills: int | None, limit: float | None = 400.0 * MIB, peak: int = 400 * MIB
) -> World:
    """The container is looked at."""
    memory = MemoryUse(
        Limit(limit, "max"),
        30 * MIB,
        30 * MIB,
        peak,
        oom_kills=kills,
        oom_kills_path=PATH if kills is not None else "",
    )
    return world.contained(memory=memory, node_memory_bytes=64_000 * MIB)


def told(world: World) -> Claim:
    """What is said of the model."""
    return next(
        each for each in world.claims(judge) if each.reason == "ModelLoadFailed" and each.subject.model == "m"
    )


def test_a_kill_for_each_failed_load_is_their_cause_with_the_line_that_cures_it() -> None:
    """The count, the peak and the limit are told, and a limit above all of them."""
    claim = told(came(1, "m"))
    rests = f"oom_kill of {PATH} counts 1 kill of which it is not known whom, and nobody else is missing"
    assert claim.evidence == {
        "cause": "stub_oom_killed",
        "triton": UNHEALTHY,
        "cause_rests_on": rests,
        "oom_kills": 1,
        "container_limit_bytes": 400 * MIB,
        "container_used_bytes": 30 * MIB,
        "container_working_set_bytes": 30 * MIB,
        "container_peak_bytes": 400 * MIB,
    }
    assert claim.message.endswith(
        f"By all appearances the kernel killed its stub process for want of memory: {rests}; the container's peak was "
        "400 MiB."
    )
    assert "from 400Mi to 512Mi" in claim.remedy
    assert claim.remedy.endswith("Then load the model again.")


def test_without_a_limit_a_request_is_proposed() -> None:
    """The node, or a cgroup above, ran out: a request keeps room for it."""
    claim = told(came(2, "m", "n", limit=None))
    assert claim.evidence["cause"] == "stub_oom_killed"
    assert "counts 2 kills of which it is not known whom" in claim.message
    assert "resources: {requests: {memory: 512Mi}, limits: {memory: 512Mi}}" in claim.remedy


@pytest.mark.parametrize(
    "world",
    [
        came(0, "m"),
        came(None, "m"),
        found("m"),
        came(1, "m", "n"),
        counted(found("m", stubs=()), 1),
    ],
    ids=["no kill", "not counted", "not looked at", "two failed", "a stub is missing besides"],
)
def test_with_fewer_kills_than_may_have_been_killed_it_stays_open(world: World) -> None:
    """One of them ended in another way, and nobody knows which."""
    assert told(world).evidence["cause"] == "stub_unhealthy"


def test_a_count_whose_file_is_not_known_is_the_containers() -> None:
    """The sentence names what counts."""
    world = found("m").contained(memory=MemoryUse(oom_kills=1))
    assert "oom_kill of the container counts 1" in told(world).message


def test_a_kill_that_is_counted_only_after_the_failure_is_not_its_own() -> None:
    """Triton had given up before."""
    later = counted(counted(found("m").later(1), 0).later(5), 1)
    assert told(later).evidence["cause"] == "stub_unhealthy"


def test_a_kill_that_is_another_processs_is_not_its_own() -> None:
    """A stub that was watched ended of it, after the probe came."""
    dying = counted(came(1, "m").exits("other_0_0", signal=9), 2)
    assert told(dying).evidence["oom_kills"] == 1
    claimed = counted(counted(found("m"), 0).exits("other_0_0", signal=9), 1)
    assert told(claimed).evidence["cause"] == "stub_unhealthy"


def test_a_load_in_which_somebody_was_seen_to_die_takes_no_kill_from_the_others() -> None:
    """Its death is explained by what was seen."""
    index = (entry("m", ModelState.UNAVAILABLE, UNHEALTHY), entry("n", ModelState.UNAVAILABLE, UNHEALTHY))
    world = World(server=server(), stubs=(stub(200, "n_0_0", "n"),)).scans()
    seen = counted(counted(world, 1).exits(200, signal=9), 2).polls().asks(index=index)
    claims = {each.subject.model: each.evidence["cause_rests_on"] for each in seen.claims(judge)}
    assert "rose from 1 to 2" in str(claims["n"])
    assert "counts 1 kill" in str(claims["m"])


def test_another_cause_in_tritons_own_words_stands() -> None:
    """A kill does not explain what the model's code raised."""
    claim = told(came(1, "m", text="Internal: ValueError: no such file\n\nAt:\n  model.py(3): initialize"))
    assert claim.evidence["cause"] == "model_code"
