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
from probe.ledgers.exercise import TURNS
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
    output = doctor.process.communicate(timeout=120)[0].decode()
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
    probe.wait_finding("PlacementUnknown", "idle")
    probe.wait_clear("PlacementUnknown", "resident")
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


def shown(pod: Pod, server: TritonServer, first: list[int], second: list[int]) -> list[GpuState]:
    """Two GPUs with tritonserver's context on each, and 900 MiB of these processes."""
    ours = pod.inside_pid(server.outer_pid)
    assert ours is not None
    return [
        GpuState(
            uuid=uuid,
            minor=minor,
            processes=(
                ProcessState(ours, 300 * MIB),
                *(ProcessState(pid, 900 * MIB) for pid in pids),
            ),
        )
        for minor, (uuid, pids) in enumerate(((FIRST, first), (SECOND, second)))
    ]


def test_a_model_on_another_gpu_than_its_policy_names_closes_ready_until_it_moves(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod, nvml: NvmlDouble
) -> None:
    """WrongGpu with the UUIDs; what CUDA_VISIBLE_DEVICES says to tritonserver makes the remedy a line to paste."""
    repository.add_echo(kind="KIND_GPU", gpus=(0,))
    environment = {**cuda_double(2), "CUDA_VISIBLE_DEVICES": f"{FIRST},{SECOND}"}
    server = triton(environment=environment).wait_ready()
    stub = server.stubs("echo")[0].inside_pid
    nvml.set(gpus=shown(pod, server, [stub], []))
    settings = f"interval: 1s\nplacement: {{models: {{echo: {{gpus: [{SECOND}]}}}}}}\n"
    probe = daemon(server, settings=settings, environment=nvml.environment)
    wrong = probe.wait_finding("WrongGpu")
    assert wrong.evidence["found"] == FIRST
    assert wrong.evidence["allowed"] == SECOND
    assert "gpus: [ 1 ] } ]" in wrong.remedy
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]WrongGpu echo/1")
    assert model(probe, "echo").placement.memory_bytes_by_gpu == {FIRST: 900 * MIB}

    nvml.set(gpus=shown(pod, server, [], [stub]))
    probe.wait_clear("WrongGpu")
    probe.wait_code("/readyz", OPEN)


def test_instances_over_two_gpus_that_are_all_on_the_first_are_skewed(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod, nvml: NvmlDouble
) -> None:
    """A warning that fails no gate, and goes when one of them moves."""
    repository.add_echo(kind="KIND_GPU", gpus=(0, 1))
    server = triton(environment=cuda_double(2)).wait_ready()
    one, two = (stub.inside_pid for stub in server.stubs("echo"))
    nvml.set(gpus=shown(pod, server, [one, two], []))
    probe = daemon(server, environment=nvml.environment)
    skewed = probe.wait_finding("PlacementSkewed")
    assert skewed.evidence["found"] == FIRST
    assert skewed.evidence["declared_ordinals"] == "0,1"
    assert probe.wait_code("/readyz", OPEN)

    nvml.set(gpus=shown(pod, server, [one], [two]))
    probe.wait_clear("PlacementSkewed")


def test_fewer_instances_on_a_gpu_than_are_meant_to_be_is_told_with_the_numbers(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, pod: Pod, nvml: NvmlDouble
) -> None:
    """Declared on the GPU are two, found there is one; unknown until each had its turn."""
    repository.add_echo(kind="KIND_GPU", gpus=(0, 1))
    server = triton(environment=cuda_double(2)).wait_ready()
    one, _ = (stub.inside_pid for stub in server.stubs("echo"))
    nvml.set(gpus=shown(pod, server, [one], []))
    settings = "interval: 1s\nplacement: {models: {echo: {min_instances: 2}}}\n"
    probe = daemon(server, settings=settings, environment=nvml.environment)
    probe.wait_until(
        "a verdict", lambda: [each.placement.verdict for each in probe.status().models] == [Verdict.GPU]
    )
    assert probe.finding("GpuNotUsed") is None

    for _ in range(2 * TURNS):
        server.client.infer("echo", (1.0,))
    fewer = probe.wait_finding("GpuNotUsed")
    assert (fewer.evidence["stubs_on_gpu"], fewer.evidence["min_instances"]) == (1, 2)
    assert "min_instances" in fewer.message
    assert model(probe, "echo").placement.verdict is Verdict.GPU
    assert probe.wait_code("/readyz", CLOSED).body.startswith("[-]GpuNotUsed echo/1")


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
