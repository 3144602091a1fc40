"""Is what outlived its tritonserver, or its stub, told with what it holds?"""

from __future__ import annotations

import pytest

from probe.checks.orphans import judge
from probe.facts.findings import SubjectKind
from probe.facts.nvml import NvmlState
from probe.facts.processes import ProcessState
from probe.settings import ModelsSettings, Settings
from tests.worlds import (
    GIB,
    MIB,
    SERVER_PID,
    World,
    gpu,
    process,
    python_model,
    server,
    serving,
    stub,
    worker,
)

ONE = python_model("m")
TWO = python_model("m", 2)


def lost_server(seen: World) -> World:
    """Tritonserver was killed, and its stubs run on."""
    return seen.server_exits(signal=9).scans()


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def test_a_stub_whose_server_is_gone_is_an_orphan_after_ten_seconds() -> None:
    """Told also while no Triton is there; a Triton that ends needs some time to end its stubs."""
    seen = lost_server(serving(ONE))
    assert reasons(seen.later(8).scans()) == []
    claim = seen.later(9).scans().only("StubOrphaned", judge)
    assert (claim.subject.kind, claim.subject.model) == (SubjectKind.INSTANCE, "m")
    assert (claim.subject.version, claim.subject.instance) == ("1", "m_0_0")
    assert claim.message == (
        "The stub process (pid 100) outlived its tritonserver, for 10 s by now, and holds 100 MiB."
    )
    assert "kill -9 100" in claim.remedy
    assert claim.evidence == {
        "pid": 100,
        "title": "m_0_0",
        "outlived": "tritonserver",
        "processes": 1,
        "rss_bytes": 100 * MIB,
        "gpu_memory_bytes": None,
        "gpus": None,
    }


def test_a_stub_of_a_zombie_server_is_an_orphan() -> None:
    """To the stub it is a living parent: kill(pid, 0) succeeds."""
    seen = serving(ONE).having(server=server(state=ProcessState.ZOMBIE)).scans().later(10).scans()
    assert reasons(seen) == ["StubOrphaned"]


def test_what_an_earlier_server_left_is_told_beside_its_successor() -> None:
    """In the new epoch too, with the time since it was left."""
    seen = lost_server(serving(ONE))
    old = seen.stubs
    new = serving(ONE, server=server(pid=500), first_pid=600)
    seen = seen.having(server=new.server, stubs=(*old, *new.stubs)).scans().later(20).scans()
    claim = seen.only("StubOrphaned", judge)
    assert claim.evidence["pid"] == 100
    assert "for 22 s by now" in claim.message
    assert reasons(seen.without_stub(100).scans()) == []


def test_a_reused_pid_is_no_orphan() -> None:
    """Another stub of another start time, of the present server."""
    seen = lost_server(serving(ONE)).later(20).scans()
    new = seen.having(server=server(pid=500, start=5000), stubs=(stub(100, "m_0_0", start=6000),))
    assert reasons(new.scans().later(30).scans()) == []


def test_a_scan_that_missed_the_server_orphans_nobody() -> None:
    """Out of file descriptors for a moment: the time begins anew."""
    whole = serving(ONE)
    seen = whole.having(server=None).scans().later(8).having(server=whole.server).scans()
    assert reasons(seen.having(server=None).scans().later(5).scans()) == []


def test_an_engine_that_outlived_its_stub_is_told_by_its_name() -> None:
    """It holds the GPU's memory, and nobody leads to it any more; the greatest is named first."""
    both = (worker(110, parent=100, rss=2 * GIB), worker(111, "VLLM::Worker_TP0", parent=110, rss=3 * GIB))
    seen = serving(TWO).with_worker(100, *both).scans().adopted(110, 111).exits(100, signal=9)
    seen = seen.scans().polls()
    assert reasons(seen) == []
    claim = seen.later(9).scans().only("StubOrphaned", judge)
    assert claim.message == (
        "VLLM::Worker_TP0 (pid 111) and 1 more process outlived their stub, for 11 s by now, and hold 5120 MiB."
    )
    assert claim.subject.instance == "m_0_0"
    assert (claim.evidence["outlived"], claim.evidence["processes"]) == ("stub", 2)
    assert "kill -9 110 111" in claim.remedy


def test_an_orphaned_stub_is_told_with_all_that_runs_below_it() -> None:
    """One claim for an instance; a compiler below it is nobody."""
    seen = serving(ONE).with_worker(100, worker(110, parent=100), process(111, name="gcc", parent=100))
    claim = lost_server(seen.scans()).later(10).scans().only("StubOrphaned", judge)
    assert claim.message.startswith(
        "The stub process (pid 100) and 1 more process outlived their tritonserver"
    )
    assert claim.evidence["rss_bytes"] == GIB + 100 * MIB


def test_what_ends_within_ten_seconds_of_its_stub_was_an_unload() -> None:
    """Engines end a little after the stub that they notice missing."""
    seen = serving(ONE).with_worker(100, worker(110, parent=100)).scans()
    seen = seen.adopted(110).exits(100, code=0).without_model("m").polls().scans().later(8).scans()
    assert reasons(seen) == []
    assert reasons(seen.worker_exits(110, code=0).later(30).scans()) == []


def test_a_worker_that_was_adopted_while_its_stub_lives_is_no_orphan() -> None:
    """Only its parent ended."""
    seen = serving(ONE).with_worker(100, worker(110, parent=100)).scans().adopted(110)
    assert reasons(seen.scans().later(60).scans()) == []


@pytest.mark.parametrize(
    ("listed", "gpus", "held"),
    [
        ({SERVER_PID: GIB, 100: 3 * GIB}, "GPU-a", 3 * GIB),
        ({SERVER_PID: GIB}, "", 0),
        ({SERVER_PID: None, 100: None}, "GPU-a", None),
        ({}, None, None),
        ({100: 3 * GIB}, "GPU-a", 3 * GIB),
    ],
    ids=["listed", "absent", "without figures", "blind", "listed where Triton is not"],
)
def test_what_it_holds_of_a_gpu_is_told_as_far_as_nvml_shows_it(
    listed: dict[int, int | None], gpus: str | None, held: int | None
) -> None:
    """To be listed proves itself; an absence proves something only where Triton's processes are shown."""
    old = stub(100, "m_0_0", start=1)
    seen = World(server=server(minors=(0,)), stubs=(old,)).scans().looks(gpu("GPU-a", listed, minor=0))
    claim = seen.later(10).scans(existing=listed).only("StubOrphaned", judge)
    assert (claim.evidence["gpus"], claim.evidence["gpu_memory_bytes"]) == (gpus, held)
    assert (f"and {3 * 1024} MiB of memory on GPU-a" in claim.message) == (held == 3 * GIB)
    assert ("GPU-a" in claim.message) == (gpus == "GPU-a")


def test_pids_of_another_namespace_tell_nothing() -> None:
    """What has the orphan's number there is somebody else; and without NVML nothing is known."""
    old = World(server=server(), stubs=(stub(100, "m_0_0", start=1),)).scans()
    strangers = gpu("GPU-a", {100: GIB, 4711: GIB})
    foreign = old.looks(strangers).scans(existing=(100,)).looks(strangers)
    for seen in (foreign, old.looks(state=NvmlState.NO_LIBRARY)):
        claim = seen.later(10).scans(existing=(100,)).only("StubOrphaned", judge)
        assert (claim.evidence["gpus"], claim.evidence["gpu_memory_bytes"]) == (None, None)


def test_an_ignored_model_and_a_probe_that_never_scanned_say_nothing() -> None:
    """Policy does not want to know, or nothing is known."""
    ignoring = serving(ONE, settings=Settings(models=ModelsSettings(ignore=("m",))))
    assert reasons(lost_server(ignoring).later(20).scans()) == []
    assert reasons(World()) == []
