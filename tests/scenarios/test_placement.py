"""Where models run: the silent fallback, the GPU that is used, and the one that is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.facts.placement import EvidenceMode, Verdict
from probe.facts.status import ModelStatus
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.nvml.double import GpuState, NvmlDouble, ProcessState
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

MIB = 1 << 20
FIRST, SECOND = "GPU-11111111-aaaa-4000-8000-000000000001", "GPU-22222222-bbbb-4000-8000-000000000002"


def model(probe: Daemon, name: str) -> ModelStatus:
    """This model's part of ``/status``."""
    return next(each for each in probe.status().models if each.name == name)


@pytest.fixture
def nvml(tmp_path: Path) -> NvmlDouble:
    """NVML as the daemon will find it."""
    return NvmlDouble(tmp_path)


def test_a_model_meant_for_a_gpu_on_a_machine_without_one_is_a_fallback(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod
) -> None:
    """No instance_group, placement.default: gpu: CpuFallback closes ready, doctor names line and file."""
    repository.add_echo()
    server = triton().wait_ready()
    probe = daemon(server, settings="interval: 1s\nplacement: {default: gpu}\n")
    found = probe.wait_finding("CpuFallback")
    assert server.client.model_ready("echo")
    assert found.subject.model == "echo"
    assert probe.ask("/readyz").code == CLOSED
    assert probe.ask("/livez").code == OPEN
    assert model(probe, "echo").placement.verdict is Verdict.CPU

    doctor = pod.popen(
        [
            *(sys.executable, "-m", "probe", "doctor", "--grpc", server.grpc, "--http", server.http),
            *("--metrics", server.metrics, "--placement-default", "gpu"),
        ],
        stdout=subprocess.PIPE,
    )
    output = doctor.process.communicate(timeout=30)[0].decode()
    doctor.close()
    assert doctor.process.returncode == 2
    assert "instance_group [ { count: 1 kind: KIND_GPU } ]" in output
    assert str(repository.path / "echo" / "config.pbtxt") in output


def test_gpu_memory_of_a_models_stubs_is_its_proof_and_absence_after_use_its_disproof(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod, nvml: NvmlDouble
) -> None:
    """Verdict gpu with UUIDs and bytes; unknown before a model was exercised, GpuNotUsed after."""
    repository.add_echo("resident", kind="KIND_GPU", gpus=(0, 1)).add_echo("idle", kind="KIND_GPU", gpus=(0,))
    server = triton(environment=cuda_double(2)).wait_ready()

    def gpus() -> list[GpuState]:
        ours = pod.inside_pid(server.outer_pid)
        assert ours is not None
        one, two = (stub.inside_pid for stub in server.stubs("resident"))
        context = ProcessState(ours, 300 * MIB)
        return [
            GpuState(uuid=FIRST, minor=0, processes=(context, ProcessState(one, 700 * MIB))),
            GpuState(uuid=SECOND, minor=1, processes=(context, ProcessState(two, 500 * MIB))),
        ]

    nvml.set(gpus=gpus())
    probe = daemon(server, environment=nvml.environment)
    probe.wait_until("evidence", lambda: probe.status().evidence.mode is EvidenceMode.FULL)
    probe.wait_until("a verdict", lambda: model(probe, "resident").placement.verdict is Verdict.GPU)
    placement = model(probe, "resident").placement
    assert placement.gpus == (FIRST, SECOND)
    assert placement.gpu_memory_bytes == 1200 * MIB
    assert (placement.declared, placement.expected, placement.explicit) == ("gpu", "gpu", True)
    assert sorted(stub.gpu_memory_bytes or 0 for stub in model(probe, "resident").stubs) == [
        500 * MIB,
        700 * MIB,
    ]

    assert model(probe, "idle").placement.verdict is Verdict.UNKNOWN
    assert probe.wait_finding("PlacementUnknown").subject.model == "idle"
    assert probe.wait_code("/readyz", OPEN)

    server.client.infer("idle", (1.0,))
    unused = probe.wait_finding("GpuNotUsed")
    assert unused.subject.model == "idle"
    assert unused.evidence["executions"] == 1
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]GpuNotUsed idle/1")
    assert model(probe, "idle").placement.verdict is Verdict.CPU
    assert probe.finding("CpuFallback") is None

    # It takes its GPU after all: the finding goes at the next look.
    late = server.stubs("idle")[0].inside_pid
    first, second = gpus()
    nvml.set(gpus=[GpuState(uuid=FIRST, processes=(*first.processes, ProcessState(late, 64 * MIB))), second])
    probe.wait_clear("GpuNotUsed")
    probe.wait_code("/readyz", OPEN)


@pytest.mark.parametrize("listed", ["nothing", "strangers"])
def test_lists_that_can_not_be_trusted_prove_nothing(
    triton: StartTriton,
    repository: Repository,
    daemon: StartDaemon,
    nvml: NvmlDouble,
    listed: str,
) -> None:
    """Empty lists, or pids of another namespace: the mode says so, and no model is called absent."""
    repository.add_echo("on_gpu", kind="KIND_GPU")
    server = triton(environment=cuda_double(1)).wait_ready()
    server.client.infer("on_gpu", (1.0,))
    strangers = (ProcessState(3_999_999, 900 * MIB),) if listed == "strangers" else ()
    nvml.set(gpus=[GpuState(uuid=FIRST, processes=strangers)])
    probe = daemon(server, environment=nvml.environment)
    mode = EvidenceMode.FOREIGN_PIDS if listed == "strangers" else EvidenceMode.BLIND
    probe.wait_until("the mode", lambda: probe.status().evidence.mode is mode)
    unknown = probe.wait_finding("PlacementUnknown", "on_gpu")
    assert "shareProcessNamespace" in unknown.remedy
    assert model(probe, "on_gpu").placement.verdict is Verdict.UNKNOWN
    assert probe.wait_code("/readyz", OPEN)
    assert "GpuNotUsed" not in probe.ask("/events").body
    assert "CpuFallback" not in json.loads(probe.ask("/status").body)["findings"]
