"""Xids, memory errors and slow clocks: what the driver reports of a GPU, by class and by whom it concerns."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.facts.findings import Severity
from probe.facts.placement import EvidenceMode
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.nvml.double import GpuState, NvmlDouble, ProcessState, Xid
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

GIB = 1 << 30
GPU = "GPU-11111111-aaaa-4000-8000-000000000001"
PAGE_FAULT, ROW_RECORDED, CONTAINED, UNCONTAINED = 31, 63, 94, 95
HW_SLOWDOWN, SW_POWER_CAP, HW_THERMAL = 0x8, 0x4, 0x40


class Scene:
    """A Triton with a model on one GPU, the daemon beside it, and what NVML says."""

    def __init__(self, nvml: NvmlDouble, server: TritonServer, pids: tuple[int, ...]) -> None:
        self.server, self._nvml, self._pids = server, nvml, pids
        self._numbers = itertools.count(1)
        self._xids: list[Xid] = []
        self.shows()

    def shows(self, **gpu: Any) -> None:  # noqa: ANN401
        """From now on, with these differences to a GPU that is well and nobody's but ours."""
        told = {
            "memory_used_bytes": 3 * GIB,
            "processes": [ProcessState(pid, GIB) for pid in self._pids],
            **gpu,
        }
        self._nvml.set(gpus=[GpuState(uuid=GPU, **told)], xids=self._xids)

    def reports(self, code: int, **gpu: Any) -> None:  # noqa: ANN401
        """The driver reports one more Xid."""
        self._xids.append(Xid(GPU, code, next(self._numbers)))
        self.shows(**gpu)


@pytest.fixture
def scene(
    triton: StartTriton, repository: Repository, pod: Pod, tmp_path: Path, daemon: StartDaemon
) -> tuple[Scene, Daemon]:
    """Everything runs, and the driver tells of Xids."""
    repository.add_echo("on_gpu", kind="KIND_GPU")
    server = triton(environment=cuda_double(1)).wait_ready()
    nvml = NvmlDouble(tmp_path)
    pids = (pod.inside_pid(server.outer_pid), server.stubs("on_gpu")[0].inside_pid)
    scene = Scene(nvml, server, tuple(pid for pid in pids if pid is not None))
    probe = daemon(server, environment=nvml.environment)
    probe.wait_until("evidence", lambda: probe.status().evidence.mode is EvidenceMode.FULL)
    probe.wait_until("the wait for Xids", lambda: nvml.awaited)
    probe.wait_code("/readyz", OPEN)
    return scene, probe


def counted(probe: Daemon, code: int, times: int) -> None:
    """Wait until ``/metrics`` counts this Xid so often."""
    line = f'triton_probe_gpu_xid_total{{gpu_uuid="{GPU}",xid="{code}"}} {times}.0'
    probe.wait_until(f"Xid {code}", lambda: line in probe.ask("/metrics").body.splitlines())


def test_an_xid_of_a_program_is_a_warning_and_one_of_the_hardware_closes_ready(
    scene: tuple[Scene, Daemon],
) -> None:
    """Each is counted; the graver one is told first; live stays open."""
    gpu, probe = scene
    gpu.reports(PAGE_FAULT)
    first = probe.wait_finding("GpuXid")
    assert (first.severity, first.gates, first.pending) == (Severity.WARNING, (), ())
    assert first.subject.gpu_uuid == GPU
    assert probe.ask("/readyz").code == OPEN
    gpu.reports(PAGE_FAULT)
    counted(probe, PAGE_FAULT, 2)
    assert probe.status().gpus[0].ok is True
    gpu.reports(UNCONTAINED)
    body = probe.wait_code("/readyz", CLOSED).body
    assert body.startswith(f"[-]GpuXid {GPU}: The driver reported Xid 95")
    assert "Nobody but this Triton" in body
    assert probe.ask("/livez").code == OPEN
    assert probe.status().gpus[0].xids == {"31": 2, "95": 1}
    assert probe.status().gpus[0].ok is False


def test_the_recovery_action_ends_what_the_xid_began(scene: tuple[Scene, Daemon]) -> None:
    """Asked for with the Xid, closed until it is done, open at once then."""
    gpu, probe = scene
    gpu.reports(UNCONTAINED, recovery=1)
    probe.wait_finding("GpuResetRequired")
    assert probe.wait_code("/readyz", CLOSED)
    assert "NVML asks of the GPU that it is reset" in probe.wait_finding("GpuXid").message
    gpu.shows()
    probe.wait_clear("GpuResetRequired")
    probe.wait_clear("GpuXid")
    probe.wait_code("/readyz", OPEN)


def test_another_tenant_s_xid_closes_nothing_until_something_of_ours_breaks(
    scene: tuple[Scene, Daemon],
) -> None:
    """Others hold memory on the GPU; then our stub aborts."""
    gpu, probe = scene
    gpu.shows(memory_used_bytes=40 * GIB)
    probe.wait_until("the figure", lambda: probe.status().gpus[0].memory_used_bytes == 40 * GIB)
    gpu.reports(UNCONTAINED, memory_used_bytes=40 * GIB)
    told = probe.wait_finding("GpuXid")
    assert (told.severity, told.gates) == (Severity.WARNING, ())
    assert "nothing of this Triton broke" in told.message
    assert probe.ask("/readyz").code == OPEN
    os.kill(gpu.server.stubs("on_gpu")[0].pid, signal.SIGABRT)
    probe.wait_until("the evidence", lambda: probe.wait_finding("GpuXid").severity is Severity.CRITICAL)
    assert "the stub on_gpu_0_0 ended" in probe.wait_finding("GpuXid").message
    assert "GpuXid" in probe.wait_code("/readyz", CLOSED).body


def test_memory_errors_and_slow_clocks_are_tickets(scene: tuple[Scene, Daemon]) -> None:
    """Errors from before are none, the power cap is none; neither closes a gate."""
    gpu, probe = scene
    gpu.shows(ecc=(0, 0), clocks=SW_POWER_CAP)
    probe.wait_until("a look", lambda: probe.status().gpus[0].ok is True)
    assert probe.finding("GpuThrottled") is None
    # An Xid has the errors asked for at once, which else are asked for seldom.
    gpu.reports(CONTAINED, ecc=(2, 2), clocks=HW_SLOWDOWN | HW_THERMAL, remapped=(0, 1, 1, 0))
    assert "too hot" in probe.wait_finding("GpuThrottled").message
    errors = probe.wait_finding("GpuEcc")
    assert "2 uncorrected memory errors" in errors.message
    assert "further work is not affected" in errors.message
    assert probe.ask("/readyz").code == OPEN
    gpu.reports(ROW_RECORDED, clocks=SW_POWER_CAP)
    probe.wait_clear("GpuThrottled")
    probe.wait_clear("GpuEcc")
