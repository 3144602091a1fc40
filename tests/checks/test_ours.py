"""Is this GPU Triton's: yes, no, or not to be told?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.checks.ours import Whose, ours, whose
from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu
from tests.worlds import GIB, SERVER_PID, World, gpu, python_model, server, serving

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))


def seeing(
    *gpus: Gpu, minors: tuple[int, ...] | None = None, metered: tuple[str, ...] = (), visible: bool = True
) -> World:
    """A Triton with these device nodes whose own metrics show these GPUs, beside these GPUs."""
    used = tuple((uuid, GIB) for uuid in metered) or None
    world = serving(ON_GPU, server=server(minors=minors) if visible else None, gpu_memory_used=used)
    return world.scans().looks(*gpus)


def told(world: World, uuid: str = "GPU-a") -> bool | None:
    """Whether this GPU is ours."""
    return ours(world.seen, world.book.gpus.records[uuid].gpu)


def concerned(world: World, uuid: str = "GPU-a") -> Whose:
    """Whom trouble with this GPU concerns."""
    return whose(world.seen, world.book.gpus.records[uuid].gpu)


A, B = gpu("GPU-a", minor=0), gpu("GPU-b", minor=1)


@pytest.mark.parametrize(
    ("minors", "metered", "expected"),
    [
        (None, (), None),
        ((0,), (), True),
        ((1,), (), False),
        ((), (), None),
        (None, ("GPU-a",), True),
        (None, ("GPU-b",), False),
        ((0, 1), ("GPU-b",), None),
        ((1,), ("GPU-b",), False),
        ((1,), ("GPU-a",), True),
        ((0,), ("GPU-a", "GPU-b"), True),
    ],
)
def test_metrics_say_more_than_device_nodes(
    minors: tuple[int, ...] | None, metered: tuple[str, ...], *, expected: bool | None
) -> None:
    """A node without a word in Triton's metrics is a GPU that CUDA may not see: nobody can tell."""
    assert told(seeing(A, B, minors=minors, metered=metered)) is expected


@pytest.mark.parametrize(
    ("named", "minors", "expected"),
    [
        (("GPU-b",), (0, 1), False),
        (("gpu-A",), (0, 1), True),
        (("GPU-",), (0, 1), True),
        (("GPU-a",), (1,), False),
        (("GPU-b",), None, False),
        (("GPU-a",), None, None),
    ],
)
def test_without_metrics_its_environment_says_what_cuda_hides_from_it(
    named: tuple[str, ...], minors: tuple[int, ...] | None, *, expected: bool | None
) -> None:
    """On a plain host it has every node; a GPU that it may not use is not its own."""
    world = serving(ON_GPU, server=server(minors=minors, visible=named)).scans().looks(A, B)
    assert told(world) is expected


def test_without_metrics_its_environment_tells_parts_apart() -> None:
    """By the part's name; by the whole one's, nobody knows which part it got."""
    gpus = A, B, part("MIG-1"), part("MIG-2")
    one = serving(ON_GPU, server=server(minors=(0, 1), visible=("MIG-2",))).scans().looks(*gpus)
    assert [told(one, each.uuid) for each in gpus] == [True, False, False, None]
    whole = serving(ON_GPU, server=server(minors=(0, 1), visible=("GPU-a",))).scans().looks(*gpus)
    assert [told(whole, each.uuid) for each in gpus] == [True, False, None, None]


def test_a_process_of_ours_on_a_gpu_outranks_all_else() -> None:
    """What is listed there is there."""
    listed = gpu("GPU-a", {SERVER_PID: GIB}, minor=0)
    assert told(seeing(listed, B, minors=(1,), metered=("GPU-b",))) is True
    lost = seeing(listed, B, minors=(1,)).looks(gpu("GPU-a", minor=0, error="GPU_IS_LOST"), B)
    assert told(lost) is True


def test_a_gpu_without_a_known_node_is_unknown() -> None:
    """Triton's nodes say nothing of it."""
    assert told(seeing(gpu("GPU-a"), B, minors=(1,))) is None


def test_a_triton_without_any_node_has_no_gpu_unless_it_uses_one() -> None:
    """Where a model was resolved to a GPU, there is one without a node: on WSL, on Jetson."""
    assert told(seeing(A, B, minors=())) is None
    on_cpu = serving(python_model("m"), server=server(minors=())).looks(A, B)
    assert told(on_cpu) is False


def test_where_triton_can_not_be_seen_its_metrics_alone_tell() -> None:
    """There is no root to look into."""
    assert told(seeing(A, B, visible=False)) is None
    assert told(seeing(A, B, visible=False, metered=("GPU-a",))) is True


def part(uuid: str, minor: int = 0, parent: str = "GPU-a", **more: Any) -> Gpu:  # noqa: ANN401
    """A MIG device."""
    return gpu(uuid, more.pop("processes", None), minor=minor, mig=True, parent=parent, **more)


def test_a_gpu_in_parts_is_ours_where_a_part_is() -> None:
    """By a process on the part, by the part's name in metrics, or by the node that they share."""
    listed = seeing(A, part("MIG-1", processes={100: GIB}), part("MIG-2"), minors=None)
    assert [told(listed, uuid) for uuid in ("GPU-a", "MIG-1", "MIG-2")] == [True, True, None]
    metered = seeing(A, part("MIG-1"), part("MIG-2"), metered=("MIG-2",))
    assert [told(metered, uuid) for uuid in ("GPU-a", "MIG-1", "MIG-2")] == [True, False, True]
    noded = seeing(A, part("MIG-1"), part("MIG-2"), minors=(0,))
    assert [told(noded, uuid) for uuid in ("GPU-a", "MIG-1", "MIG-2")] == [True, None, None]


def test_the_only_part_of_a_gpu_that_is_ours_is_ours() -> None:
    """There is nothing that it could be mistaken for."""
    assert told(seeing(A, part("MIG-1"), minors=(0,)), "MIG-1") is True
    assert told(seeing(A, part("MIG-1"), minors=(1,)), "MIG-1") is False
    assert told(seeing(A, part("MIG-1"), metered=("GPU-a",)), "MIG-1") is True


def test_the_only_gpu_there_is_concerns_us_unless_it_is_surely_not_ours() -> None:
    """With a second one, nobody can tell."""
    assert concerned(seeing(A)) is Whose.OURS
    assert concerned(seeing(A, minors=(1,))) is Whose.OTHERS
    assert concerned(seeing(A, B)) is Whose.UNKNOWN
    assert concerned(seeing(A, B, minors=(0,))) is Whose.OURS


def test_a_gpu_that_is_gone_is_no_second_one_unless_it_was_lost() -> None:
    """One that was taken away leaves the other the only one."""
    assert concerned(seeing(A, B).looks(A)) is Whose.OURS
    lost = gpu("GPU-b", minor=1, error="GPU_IS_LOST")
    assert concerned(seeing(A, lost).looks(A)) is Whose.UNKNOWN
    assert concerned(seeing(lost).looks(), "GPU-b") is Whose.OURS


def test_of_the_only_gpu_the_only_part_concerns_us() -> None:
    """And of two parts nobody can tell which."""
    assert concerned(seeing(part("MIG-1")), "MIG-1") is Whose.OURS
    assert concerned(seeing(A, part("MIG-1")), "MIG-1") is Whose.OURS
    assert concerned(seeing(A, part("MIG-1"), part("MIG-2")), "MIG-1") is Whose.UNKNOWN
    assert concerned(seeing(A, part("MIG-1"), part("MIG-2"))) is Whose.OURS
