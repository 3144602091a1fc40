"""From the book to the status: what is known is told, what is not is null."""

from __future__ import annotations

import msgspec
import pytest

from probe.engine import report
from probe.facts.container import ContainerReading, CpuUse, Limit, MemoryUse, PidsUse, ShmUse
from probe.facts.models import InstanceKind, ModelState
from probe.facts.processes import ProcessState
from probe.facts.status import ContainerShmStatus, ContainerStatus, InstancesStatus, ModelStatus, StubStatus
from probe.facts.triton import Failure
from tests.worlds import (
    GIB,
    MIB,
    SERVER_PID,
    START,
    World,
    at,
    ensemble,
    entry,
    gpu,
    python_model,
    row,
    server,
    serving,
    stub,
)

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))
ON_CPU = python_model("m", 2)


def model(world: World) -> ModelStatus:
    """The status of the one model."""
    (only,) = report.models(world.seen)
    return only


# The server


def test_a_server_is_told_with_its_mode_and_what_ready_means_there() -> None:
    """Of what its process and its answers show."""
    told = report.triton(serving(ON_CPU, server=server("--model-control-mode=explicit")).seen)
    assert (told.version, told.pid, told.epoch, told.control_mode) == ("2.51.0", 5, 1, "explicit")
    assert (told.reachable, told.live, told.ready) == (True, True, True)
    assert "never restarted" in (told.readiness_semantics or "")


def test_nothing_is_made_up_of_a_server_that_nobody_saw() -> None:
    """All unknown but the epoch, which is none."""
    assert set(msgspec.structs.astuple(report.triton(World().seen))) == {None, 0}


def test_the_mode_is_triton_s_default_where_it_was_given_none_and_unknown_unseen() -> None:
    """Its command line tells."""
    assert report.triton(serving(ON_CPU).seen).control_mode == "none"
    assert report.triton(serving(ON_CPU, server=None).seen).control_mode is None


def test_a_dead_server_is_neither_live_nor_ready_nor_has_a_pid() -> None:
    """What it said before it died is no answer any more."""
    told = report.triton(serving(ON_CPU).server_exits(signal=9).seen)
    assert (told.pid, told.live, told.ready) == (None, None, None)


def test_a_server_that_does_not_answer_is_not_reachable() -> None:
    """Its process is still there."""
    told = report.triton(serving(ON_CPU).fails(Failure.REFUSED).seen)
    assert (told.pid, told.reachable, told.live, told.ready) == (5, False, None, None)


# Models


def test_models_are_told_in_order_of_name_and_version() -> None:
    """Whatever order Triton lists them in."""
    world = serving(python_model("b"), python_model("a", version="2"), python_model("a", version="1"))
    assert [(each.name, each.version) for each in report.models(world.seen)] == [
        ("a", "1"),
        ("a", "2"),
        ("b", "1"),
    ]


def test_a_model_that_failed_to_load_has_a_state_and_no_instances() -> None:
    """Nothing is known of its configuration."""
    failed = model(serving().asks(index=(entry("m", ModelState.UNAVAILABLE, "internal: no"),)))
    assert (failed.state, failed.ready, failed.backend, failed.platform) == ("unavailable", False, None, None)
    assert failed.instances == InstancesStatus(None, None, None, None)
    assert failed.traffic.success_total is None


def test_a_model_that_left_the_statistics_is_of_unknown_state_until_the_index_tells() -> None:
    """Not ready would be a claim."""
    told = model(serving(ON_CPU).without_model("m").polls())
    assert (told.state, told.ready) == ("unknown", None)


def test_a_model_of_which_only_counters_are_kept_is_not_shown() -> None:
    """A new server has not spoken of it yet."""
    world = serving(ON_CPU, rows=(row("m", success=9),)).server_exits(signal=9)
    assert report.models(world.having(server=server(pid=77), stubs=()).scans().seen) == ()


def test_ready_is_what_triton_says_when_it_was_asked() -> None:
    """A loaded model of which ModelReady says no is not ready."""
    assert model(serving(ON_CPU).asks(readiness=((ON_CPU.key, False),))).ready is False
    assert model(serving(ON_CPU).asks(readiness=((ON_CPU.key, True),))).ready is True


def test_the_backend_and_platform_are_told_where_they_are_not_empty() -> None:
    """An ensemble has no backend, a python model no platform."""
    python, steps = model(serving(ON_CPU)), model(serving(ensemble("e", "m")))
    assert (python.backend, python.platform) == ("python", None)
    assert (steps.backend, steps.platform) == (None, "ensemble")


def test_instances_are_counted_alive_dead_and_frozen() -> None:
    """A death counts once it is believed."""
    world = serving(python_model("m", 4)).exits("m_0_3", signal=9)
    assert model(world).instances == InstancesStatus(4, 3, 0, 0)
    world = world.scans().polls().with_stub(stub(100, "m_0_0", state=ProcessState.STOPPED)).scans()
    assert model(world).instances == InstancesStatus(4, 3, 1, 1)


def test_instances_are_unknown_where_processes_can_not_be_seen() -> None:
    """What is expected is known all the same."""
    assert model(serving(ON_CPU, server=None)).instances == InstancesStatus(2, None, None, None)


def test_an_ensemble_has_no_instances_of_its_own() -> None:
    """Unknown, not none of them alive."""
    assert model(serving(ensemble("e", "m"))).instances == InstancesStatus(None, None, None, None)


def test_a_stub_is_told_with_its_gpu_memory_where_lists_prove_something() -> None:
    """One that is in no list holds none; one whose figure the driver does not give is unknown."""
    world = serving(ON_GPU).looks(gpu("GPU-a", {SERVER_PID: GIB, 100: 3 * GIB})).scans()
    first, second = model(world).stubs
    assert first == StubStatus(
        pid=100,
        instance="m_0_0",
        state="sleeping",
        rss_bytes=100 * MIB,
        gpu_memory_bytes=3 * GIB,
        gpus=("GPU-a",),
        shm_region="triton_python_backend_shm_region_100",
        shm_bytes=MIB,
        children=0,
    )
    assert (second.gpus, second.gpu_memory_bytes) == ((), 0)
    nameless = model(serving(ON_GPU).looks(gpu("GPU-a", {100: None})).scans()).stubs[0]
    assert (nameless.gpus, nameless.gpu_memory_bytes) == (("GPU-a",), None)


def test_a_stub_s_gpu_is_unknown_where_lists_prove_nothing() -> None:
    """An empty list may be a blind one, and a GPU may be hidden from the probe."""
    told = model(serving(ON_GPU).looks(gpu("GPU-a", {})).scans()).stubs[0]
    assert (told.gpus, told.gpu_memory_bytes) == (None, None)
    hidden = (
        serving(ON_GPU, server=server(minors=(0, 1))).looks(gpu("GPU-a", {SERVER_PID: GIB}, minor=0)).scans()
    )
    told = model(hidden).stubs[0]
    assert (told.gpus, told.gpu_memory_bytes) == (None, None)


def test_traffic_is_told_since_the_probe_first_saw_the_model() -> None:
    """With how long ago it last answered, never in the future."""
    used = row("m", success=3, executions=3, last=START.wall - 7, compute_ns=6_000_000)
    world = serving(ON_CPU, rows=(used,))
    traffic = model(world.having(now=at(0))).traffic
    assert (traffic.success_total, traffic.failure_total) == (3, 0)
    assert traffic.last_success_seconds_ago == pytest.approx(7.0, abs=0.01)
    assert traffic.compute_seconds_per_inference == pytest.approx(0.002)
    assert model(world.having(now=at(-60))).traffic.last_success_seconds_ago == 0
    mixed = serving(ON_CPU, rows=(row("m", success=3, failure=1, last=START.wall - 7),))
    assert model(mixed).traffic.last_success_seconds_ago is None
    idle = model(serving(ON_CPU)).traffic
    assert (idle.success_total, idle.last_success_seconds_ago) == (0, None)


# GPUs


def test_gpus_are_those_of_the_last_good_look() -> None:
    """Memory is NVML's, of the whole device; Xids are counted since the probe began."""
    world = serving(ON_GPU).looks(
        gpu("GPU-a", {}, minor=3, memory_total_bytes=GIB, recovery_action="none"),
        gpu("GPU-b", error="TIMEOUT"),
    )
    first, second = report.gpus(world.xid(31, "GPU-b").xid(31, "GPU-b").xid(8, "GPU-b").seen)
    assert (first.uuid, first.minor, first.memory_total_bytes) == ("GPU-a", 3, GIB)
    assert (first.recovery_action, first.xids) == ("none", {})
    assert (second.memory_total_bytes, second.xids) == (None, {"8": 1, "31": 2})
    assert report.gpus(serving(ON_GPU).seen) == ()


# The container


def test_a_container_that_was_not_looked_at_is_unknown() -> None:
    """Every figure."""
    assert report.container(None) == ContainerStatus(None, None)
    empty = report.container(ContainerReading(at(0)))
    assert empty == ContainerStatus(None, None)
    assert empty.memory.limited is None


def test_no_limit_is_another_thing_than_an_unknown_one() -> None:
    """The one is said of a file that was read."""
    reading = ContainerReading(
        at(0),
        cgroup=1,
        memory=MemoryUse(
            Limit(None, "memory.max"),
            used_bytes=5,
            oom_kills=1,
            stall_seconds=0.5,
            shmem_bytes=3,
            oom_group=False,
        ),
        cpu=CpuUse(Limit(1.5, "cpu.max"), used_seconds=9.0, periods=6, throttled_periods=2, weight=4),
        pids=PidsUse(Limit(100.0, "pids.max"), used=7, refused=2),
        shm=ShmUse(64 * MIB, MIB),
    )
    told = report.container(reading)
    assert (told.memory.limited, told.memory.limit_bytes, told.memory.used_bytes) == (False, None, 5)
    assert (told.cpu.limited, told.cpu.limit_cores, told.cpu.throttled_seconds) == (True, 1.5, None)
    assert (told.pids.limited, told.pids.limit, told.pids.used) == (True, 100, 7)
    assert (told.memory.shmem_bytes, told.memory.oom_group, told.memory.oom_group_kills) == (3, False, None)
    assert (told.cpu.periods, told.cpu.throttled_periods, told.cpu.weight, told.cpu.stall_seconds) == (
        6,
        2,
        4,
        None,
    )
    assert told.pids.refused == 2
    assert told.shm == ContainerShmStatus(64 * MIB, MIB)


def test_dev_shm_is_told_with_its_regions_and_its_fullest_moment() -> None:
    """Use is the latest word, of a look or of the kernel; files that can not be listed are not counted as none."""
    seen = serving(ON_CPU).shm("clients", size=16 * MIB, inodes_free=7, inodes_total=9000)
    full = seen.shm_changes(12 * MIB, size=16 * MIB).shm_changes(5 * MIB, size=16 * MIB)
    told = report.container(full.book.container, full.book.shm).shm
    assert told == ContainerShmStatus(
        16 * MIB, 5 * MIB, 0, peak_bytes=12 * MIB, inodes_free=7, regions=2, others=1
    )
    blind = seen.shm(size=16 * MIB, files=None)
    told = report.container(blind.book.container, blind.book.shm).shm
    assert (told.orphan_bytes, told.regions, told.others) == (None, None, None)
    assert told.used_bytes == 2 * MIB


def test_a_models_shared_memory_is_what_its_stubs_regions_hold_a_dead_ones_too() -> None:
    """As long as the region is there; an orphan's model has nothing of it."""
    seen = serving(ON_CPU)
    assert model(seen).shm_bytes == 2 * MIB
    assert model(seen.with_stub(stub(100, "m_0_0", shm=None)).scans()).shm_bytes is None
    second = "triton_python_backend_shm_region_101"
    dead = seen.shm().exits("m_0_1", signal=9).scans().polls()
    assert model(dead.shm((second, 5 * MIB))).shm_bytes == 6 * MIB
    assert model(dead.shm()).shm_bytes == MIB
    assert model(dead.having(stubs=()).scans().shm()).shm_bytes is None
    assert model(serving(ensemble("e", "m"))).shm_bytes is None


@pytest.mark.parametrize(
    ("oom_score_adj", "qos"),
    [
        (1000, "BestEffort"),
        (-997, "Guaranteed"),
        (2, "Burstable"),
        (999, "Burstable"),
        (0, None),
        (1, None),
        (-998, None),
        (None, None),
    ],
)
def test_the_pod_s_class_is_read_from_the_oom_score(oom_score_adj: int | None, qos: str | None) -> None:
    """As the kubelet writes it; 0 is what a process outside Kubernetes has."""
    assert report.container(ContainerReading(at(0), oom_score_adj=oom_score_adj)).qos == qos


def test_a_class_that_witnesses_contradict_is_not_told() -> None:
    """Docker's --oom-score-adj makes no BestEffort pod of a container with a share of the CPUs."""
    reading = ContainerReading(at(0), oom_score_adj=1000, cpu=CpuUse(weight=100))
    assert report.container(reading).qos is None
