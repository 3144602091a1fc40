"""What the driver lists of whom: with and without a CUDA context, and across pid namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from probe.sandbox.pods import BarePod, Pod
from tests.gpu.conftest import Tell

MIB = 1 << 20
HOLDER = Path(__file__).with_name("holder.py")


class Holder:
    """A started ``holder.py``, which does what it is told."""

    def __init__(self, pod: BarePod) -> None:
        self.program = pod.popen(
            [sys.executable, HOLDER], dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, order: str) -> Any:  # noqa: ANN401 - JSON
        """Give an order, and wait for the answer."""
        into, out = self.program.process.stdin, self.program.process.stdout
        assert into is not None
        assert out is not None
        into.write(f"{order}\n".encode())
        into.flush()
        return json.loads(out.readline())


Hire = Callable[[BarePod], Holder]


@pytest.fixture
def hire(torch_site: Path) -> Iterator[Hire]:
    """Start holders; they end with the test."""
    with ExitStack() as ends:

        def start(where: BarePod) -> Holder:
            holder = Holder(where)
            ends.callback(holder.program.close)
            ends.callback(holder.program.stop)
            return holder

        yield start


@pytest.fixture
def outside() -> Iterator[BarePod]:
    """No namespace at all."""
    with BarePod() as pod:
        yield pod


def test_a_process_is_listed_from_its_first_use_of_cuda_on(
    hire: Hire, outside: BarePod, gpu: str, tell: Tell
) -> None:
    """Importing torch is no use: only a context is listed, with at least the memory that was taken."""
    holder = hire(outside)
    pid = str(holder("import"))
    assert pid not in holder("list")[gpu]
    holder("hold 256")
    listed = holder("list")[gpu]
    assert pid in listed
    tell("bytes listed with 256 MiB held", listed[pid])
    assert listed[pid] is None or listed[pid] >= 256 * MIB
    assert str(os.getpid()) not in listed


def test_processes_of_one_namespace_list_each_other_by_their_pids_there(
    hire: Hire, pod: Pod, outside: BarePod, gpu: str, tell: Tell
) -> None:
    """One holds the GPU, the other sees it by the pid that both know; the look from outside is told."""
    holder, onlooker, stranger = hire(pod), hire(pod), hire(outside)
    pid = str(holder("hold 128"))
    inside, without = onlooker("list")[gpu], stranger("list")[gpu]
    tell("seen in the namespace", inside)
    tell("seen from outside", without)
    tell("pid inside and outside", (pid, pod.outer_pid(int(pid))))
    assert pid in inside
    assert inside[pid] is None or inside[pid] >= 128 * MIB


def test_processes_of_another_namespace_are_not_listed(hire: Hire, pod: Pod, gpu: str, tell: Tell) -> None:
    """From driver 535.113 on: a sidecar without a shared namespace sees an empty list, which proves nothing."""
    holder = hire(pod)
    pid = int(holder("hold 64"))
    with Pod.open() as other:
        listed = hire(other)("list")[gpu]
        tell("listed in another namespace", listed)
        if "NVML_DOUBLE_STATE" not in os.environ:  # the double does not translate pids
            assert str(pid) not in listed
