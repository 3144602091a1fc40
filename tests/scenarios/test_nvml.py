"""NVML absent, broken, or hanging: endpoints answer, the finding says what is unknown, nothing is called CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.facts.placement import EvidenceMode, Verdict
from probe.sandbox.daemon import OPEN
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.nvml.double import EVERY, GpuState, NvmlDouble, ProcessState
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]
GPU = "GPU-11111111-aaaa-4000-8000-000000000001"


@pytest.fixture
def on_gpu(triton: StartTriton, repository: Repository) -> TritonServer:
    """A Triton with a model on a (pretended) GPU that has been exercised."""
    repository.add_echo("on_gpu", kind="KIND_GPU")
    server = triton(environment=cuda_double(1)).wait_ready()
    server.client.infer("on_gpu", (1.0,))
    return server


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "NvmlUnavailable"),
        ({"init_code": 9}, "NvmlUnavailable"),
        ({"init_code": 999}, "NvmlUnavailable"),
        ({"init_code": 18}, "NvmlVersionMismatch"),
        ({"hang": {EVERY: 60.0}}, "NvmlHung"),
    ],
    ids=["no library", "no driver", "999", "18", "every call hangs"],
)
def test_an_nvml_that_does_not_answer_makes_placement_unknown_and_nothing_slow(
    on_gpu: TritonServer,
    daemon: StartDaemon,
    tmp_path: Path,
    state: dict[str, Any] | None,
    reason: str,
) -> None:
    """Its own finding, PlacementUnknown for the model, ready stays open, answers stay quick."""
    environment = {}
    if state is not None:
        double = NvmlDouble(tmp_path)
        double.set(**state)
        environment = double.environment
    probe = daemon(on_gpu, environment=environment)
    finding = probe.wait_finding(reason)
    assert finding.gates == finding.pending == ()
    assert "unknown" in finding.message
    probe.wait_finding("PlacementUnknown", "on_gpu")
    status = probe.status()
    assert status.evidence.mode is EvidenceMode.NO_NVML
    assert [each.placement.verdict for each in status.models] == [Verdict.UNKNOWN]
    assert probe.wait_code("/readyz", OPEN)
    for path in ("/livez", "/readyz", "/startupz", "/healthz", "/status", "/metrics", "/events", "/"):
        began = time.monotonic()
        assert probe.ask(path).code == OPEN
        # Generous: the figure is the bench's business; waiting for a source would take seconds.
        assert time.monotonic() - began < 1.0
    events = probe.ask("/events").body
    assert "GpuNotUsed" not in events
    assert "CpuFallback" not in events


def test_an_nvml_that_breaks_after_it_worked_is_access_lost(
    on_gpu: TritonServer, daemon: StartDaemon, pod: Pod, tmp_path: Path
) -> None:
    """999 after good looks: NvmlAccessLost; the verdict stands for a while, then becomes unknown."""
    double = NvmlDouble(tmp_path)
    server = pod.inside_pid(on_gpu.outer_pid)
    stub = on_gpu.stubs("on_gpu")[0].inside_pid
    assert server is not None
    gpus = [GpuState(uuid=GPU, processes=(ProcessState(server, 1 << 28), ProcessState(stub, 1 << 29)))]
    double.set(gpus=gpus)
    probe = daemon(on_gpu, environment=double.environment)

    def verdict() -> Verdict:
        return probe.status().models[0].placement.verdict

    probe.wait_until("the verdict", lambda: bool(probe.status().models) and verdict() is Verdict.GPU)
    double.set(gpus=gpus, init_code=999, epoch=1)
    lost = probe.wait_finding("NvmlAccessLost")
    assert "Recreate the pod" in lost.remedy
    probe.wait_until("the verdict to expire", lambda: verdict() is Verdict.UNKNOWN)
    assert probe.ask("/readyz").code == OPEN
    double.set(gpus=gpus, epoch=1)
    probe.wait_clear("NvmlAccessLost")
    probe.wait_until("the verdict to return", lambda: verdict() is Verdict.GPU)
