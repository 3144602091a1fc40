"""Are the last looks at the container kept, in order, and without what would make them large?"""

from __future__ import annotations

from typing import Any

from probe.facts.container import ContainerReading, CpuUse, Limit, MemoryUse, ShmFile, ShmUse
from probe.facts.qos import QosClass
from probe.ledgers.scenes import KEPT, ScenesLedger
from tests.worlds import MIB, at


def looked(ledger: ScenesLedger, seconds: float, **told: Any) -> ScenesLedger:  # noqa: ANN401
    """After a look at this moment."""
    return ledger.with_reading(ContainerReading(at(seconds), **{"memory": MemoryUse(used_bytes=MIB), **told}))


def test_a_look_is_found_by_the_moment_that_it_lies_before_or_after() -> None:
    """An exit that is told late lies before the last look."""
    ledger = looked(looked(ScenesLedger(), 0), 5)
    for seconds, before, after in ((-1, None, 0), (0, None, 5), (4, 0, 5), (5, 0, None), (9, 5, None)):
        found = (ledger.before(at(seconds)), ledger.after(at(seconds)))
        assert [each and each.observed for each in found] == [
            None if each is None else at(each) for each in (before, after)
        ]


def test_looks_that_show_nothing_or_come_late_are_none() -> None:
    """Where Triton's process is gone, or its cgroup may not be read."""
    ledger = looked(ScenesLedger(), 5)
    assert looked(ledger, 6, memory=MemoryUse(oom_kills=0)) is ledger
    assert looked(ledger, 5) is ledger
    assert looked(ledger, 4) is ledger
    assert len(looked(ledger, 6, memory=MemoryUse(Limit(None, "f"))).looks) == 2
    assert len(looked(ledger, 6, memory=MemoryUse(), shm=ShmUse(MIB, 0)).looks) == 2


def test_a_few_looks_are_kept_without_their_lists() -> None:
    """There may be thousands of files."""
    files = tuple(ShmFile(str(each), MIB, 0.0) for each in range(9))
    ledger = ScenesLedger()
    for seconds in range(KEPT + 3):
        ledger = looked(ledger, seconds, shm=ShmUse(MIB, 5, 1, 2, files))
    assert len(ledger.looks) == KEPT
    assert ledger.looks[-1].observed == at(KEPT + 2)
    assert ledger.looks[-1].shm == ShmUse(MIB, 5, 1, 2)


def test_the_class_of_the_pod_is_what_all_witnesses_agree_on() -> None:
    """Outside Kubernetes too, anybody may be the first to die, and has a share of the CPUs like all others."""
    pod = looked(ScenesLedger(), 0, oom_score_adj=1000, cpu=CpuUse(weight=1))
    service = looked(ScenesLedger(), 0, oom_score_adj=1000, cpu=CpuUse(weight=100))
    assert (pod.looks[0].qos, service.looks[0].qos) == (QosClass.BEST_EFFORT, None)


def test_shares_are_of_the_time_between_two_looks() -> None:
    """Without a look before, without figures, or where a count fell, there is none."""

    def told(stall: float | None, throttled: float | None) -> dict[str, Any]:
        memory = MemoryUse(used_bytes=1, stall_seconds=stall)
        return {"memory": memory, "cpu": CpuUse(throttled_seconds=throttled)}

    ledger = looked(ScenesLedger(), 0, **told(1.0, 10.0))
    assert (ledger.looks[0].memory_stalled, ledger.looks[0].cpu_throttled) == (None, None)
    ledger = looked(ledger, 4, **told(2.0, 9.0))
    assert (ledger.looks[1].memory_stalled, ledger.looks[1].cpu_throttled) == (0.25, None)
    ledger = looked(ledger, 6, **told(None, 10.0))
    assert (ledger.looks[2].memory_stalled, ledger.looks[2].cpu_throttled) == (None, 0.5)
