"""Models inside tritonserver, whose process all of them share: what a load and what requests show of each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from probe.facts.placement import EvidenceMode, Verdict
from probe.facts.status import ModelStatus
from probe.sandbox.daemon import Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from testbed.backends.double import with_backends
from testbed.cuda import cuda_double
from testbed.nvml.double import GpuState, NvmlDouble, ProcessState, SampleState
from tests.scenarios.conftest import StartDaemon

MIB = 1 << 20
GPU = "GPU-11111111-aaaa-4000-8000-000000000001"

Start = Callable[..., TritonServer]


@pytest.fixture
def started(
    triton_installation: TritonInstallation, pod: Pod, repository: Repository, tmp_path: Path
) -> Start:
    """Start Triton with one pretended GPU on the test's repository, with these models loaded."""
    installation = with_backends(triton_installation, tmp_path)

    def start(*models: str) -> TritonServer:
        return TritonServer(
            pod,
            installation,
            repository.path,
            log=tmp_path / "triton.log",
            control_mode="explicit",
            load_models=models,
            environment=cuda_double(1),
        ).wait_ready()

    return start


class Nvml:
    """NVML that lists tritonserver alone."""

    def __init__(self, folder: Path, server: TritonServer) -> None:
        self.double = NvmlDouble(folder)
        pid = server.pod.inside_pid(server.outer_pid)
        assert pid is not None
        self.pid = pid

    def shows(self, mib: int, busy: int = 0) -> None:
        """So much memory, and one sample of how busy it keeps the GPU, in percent, taken now."""
        samples = [SampleState(self.pid, busy)] if busy else []
        processes = [ProcessState(self.pid, mib * MIB)]
        self.double.set(gpus=[GpuState(uuid=GPU, processes=processes, samples=samples)])


def model(probe: Daemon, name: str) -> ModelStatus:
    """This model's part of ``/status``."""
    return next(each for each in probe.status().models if each.name == name)


@contextmanager
def asked(server: TritonServer, name: str) -> Iterator[None]:
    """One request after the other to this model, meanwhile."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            server.client.infer(name)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def preferred(server: TritonServer) -> None:
    """Let tritonserver have the CPU that it wants, where we may: this is about what it does with it."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PGRP, os.getpgid(server.outer_pid), -20)
    with suppress(OSError):  # a kernel that shares its time by sessions
        Path(f"/proc/{server.outer_pid}/autogroup").write_text("-20")


def watched(probe: Daemon) -> None:
    """Wait until the lists have proven themselves."""
    probe.wait_until("the evidence", lambda: probe.status().evidence.mode is EvidenceMode.FULL or None)


def test_memory_that_came_with_a_load_speaks_for_that_model_alone(
    started: Start, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """The one that was there before stays unknown: tritonserver's bare context proves nothing of it."""
    repository.add_model("before", backend="onnxruntime", kind="KIND_GPU")
    repository.add_model("loaded", backend="onnxruntime", kind="KIND_GPU", parameters={"load_ms": "6000"})
    server = started("before")
    nvml = Nvml(tmp_path, server)
    nvml.shows(300)
    probe = daemon(server, environment=nvml.double.environment)
    watched(probe)
    probe.wait_finding("PlacementUnknown", "before")
    loading = threading.Thread(target=server.client.load, args=("loaded",))
    loading.start()
    probe.wait_finding("ModelLoading", "loaded")
    nvml.shows(812)
    loading.join()
    probe.wait_until(
        "the verdict",
        lambda: (
            any(
                each.name == "loaded" and each.placement.verdict is Verdict.GPU
                for each in probe.status().models
            )
            or None
        ),
    )
    found = model(probe, "loaded").placement
    assert found.gpus == (GPU,)
    assert any("512 MiB" in each for each in found.why), found.why
    assert model(probe, "before").placement.verdict is Verdict.UNKNOWN
    assert "GpuNotUsed" not in probe.ask("/events").body


def test_a_gpu_that_is_busy_while_one_model_executes_speaks_for_it(
    started: Start, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """It waits for its GPU and takes no CPU time; the one that is not asked stays unknown."""
    repository.add_model("waits", backend="tensorrt", kind="KIND_GPU", parameters={"wait_ms": "100"})
    repository.add_model("idle", backend="tensorrt", kind="KIND_GPU")
    server = started("waits", "idle")
    nvml = Nvml(tmp_path, server)
    nvml.shows(800)
    probe = daemon(server, environment=nvml.double.environment)
    watched(probe)

    def found() -> bool | None:
        nvml.shows(800, busy=60)  # a sample for each look at the GPUs
        return model(probe, "waits").placement.verdict is Verdict.GPU or None

    with asked(server, "waits"):
        probe.wait_until("the verdict", found, pause=0.4)
    assert any("busy" in each for each in model(probe, "waits").placement.why)
    assert model(probe, "idle").placement.verdict is Verdict.UNKNOWN


def test_a_session_that_computes_on_the_cpu_is_found_by_what_tritonserver_exerts(
    started: Start, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """Declared KIND_GPU, the GPU idle, CPU time as long as the executions: it fell back inside the backend."""
    repository.add_model("fell_back", backend="onnxruntime", kind="KIND_GPU", parameters={"cpu_ms": "100"})
    server = started("fell_back")
    nvml = Nvml(tmp_path, server)
    nvml.shows(800)
    probe = daemon(server, environment=nvml.double.environment)
    watched(probe)
    preferred(server)
    with asked(server, "fell_back"):
        found = probe.wait_finding("GpuNotUsed", "fell_back")
    assert "computes on the CPU" in found.message
    assert model(probe, "fell_back").placement.verdict is Verdict.CPU
