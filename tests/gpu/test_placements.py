"""The daemon beside a real Triton on a real GPU: torch at load, on the CPU, at the first request, and in process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.facts.placement import EvidenceMode, Verdict
from probe.facts.status import ModelStatus
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from testbed.backends.double import with_backends
from tests.gpu.conftest import Tell

MIB = 1 << 20
PATIENCE = 60.0

# torch lies beside another numpy than the stub's, which must come first: so its folder is appended.
SOURCE = """\
import json
import sys

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        written = json.loads(args["model_config"])["parameters"]
        sys.path.append(written["site"]["string_value"])
        self.when = written["when"]["string_value"]
        self.held = None
        if self.when in ("load", "never"):
            self.take()

    def take(self):
        import torch

        device = "cpu" if self.when == "never" else "cuda:0"
        self.held = torch.zeros(256 << 20, dtype=torch.uint8, device=device)

    def execute(self, requests):
        if self.held is None:
            self.take()
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(each, "INPUT").as_numpy())
                ]
            )
            for each in requests
        ]
"""


@pytest.fixture(scope="module")
def triton(
    driver: str,
    pods_work: None,
    triton_installation: TritonInstallation,
    torch_site: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    """One Triton with four models; nothing was asked of them yet."""
    folder = tmp_path_factory.mktemp("gpu")
    repository = Repository(folder / "models")
    for name, when in (("at_load", "load"), ("on_cpu", "never"), ("lazy", "request")):
        parameters = {"when": when, "site": str(torch_site)}
        repository.add_python(name, source=SOURCE, kind="KIND_GPU", gpus=(0,), parameters=parameters)
    parameters = {"memory_mib": "512", "gpu_ms": "50"}
    repository.add_model("inside", backend="onnxruntime", kind="KIND_GPU", gpus=(0,), parameters=parameters)
    installation = with_backends(triton_installation, folder)
    # The driver's libraries may be found through this process's own variables alone.
    inherited = {name: os.environ[name] for name in _DRIVER_VARIABLES if name in os.environ}
    paths = [installation.environment["LD_LIBRARY_PATH"], os.environ.get("LD_LIBRARY_PATH", "")]
    with Pod.open(shm_bytes=1 << 30) as pod:
        server = TritonServer(
            pod,
            installation,
            repository.path,
            log=folder / "triton.log",
            control_mode="explicit",
            load_models=("*",),
            environment={**inherited, "LD_LIBRARY_PATH": ":".join(filter(None, paths))},
        )
        yield server.wait_live(PATIENCE * 2)


_DRIVER_VARIABLES = (
    "LD_PRELOAD",
    "NVML_DOUBLE_STATE",
    "CUDA_DOUBLE_DEVICES",
    "CUDA_DOUBLE_ERROR",
    "CUDA_VISIBLE_DEVICES",
)


@pytest.fixture
def probe(triton: TritonServer, tmp_path: Path) -> Iterator[Daemon]:
    """The daemon beside it, in the same pid namespace."""
    (port,) = free_ports(1)
    environment = {"LD_PRELOAD": ""}
    addresses = {"grpc": triton.grpc, "http": triton.http, "metrics": triton.metrics}
    log = tmp_path / "probe.log"
    with Daemon(
        triton.pod, port, log=log, addresses=addresses, settings="interval: 1s\n", environment=environment
    ) as one:
        one.wait_code("/livez", OPEN, seconds=PATIENCE)
        yield one


def model(probe: Daemon, name: str) -> ModelStatus:
    """This model's part of ``/status``."""
    return next(each for each in probe.status().models if each.name == name)


@pytest.mark.timeout(240)
def test_verdicts_follow_what_the_models_really_do(
    triton: TritonServer, probe: Daemon, gpu: str, tell: Tell
) -> None:
    """On the GPU from the load on, provably not on it, and unknown until the first request puts it there."""

    def verdict(name: str, wanted: Verdict) -> ModelStatus:
        probe.wait_until(
            f"{name} to be {wanted}",
            lambda: (
                any(each.name == name and each.placement.verdict is wanted for each in probe.status().models)
                or None
            ),
            PATIENCE,
        )
        return model(probe, name)

    at_load = verdict("at_load", Verdict.GPU)
    tell("evidence", probe.status().evidence)
    tell("at_load", at_load.placement)
    assert probe.status().evidence.mode is EvidenceMode.FULL
    assert at_load.placement.gpus == (gpu,)
    assert (at_load.placement.gpu_memory_bytes or 0) >= 256 * MIB

    tell("lazy, before its first request", verdict("lazy", Verdict.UNKNOWN).placement)
    assert probe.finding("GpuNotUsed", "lazy") is None
    triton.client.infer("lazy", (1.0,), seconds=PATIENCE)
    tell("lazy, after it", verdict("lazy", Verdict.GPU).placement)

    triton.client.infer("on_cpu", (1.0,), seconds=PATIENCE)
    unused = probe.wait_finding("GpuNotUsed", "on_cpu", PATIENCE)
    tell("on_cpu", unused.message)
    assert model(probe, "on_cpu").placement.verdict is Verdict.CPU

    for _ in range(5):
        triton.client.infer("inside", (1.0,), seconds=PATIENCE)
    inside = model(probe, "inside").placement
    tell("inside tritonserver", inside)
    assert inside.verdict in {Verdict.GPU, Verdict.UNKNOWN}
    accused = {each["subject"] for each in probe.events() if each.get("reason") == "GpuNotUsed"}
    assert accused == {"on_cpu/1"}
