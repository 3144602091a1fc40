"""Does the check tell of a limit on processes and threads that is near, or that refused some?"""

from __future__ import annotations

import msgspec

from probe.checks.container.pids import judge
from probe.facts.container import Limit, PidsUse
from tests.worlds import World, python_model, serving, stub

FILE = "/sys/fs/cgroup/pids.max"
HUNDRED = Limit(100.0, FILE)


def look(used: int | None, limit: Limit | None = HUNDRED, refused: int | None = None) -> World:
    """One look at a container with so many processes and threads."""
    return serving(python_model("m")).contained(pids=PidsUse(limit, used, refused))


def threaded(world: World, threads: int) -> World:
    """The same, where the model's stub has so many threads."""
    one = stub(100, "m_0_0")
    process = msgspec.structs.replace(one.process, threads=threads)
    return world.with_stub(msgspec.structs.replace(one, process=process)).scans()


def test_one_look_tells_that_the_limit_is_near() -> None:
    """With who has the threads, and where such a limit is set."""
    claim = threaded(look(95), 64).only("PidsPressure", judge)
    assert claim.message == (
        "Triton's container has 95 processes and threads, of 100 at most (95%). Threads: m/1 64."
    )
    assert "to 256 at least: podPidsLimit" in claim.remedy
    assert all(word in claim.remedy for word in ("--pids-limit", "OMP_NUM_THREADS"))
    assert claim.evidence == {"used": 95, "limit": 100, "limit_file": FILE, "threads_of_m/1": 64}


def test_a_large_limit_is_doubled() -> None:
    """In steps of 256."""
    claim = look(1000, Limit(1000.0, FILE)).only("PidsPressure", judge)
    assert "to 2048 at least" in claim.remedy
    assert "Threads" not in claim.message


def test_a_refused_fork_is_told_for_some_minutes() -> None:
    """Also where use has long fallen: a stub may have lost its threads, or never started."""
    world = look(20, refused=3).contained(pids=PidsUse(HUNDRED, 20, 5))
    claim = world.only("PidsPressure", judge)
    assert "of 100 at most (20%). A limit refused it 2 new processes or threads within 5 min" in claim.message
    assert (claim.evidence["refused_lately"], claim.evidence["refused"]) == (2, 5)
    assert world.later(299).reasons(judge) == ["PidsPressure"]
    assert world.later(302).reasons(judge) == []


def test_refusals_that_do_not_end_are_counted_over_the_time_that_they_took() -> None:
    """One a minute for an hour is not sixty within five minutes."""
    world = look(20, refused=0)
    for count in range(1, 62):
        world = world.later(59).contained(pids=PidsUse(HUNDRED, 20, count))
    message = world.only("PidsPressure", judge).message
    assert "refused it 61 new processes or threads within 60 min" in message
    world = world.later(301).contained(pids=PidsUse(HUNDRED, 20, 62))
    assert "refused it 1 new processes or threads within 5 min" in world.only("PidsPressure", judge).message


def test_a_refusal_by_a_limit_that_can_not_be_seen_is_told_all_the_same() -> None:
    """The pod's limit is above the container's namespace; no number is invented for it."""
    world = look(20, None, refused=3).contained(pids=PidsUse(None, 20, 4))
    claim = world.only("PidsPressure", judge)
    assert claim.message.startswith(
        "The limit of Triton's container on processes and threads can not be read. A limit"
    )
    assert "Raise the limit: podPidsLimit" in claim.remedy
    assert claim.evidence == {"refused_lately": 1, "refused": 4}


def test_what_was_refused_before_the_first_look_is_of_no_known_time() -> None:
    """One look tells no refusal, and a use far below the limit is no pressure."""
    assert look(20, refused=1000).reasons(judge) == []
    for limit in (None, Limit(None, FILE)):
        assert look(20, limit).reasons(judge) == []


def test_of_a_triton_that_is_gone_or_was_not_looked_at_nothing_is_said() -> None:
    """Its container went with it."""
    assert serving().reasons(judge) == []
    assert look(95).server_exits(signal=9).reasons(judge) == []
