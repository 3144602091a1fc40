"""Does a death say why, and what that rests on?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.stubs import judge
from probe.facts.container import Limit, MemoryUse
from probe.facts.findings import Claim
from probe.facts.processes import ExitCause
from tests.worlds import GIB, World, python_model, server, serving

TWO = python_model("m", 2)
FILE = "/sys/fs/cgroup/memory.events"


def counted(world: World, kills: int | None, **memory: Any) -> World:  # noqa: ANN401
    """The container is looked at and has counted so many OOM kills."""
    use = MemoryUse(oom_kills=kills, oom_kills_path=FILE if kills is not None else "", **memory)
    return world.contained(memory=use)


def killed(world: World, kills: int | None = 0, **how: int) -> World:
    """A stub died, the container was looked at, and then everybody looked."""
    return counted(world.exits(101, **(how or {"signal": 9})), kills).scans().polls()


def dead(world: World) -> Claim:
    """The one death."""
    return world.only("StubDead", judge)


def test_a_stub_that_the_kernel_killed_for_want_of_memory_says_so() -> None:
    """The count of the container's cgroup rose; the remedy is memory, and the exit is counted as such."""
    seen = killed(counted(serving(TWO), 0), 1)
    claim = dead(seen)
    assert "exited, killed by the kernel for want of memory (SIGKILL), while" in claim.message
    assert claim.evidence["cause_rests_on"] == f"oom_kill of {FILE} rose from 0 to 1"
    assert claim.evidence["signal"] == 9
    assert "resources.limits.memory" in claim.remedy
    assert "(the process last held 100 MiB)" in claim.remedy
    assert "Restart the Triton container" in claim.remedy
    assert seen.book.stubs.exits == {("m", ExitCause.OOM_KILLED): 1}


def test_the_limit_is_named_where_it_is_known() -> None:
    """So that the reader knows from where to raise it; no limit is none to raise from."""
    limit = Limit(float(2 * GIB), "/sys/fs/cgroup/memory.max")
    for known, said in (
        (limit, "container from 2Gi to 3Gi or more (the"),
        (Limit(None, "x"), "container (the process"),
    ):
        seen = counted(serving(TWO), 0).exits(101, signal=9)
        assert said in dead(counted(seen, 1, limit=known).scans().polls()).remedy


def test_a_kill_that_was_counted_long_before_says_when() -> None:
    """A process that holds much takes seconds to die."""
    seen = counted(counted(serving(TWO), 0), 1).later(4).exits(101, signal=9).scans().polls()
    assert (
        dead(seen).evidence["cause_rests_on"] == f"oom_kill of {FILE} rose from 0 to 1, 5 s before it ended"
    )


def test_a_sigkill_beside_a_count_that_stood_still_was_somebody_elses() -> None:
    """The count is told all the same: the reader need not ask."""
    claim = dead(killed(counted(serving(TWO), 3), 3))
    assert "exited, killed by SIGKILL, while" in claim.message
    assert claim.evidence["cause_rests_on"] == (
        f"the exit status that the kernel told; oom_kill of {FILE} counted no kill for it (it is 3)"
    )
    assert "memory" not in claim.remedy


@pytest.mark.parametrize(
    ("how", "cause", "rests"),
    [
        ({"signal": 11}, "killed by SIGSEGV", "the exit status that the kernel told"),
        ({"code": 137}, "with exit code 137", "the exit status that the kernel told"),
    ],
)
def test_an_end_that_is_no_oom_kill_never_says_so(how: dict[str, int], cause: str, rests: str) -> None:
    """Whatever the count did beside it."""
    claim = dead(killed(counted(serving(TWO), 0), 5, **how))
    assert (claim.evidence["cause"], claim.evidence["cause_rests_on"]) == (cause, rests)


def test_without_a_readable_cgroup_a_sigkill_is_only_that() -> None:
    """And the reader is told why."""
    for seen in (serving(TWO), counted(serving(TWO), None)):
        claim = dead(killed(seen, None))
        assert claim.evidence["cause"] == "killed by SIGKILL"
        assert str(claim.evidence["cause_rests_on"]).endswith("count of OOM kills can not be read here")


def test_a_count_that_was_not_read_at_that_moment_tells_nothing() -> None:
    """The reader was busy, and the next look came too late to tell."""
    seen = counted(serving(TWO), 0).exits(101, signal=9).scans().polls()
    assert "was not read at that moment" in str(dead(seen).evidence["cause_rests_on"])
    late = counted(seen.later(20), 1)
    assert "was not read at that moment" in str(dead(late).evidence["cause_rests_on"])


def test_an_exit_without_a_status_may_be_told_by_the_count_alone() -> None:
    """Found by a scan: nobody knows how it ended, and the kernel counted a kill."""
    seen = counted(counted(serving(TWO), 0).without_stub(101).scans(), 1).polls().asks()
    claim = dead(seen)
    assert claim.evidence["cause"] == (
        "killed by the kernel for want of memory (no exit status could be read)"
    )
    assert seen.book.stubs.exits == {("m", ExitCause.OOM_KILLED): 1}
    unknown = counted(counted(serving(TWO), 0).without_stub(101).scans(), 0).polls().asks()
    assert str(dead(unknown).evidence["cause_rests_on"]).startswith("no exit status could be read; oom_kill")


def test_an_exit_status_that_comes_late_outranks_the_count() -> None:
    """It ended with a code of its own: the kill was another's."""
    seen = counted(serving(TWO), 0)
    gone = seen.stubs[1].process.id
    seen = counted(seen.without_stub(101).scans(), 1).tells_exit(gone, code=3).polls()
    assert dead(seen).evidence["cause"] == "with exit code 3"
    late = counted(counted(serving(TWO), 0).without_stub(101).scans(), 1).tells_exit(gone, signal=9).polls()
    assert dead(late).evidence["cause"] == "killed by the kernel for want of memory (SIGKILL)"


def test_two_stubs_and_one_kill_are_one_victim() -> None:
    """The first that ended was it."""
    seen = counted(serving(TWO), 0).exits(100, signal=9).exits(101, signal=9)
    claims = counted(seen, 1).scans().polls().claims(judge)
    causes = {each.evidence["pid"]: each.evidence["cause"] for each in claims}
    assert causes == {100: "killed by the kernel for want of memory (SIGKILL)", 101: "killed by SIGKILL"}


def test_a_count_without_a_path_is_the_containers() -> None:
    """A look of a source that does not tell where it read."""
    seen = serving(TWO).contained(memory=MemoryUse(oom_kills=0)).exits(101, signal=9)
    seen = seen.contained(memory=MemoryUse(oom_kills=1)).scans().polls()
    assert dead(seen).evidence["cause_rests_on"] == "oom_kill of the container rose from 0 to 1"


def test_a_new_epoch_counts_anew() -> None:
    """Another tritonserver may be in another container: what its count was before is nobody's business."""
    seen = counted(serving(TWO), 0)
    new = serving(TWO, server=server(pid=77), first_pid=500)
    seen = counted(seen.having(server=new.server, stubs=new.stubs).scans(), 7).polls().asks().scans()
    claim = dead(counted(seen.exits(500, signal=9), 7).scans().polls())
    assert claim.evidence["cause"] == "killed by SIGKILL"
