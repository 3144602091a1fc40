"""What of ours broke around an Xid of the hardware: the evidence that it concerns us."""

from __future__ import annotations

import pytest

from probe.facts.models import InstanceKind
from probe.ledgers.gpus import XidRecord
from tests.worlds import GIB, SERVER_PID, World, gpu, group, python_model, row, serving, worker
from tests.worlds import config as model

ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))
HARDWARE, APPLICATION = 95, 31


def at_work(*listed: int) -> World:
    """Both stubs of m run; these pids are on the GPU, and the lists can be trusted."""
    pids = dict.fromkeys(listed or (SERVER_PID, 100, 101), GIB)
    return serving(ON_GPU).scans().looks(gpu(processes=pids), gpu("GPU-b", {SERVER_PID: GIB}))


def xid(world: World, code: int = HARDWARE, uuid: str = "GPU-a") -> XidRecord:
    """What is known of the Xid."""
    return world.book.gpus.of(uuid)[code]


def who(world: World) -> str | None:
    """What is said to have broken."""
    hurt = xid(world).hurt
    return hurt.who if hurt is not None else None


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"signal": 6}, "the stub m_0_0 ended"),
        ({"signal": 11}, "the stub m_0_0 ended"),
        ({"code": 1}, "the stub m_0_0 ended"),
        ({"code": 0}, None),
        ({"signal": 9}, None),
        ({"signal": 15}, None),
        ({}, None),
    ],
)
def test_a_stub_that_breaks_is_evidence_and_one_that_is_ended_is_none(
    ends: dict[str, int], told: str | None
) -> None:
    """An abort or an error is its own; SIGKILL and SIGTERM are somebody's order."""
    assert who(at_work().xid(HARDWARE).exits(100, **ends)) == told
    assert who(at_work().exits(100, **ends).xid(HARDWARE)) == told


def test_only_what_breaks_around_the_xid_is_evidence() -> None:
    """From 10 s before to a minute after."""
    assert who(at_work().exits(100, signal=6).later(8.0).xid(HARDWARE)) is not None
    assert who(at_work().exits(100, signal=6).later(10.0).xid(HARDWARE)) is None
    assert who(at_work().xid(HARDWARE).later(59.0).exits(100, signal=6)) is not None
    assert who(at_work().xid(HARDWARE).later(60.0).exits(100, signal=6)) is None


def test_the_first_that_broke_is_told_and_stays() -> None:
    """What breaks afterwards may be its consequence; a reload takes the dead away, not what happened."""
    world = at_work().exits(101, signal=6).xid(HARDWARE).exits(100, signal=6)
    assert who(world) == "the stub m_0_1 ended"
    hurt = xid(world).hurt
    assert hurt is not None
    assert hurt.at.mono < xid(world).last.mono
    reloaded = world.without_model("m").having(stubs=()).polls().scans()
    assert not reloaded.book.stubs.dead
    assert who(reloaded) == "the stub m_0_1 ended"


def test_a_stub_on_another_gpu_is_no_evidence() -> None:
    """As far as the lists show; where they prove nothing, it may have been on this one."""
    elsewhere = at_work(SERVER_PID, 101)
    assert who(elsewhere.xid(HARDWARE).exits(100, signal=6)) is None
    assert who(elsewhere.xid(HARDWARE).exits(101, signal=6)) is not None
    blind = serving(ON_GPU).looks(gpu(processes={}))
    assert who(blind.xid(HARDWARE).exits(100, signal=6)) is not None
    assert who(serving(ON_GPU).xid(HARDWARE).exits(100, signal=6)) is not None


def test_a_stub_that_left_the_list_just_before_was_on_the_gpu() -> None:
    """NVML is looked at between the exit and the report."""
    world = at_work().exits(100, signal=6).looks(gpu(processes={SERVER_PID: GIB, 101: GIB})).xid(HARDWARE)
    assert who(world) == "the stub m_0_0 ended"


def test_a_worker_that_breaks_is_evidence() -> None:
    """A vLLM worker holds the GPU, not its stub."""
    with_worker = serving(ON_GPU).with_worker(100, worker(110, parent=100)).scans().polls().scans()
    world = with_worker.looks(gpu(processes={110: GIB})).xid(HARDWARE)
    assert who(world.worker_exits(110, signal=6)) == "a worker of m_0_0 ended"
    assert who(world.worker_exits(110, signal=9)) is None


def test_tritonserver_that_breaks_is_evidence() -> None:
    """Models that run inside it take it along; the next one does not take the evidence away."""
    assert who(at_work().xid(HARDWARE).server_exits(signal=6)) == "tritonserver ended"
    assert who(at_work().xid(HARDWARE).server_exits(signal=15)) is None
    assert who(at_work(100).xid(HARDWARE).server_exits(signal=6)) is None


def failing(world: World, name: str, *, polls: int = 2) -> World:
    """Every request to the model fails, seen by so many polls."""
    for number in range(1, polls + 1):
        world = world.with_row(row(name, success=5, failure=number)).polls(pending=())
    return world


def test_a_model_that_begins_to_fail_is_evidence() -> None:
    """Over two polls: one bad request is none."""
    used = at_work().with_row(row("m", success=5)).polls(pending=())
    assert who(failing(used.xid(HARDWARE), "m")) == "m/1 began to fail"
    assert who(failing(used.xid(HARDWARE), "m", polls=1)) is None
    assert who(failing(used, "m").later(60.0).xid(HARDWARE)) is None


def test_a_model_inside_tritonserver_fails_where_tritonserver_is() -> None:
    """And where processes can not be seen, anywhere."""
    inside = model("o", group("o", InstanceKind.GPU), backend="onnxruntime")
    gpus = gpu(processes={7: GIB}), gpu("GPU-b", {SERVER_PID: GIB})
    world = serving(inside).looks(*gpus).scans(existing=(7, SERVER_PID)).looks(*gpus)
    used = world.with_row(row("o", success=5)).polls(pending=())
    assert who(failing(used.xid(HARDWARE), "o")) is None
    other = failing(used.xid(HARDWARE, "GPU-b"), "o")
    assert xid(other, uuid="GPU-b").hurt is not None
    hidden = serving(inside, server=None).with_row(row("o", success=5)).polls(pending=())
    assert who(failing(hidden.looks(gpu(processes={7: GIB})).xid(HARDWARE), "o")) == "o/1 began to fail"


def test_an_xid_of_the_application_looks_for_no_evidence() -> None:
    """It fails no gate, whatever broke."""
    world = at_work().xid(APPLICATION).exits(100, signal=6)
    assert xid(world, APPLICATION).hurt is None


def test_evidence_of_an_xid_that_is_long_over_is_none_of_the_next() -> None:
    """The same code an hour later, or after the GPU recovered, is another story."""
    hurt = at_work().xid(HARDWARE).exits(100, signal=6)
    assert who(hurt.later(600.0).xid(HARDWARE)) is not None
    assert who(hurt.later(3600.0).xid(HARDWARE)) is None
    reset = hurt.looks(gpu(recovery_action="gpu_reset")).looks(gpu(recovery_action="none"))
    assert who(reset.later(20.0).xid(HARDWARE)) is None


def test_nobody_looks_for_evidence_of_an_old_xid() -> None:
    """A thousand models are folded in every poll; the looks at NVML tell how late it is."""
    world = at_work().xid(HARDWARE)
    assert world.book.gpus.unexplained == (("GPU-a", HARDWARE),)
    assert world.later(118.0).looks(gpu()).book.gpus.unexplained != ()
    assert world.later(120.0).looks(gpu()).book.gpus.unexplained == ()
    assert World().xid(HARDWARE).book.gpus.unexplained != ()
