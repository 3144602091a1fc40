"""What NVML is made to say of the truth: of every process of every model, and of tritonserver's own context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from probe.sandbox.processes import PodProcess
from probe.sandbox.tritonserver import TritonServer
from testbed.nvml.double import GpuState, MigState, ProcessState
from testbed.placement.cases import Case, Plan, Sight

MIB = 1 << 20
GIB = 1 << 30
CONTEXT_MIB = 300
"""What tritonserver itself holds on every GPU it sees: its context and its pool."""
LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3")
NO_PERMISSION = 4
_FOREIGN = 3_000_000
"""Added to a pid, it is one that no process of this machine's pid namespaces has."""


def uuid_of(gpu: int, device: int | None = None) -> str:
    """The UUID of a pretended GPU, or of a MIG device on it."""
    if device is not None:
        return f"MIG-0000000{gpu}-d00d-4000-8000-00000000000{device}"
    return f"GPU-0000000{gpu}-aaaa-4000-8000-000000000001"


def gpus_under(sight: Sight, plan: Plan, server: TritonServer) -> list[GpuState]:
    """What NVML says of the truth of this plan under this sight; no two GPUs have the same figures."""
    return [_gpu(each, sight, plan, server) for each in range(plan.devices)]


def _gpu(number: int, sight: Sight, plan: Plan, server: TritonServer) -> GpuState:
    migs = [
        MigState(
            uuid=uuid_of(number, device),
            name=f"Pretended part {device} of GPU {number}",
            gpu_instance=device + 1,
            memory_total_bytes=(10 * number + device + 1) * GIB,
            memory_used_bytes=_used(processes := tuple(_processes(number, device, sight, plan, server))),
            processes=processes,
        )
        for device in range(plan.migs.get(number, 0))
    ]
    own = () if migs else tuple(_processes(number, None, sight, plan, server))
    refused = dict.fromkeys(LISTS, NO_PERMISSION) if sight is Sight.ONE_LIST and number == 0 else {}
    return GpuState(
        uuid=uuid_of(number),
        name=f"Pretended GPU {number}",
        minor=number,
        pci=f"00000000:{number + 1:02X}:00.0",
        memory_total_bytes=(80 + number) * GIB,
        memory_used_bytes=number * MIB + _used(own) + sum(each.memory_used_bytes for each in migs),
        processes=own,
        returns=refused,
        migs=migs,
    )


def _processes(
    number: int, device: int | None, sight: Sight, plan: Plan, server: TritonServer
) -> Iterator[ProcessState]:
    if sight is Sight.EMPTY:
        return
    seen = server.pod.processes()
    (main,) = (each for each in seen if each.pid == server.outer_pid)
    truth = [(main.inside_pid, CONTEXT_MIB)] if device in (None, 0) else []
    for case in plan.cases:
        holders = holders_of(case, seen)
        truth += [
            (holders[each.process].inside_pid, each.mib)
            for each in case.holds
            if (each.gpu, each.device) == (number, device)
        ]
    for pid, mib in truth:
        foreign = _FOREIGN if sight is Sight.FOREIGN else 0
        yield ProcessState(pid + foreign, 0 if sight is Sight.PIDS else mib * MIB)


def holders_of(case: Case, seen: Sequence[PodProcess]) -> list[PodProcess]:
    """The processes of a case that can hold a GPU: its engines where it has any, else its stubs."""
    # A stub's ninth argument is its instance's name; a group of a model is called as the model, with a number.
    stubs = sorted(
        (
            each
            for each in seen
            if len(each.arguments) > 9
            and re.fullmatch(rf"{re.escape(case.name)}(_\d+){{1,2}}", each.arguments[8])
        ),
        key=lambda each: (each.arguments[8], each.pid),
    )
    parents = {each.pid for each in stubs}
    engines = [each for each in seen if each.parent in parents]
    return engines or stubs


def _used(processes: Sequence[ProcessState]) -> int:
    return sum(each.used_bytes or 0 for each in processes)
