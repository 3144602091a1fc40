"""The health of GPUs: what NVML says of one is a finding, fails ready where it is ours, and never live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.facts.findings import Severity
from probe.facts.placement import EvidenceMode
from probe.facts.status import GpuStatus
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.nvml.double import EVERY, FOREVER, GpuState, NvmlDouble, ProcessState
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

GIB = 1 << 30
OURS, OTHER = "GPU-11111111-aaaa-4000-8000-000000000001", "GPU-22222222-bbbb-4000-8000-000000000002"
LOST, RESET = {"nvmlDeviceGetMemoryInfo": 15}, {"nvmlDeviceGetMemoryInfo": 16}
GPU_RESET, DRAIN_P2P = 1, 3
ONLY = ("GpuLost", "GpuResetRequired", "GpuXid", "GpuEcc", "GpuThrottled", "GpuMemoryPressure")


class Node:
    """Two GPUs as the daemon's NVML shows them: Triton's processes are on the first."""

    def __init__(self, nvml: NvmlDouble, pod: Pod, server: TritonServer) -> None:
        pids = [pod.inside_pid(server.outer_pid), server.stubs("on_gpu")[0].inside_pid]
        self.processes = [ProcessState(pid, GIB) for pid in pids if pid is not None]
        self.nvml = nvml

    def shows(
        self,
        *,
        ours: dict[str, Any] | None = None,
        other: dict[str, Any] | None = None,
        **state: Any,  # noqa: ANN401
    ) -> None:
        """From now on, with these differences to two GPUs that are well."""
        told = {"processes": self.processes, "memory_used_bytes": 3 * GIB, **(ours or {})}
        self.nvml.set(
            gpus=[GpuState(uuid=OURS, minor=0, **told), GpuState(uuid=OTHER, minor=1, **(other or {}))],
            **state,
        )


@pytest.fixture
def node(triton: StartTriton, repository: Repository, pod: Pod, tmp_path: Path) -> tuple[Node, TritonServer]:
    """A Triton with a model on the first of two GPUs."""
    repository.add_echo("on_gpu", kind="KIND_GPU")
    server = triton(environment=cuda_double(1)).wait_ready()
    shown = Node(NvmlDouble(tmp_path), pod, server)
    shown.shows()
    return shown, server


@pytest.fixture
def watched(node: tuple[Node, TritonServer], daemon: StartDaemon) -> tuple[Node, Daemon]:
    """The daemon beside it, which knows whose processes are where."""
    shown, server = node
    probe = daemon(server, environment=shown.nvml.environment)
    probe.wait_until("evidence", lambda: probe.status().evidence.mode is EvidenceMode.FULL)
    probe.wait_code("/readyz", OPEN)
    return shown, probe


def gpu(probe: Daemon, uuid: str = OURS) -> GpuStatus:
    """This GPU's part of ``/status``."""
    return next(each for each in probe.status().gpus if each.uuid == uuid)


def metric(probe: Daemon, line: str) -> bool:
    """Whether ``/metrics`` has this line."""
    return line in probe.ask("/metrics").body.splitlines()


@pytest.mark.parametrize(
    ("sick", "reason", "said"),
    [
        ({"returns": LOST}, "GpuLost", "fell off the bus"),
        ({"returns": RESET}, "GpuResetRequired", "is reset"),
        ({"recovery": GPU_RESET}, "GpuResetRequired", "is reset"),
    ],
    ids=["lost", "reset required", "recovery action"],
)
def test_a_gpu_of_ours_that_can_not_be_used_closes_ready_until_it_can(
    watched: tuple[Node, Daemon], sick: dict[str, Any], reason: str, said: str
) -> None:
    """And never live; ``/status`` and the metrics say which GPU."""
    node, probe = watched
    assert gpu(probe).ok is True
    node.shows(ours=sick)
    found = probe.wait_finding(reason)
    assert found.subject.gpu_uuid == OURS
    assert said in found.message
    assert probe.wait_code("/readyz", CLOSED).body.startswith(f"[-]{reason} {OURS}")
    assert probe.ask("/livez").code == OPEN
    assert "GpuLost" not in probe.ask("/livez?verbose").body
    assert gpu(probe).ok is False
    assert metric(probe, f'triton_probe_gpu_ok{{gpu_uuid="{OURS}"}} 0.0')
    assert metric(probe, f'triton_probe_gpu_ok{{gpu_uuid="{OTHER}"}} 1.0')
    node.shows()
    probe.wait_clear(reason)
    probe.wait_code("/readyz", OPEN)
    assert gpu(probe).ok is True


def test_trouble_that_is_not_ours_or_not_with_the_gpu_alone_closes_nothing(
    watched: tuple[Node, Daemon],
) -> None:
    """A GPU without a process of ours, and traffic between GPUs that is to be drained."""
    node, probe = watched
    node.shows(ours={"recovery": DRAIN_P2P}, other={"returns": LOST})
    drained, lost = probe.wait_finding("GpuResetRequired"), probe.wait_finding("GpuLost")
    assert (drained.subject.gpu_uuid, drained.severity) == (OURS, Severity.WARNING)
    assert (lost.subject.gpu_uuid, lost.severity) == (OTHER, Severity.WARNING)
    assert drained.gates == lost.gates == drained.pending == lost.pending == ()
    assert "can not be told" in lost.message
    assert probe.ask("/readyz").code == OPEN
    assert gpu(probe, OTHER).ok is False


def test_a_lost_gpu_stays_lost_while_nvml_hangs(watched: tuple[Node, Daemon]) -> None:
    """A dying GPU takes NVML along: a look that does not come back clears nothing."""
    node, probe = watched
    node.shows(ours={"returns": LOST})
    probe.wait_finding("GpuLost")
    node.shows(ours={"returns": LOST}, hang={EVERY: FOREVER})
    probe.wait_finding("NvmlHung")
    # Longer than the three intervals for which the last good look is believed in everything else.
    probe.wait_until("evidence to expire", lambda: probe.status().evidence.mode is EvidenceMode.NO_NVML)
    assert probe.finding("GpuLost") is not None
    assert probe.ask("/readyz").code == CLOSED
    assert probe.ask("/livez").code == OPEN


def test_memory_pressure_names_who_holds_it(watched: tuple[Node, Daemon]) -> None:
    """Above 95 % a warning by model; engines that take 90 % are no case."""
    node, probe = watched
    node.shows(ours={"memory_used_bytes": 72 * GIB})
    probe.wait_until("the figure", lambda: gpu(probe).memory_used_bytes == 72 * GIB)
    assert probe.finding("GpuMemoryPressure") is None
    node.shows(ours={"memory_used_bytes": 79 * GIB})
    found = probe.wait_finding("GpuMemoryPressure")
    assert found.subject.gpu_uuid == OURS
    assert "98.8% of the memory" in found.message
    assert "1.0 GiB by on_gpu/1" in found.message
    assert "1.0 GiB by tritonserver" in found.message
    assert "77.0 GiB" in found.message
    assert found.gates == ()
    assert probe.ask("/readyz").code == OPEN
    node.shows()
    probe.wait_clear("GpuMemoryPressure")
    assert {each.reason for each in probe.status().findings}.isdisjoint(ONLY)
