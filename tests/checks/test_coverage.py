"""Is "in no list" read as "on no GPU" only where every GPU of Triton's is shown with its processes?"""

from __future__ import annotations

import pytest

from probe.checks.coverage import LIST_AT_MOST, Gap
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.processes import Server
from tests.worlds import GIB, SERVER_PID, World, gpu, process, python_model, server, serving

GPU = InstanceKind.GPU
ON_FIRST = python_model("m", 1, GPU, (0,))
ON_BOTH = python_model("m", 1, GPU, (0, 1))
ANY = python_model("m", 1, InstanceKind.MODEL)
HELD: dict[int, int | None] = {SERVER_PID: GIB}
FIRST, SECOND = gpu("GPU-a", HELD, minor=0), gpu("GPU-b", HELD, minor=1)
PARENT = gpu("GPU-p", minor=2)
MIG = gpu("MIG-1", HELD, minor=2, mig=True, parent="GPU-p")
OTHER_MIG = gpu("MIG-2", {}, minor=2, mig=True, parent="GPU-p")


def gap(seen: World) -> Gap | None:
    """What keeps absence from being proven."""
    return seen.seen.gap


def why(seen: World) -> str:
    """The sentence on it."""
    found = gap(seen)
    return found.why if found is not None else ""


@pytest.mark.parametrize("state", ["no look", "no_nvml", "blind", "foreign_pids"])
def test_a_mode_that_proves_nothing_is_the_first_gap(state: str) -> None:
    """With what its sentence says, and the cure of the mode."""
    seen = serving(ON_FIRST)
    if state == "no_nvml":
        seen = seen.looks(state=NvmlState.NO_LIBRARY)
    elif state == "blind":
        seen = seen.looks(gpu(processes={}))
    elif state == "foreign_pids":
        strange = gpu(processes={4242: GIB})
        seen = seen.looks(strange).scans().looks(strange)
    found = gap(seen)
    assert found is not None
    assert found.why == seen.book.evidence.evidence.why
    assert ("NVIDIA_VISIBLE_DEVICES" in found.remedy) == (state in ("no look", "no_nvml"))
    assert ("shareProcessNamespace" in found.remedy) == (state in ("blind", "foreign_pids"))


@pytest.mark.parametrize(
    ("triton", "gpus", "said"),
    [
        (server(minors=(0,)), (FIRST,), ""),
        (server(minors=(0, 1)), (FIRST, SECOND), ""),
        (server(minors=(0, 1)), (FIRST,), "Triton has /dev/nvidia1, and NVML shows the probe no such GPU."),
        (server(minors=(0,)), (FIRST, gpu("GPU-b", minor=1)), ""),
        (server(minors=(0,)), (FIRST, gpu("GPU-b")), "no process list of GPU-b"),
        (server(minors=(0, 1)), (FIRST, gpu("GPU-b", minor=1)), "NVML gives no process list of GPU-b."),
        (server(minors=(0, 1)), (FIRST, gpu("GPU-b", {}, minor=1)), ""),
        (server(minors=(0,), visible=("GPU-a",)), (FIRST,), ""),
        (server(minors=(0,), visible=("GPU-A",)), (FIRST,), ""),
        (server(minors=(0,), visible=("GPU-x",)), (FIRST,), "names GPU-x, and NVML does not show that GPU"),
        (
            server(minors=(0,), visible=("MIG-x",)),
            (FIRST,),
            "names MIG-x, and NVML does not show that MIG device",
        ),
    ],
)
def test_every_gpu_of_tritons_device_nodes_and_environment_must_be_shown_with_its_list(
    triton: Server, gpus: tuple[Gpu, ...], said: str
) -> None:
    """Those of others need no list; what can not be told apart from Triton's counts as Triton's."""
    seen = serving(ON_FIRST, server=triton).looks(*gpus)
    assert said in why(seen)
    assert bool(said) == bool(why(seen))


def test_every_gpu_of_tritons_own_metrics_must_be_shown() -> None:
    """Its own NVML names them by UUID, where device nodes have other names or are closed to us."""
    told = serving(ON_FIRST).polls(gpu_memory_used=(("GPU-a", 1), ("GPU-b", 1)))
    assert "own metrics show GPU-b" in why(told.looks(FIRST))
    found = gap(told.looks(FIRST))
    assert found is not None
    assert "NVIDIA_VISIBLE_DEVICES=all" in found.remedy
    assert gap(told.looks(FIRST, SECOND)) is None
    assert gap(told.polls().looks(FIRST, SECOND, gpu("GPU-c"))) is None
    again = told.server_exits().having(server=server(pid=9)).scans().polls()
    assert again.book.server.gpu_uuids == frozenset()


@pytest.mark.parametrize("minors", [(), None])
def test_where_neither_tells_tritonservers_contexts_must_be_as_many_as_its_ordinals(
    minors: tuple[int, ...] | None,
) -> None:
    """It has a context on every GPU that it sees; without an ordinal nobody knows how many these are."""
    triton = server(minors=minors)
    one, two, none = (serving(each, server=triton) for each in (ON_FIRST, ON_BOTH, ANY))
    assert gap(one.looks(FIRST)) is None
    assert gap(two.looks(FIRST, SECOND)) is None
    assert "its GPU 1, counted from 0, and NVML shows tritonserver on 1" in why(two.looks(FIRST))
    assert "shows tritonserver on 1" in why(two.looks(FIRST, gpu("GPU-b", {})))
    assert "How many GPUs Triton has can not be told" in why(none.looks(FIRST, SECOND))
    assert "no process list of GPU-b" in why(one.looks(FIRST, gpu("GPU-b")))
    unseen = World(server=triton).scans().polls()
    assert "can not be told" in why(unseen.looks(FIRST))
    unread = World(server=triton, rows=one.rows).scans().polls()
    assert "can not be told" in why(unread.looks(FIRST))


# MIG


def test_a_partitioned_gpu_is_known_by_its_mig_devices() -> None:
    """Its own list can not be had, and is not missed; a MIG device that nobody gave the probe is."""
    seen = serving(ON_FIRST, server=server(minors=(2,)))
    assert gap(seen.looks(PARENT, MIG, OTHER_MIG)) is None
    assert "no process list of GPU-p" in why(seen.looks(PARENT, FIRST))
    elsewhere = seen.looks(PARENT, OTHER_MIG, FIRST)
    assert "GPU-p is partitioned (MIG), and NVML shows tritonserver on none of the 1 MIG devices" in why(
        elsewhere
    )


def test_the_environment_names_tritons_mig_devices_too() -> None:
    """Where tritonserver has no context on one of a second partitioned GPU."""
    second = gpu("MIG-9", {}, minor=3, mig=True, parent="GPU-q")
    shown = (PARENT, MIG, gpu("GPU-q", minor=3), second)
    plain = serving(ON_FIRST, server=server(minors=(2, 3)))
    assert "GPU-q is partitioned" in why(plain.looks(*shown))
    named = serving(ON_FIRST, server=server(minors=(2, 3), visible=("MIG-1", "MIG-9")))
    assert gap(named.looks(*shown)) is None
    vague = serving(ON_FIRST, server=server(minors=(2, 3), visible=("MIG-1", "MIG-")))
    assert "GPU-q is partitioned" in why(vague.looks(*shown))


# Lists that can not be believed


def test_a_list_that_lost_tritonserver_is_not_believed_any_more() -> None:
    """A context lasts as long as its process; nor is a GPU forgotten that is no longer shown."""
    seen = serving(ON_FIRST, server=server(minors=(0,))).looks(FIRST, SECOND)
    assert gap(seen) is None
    assert "NVML no longer lists tritonserver on GPU-a" in why(seen.looks(gpu("GPU-a", {}, minor=0), SECOND))
    assert "NVML no longer shows GPU-b" in why(seen.looks(FIRST))
    assert gap(seen.looks(FIRST, SECOND)) is None
    gone = seen.server_exits().having(server=server(pid=SERVER_PID, start=9)).scans().polls().asks().scans()
    assert gap(gone.looks(gpu("GPU-a", {SERVER_PID: GIB}, minor=0))) is None


def test_a_full_list_may_be_cut() -> None:
    """The driver lists so many and no more."""
    crowd: dict[int, int | None] = dict.fromkeys(range(SERVER_PID, SERVER_PID + LIST_AT_MOST), GIB)
    seen = serving(ON_FIRST).scans(initial=True)
    assert "as many as fit" in why(seen.looks(gpu("GPU-a", crowd)))
    crowd.popitem()
    assert gap(seen.looks(gpu("GPU-a", crowd))) is None


def test_an_mps_server_alone_in_a_list_hides_its_clients() -> None:
    """Before Volta the clients are not listed themselves; where one of ours is, they are."""
    mps = process(70, parent=1, name="nvidia-cuda-mps", start=1)
    shown = (FIRST, gpu("GPU-b", {70: GIB}, minor=1))
    seen = serving(ON_FIRST, server=server(minors=(0, 1))).looks(*shown).scans(asked=[mps]).looks(*shown)
    assert "lists the MPS server on GPU-b and none of Triton's" in why(seen)
    both = (FIRST, gpu("GPU-b", {70: GIB, 100: GIB}, minor=1))
    assert gap(seen.scans(asked=[mps]).looks(*both)) is None


def test_without_a_scan_there_is_nobody_to_look_for() -> None:
    """The mode says so before anything else."""
    assert "can not be seen from here" in why(World().looks(FIRST))
