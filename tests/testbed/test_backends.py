"""The backend double, in the real tritonserver: what Triton makes of backends of any name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.sandbox.client import TritonClient
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from testbed.backends.double import ENGINE, add_vllm, with_backends
from testbed.crashes import lives
from testbed.cuda import cuda_double
from testbed.tools import until

MIB = 1 << 20
NAMES = ("onnxruntime", "tensorrt", "pytorch", "openvino", "tensorrtllm")
LOAD = {"memory_mib": "3", "reported_mib": "7"}

Opened = Callable[[int], TritonServer]


@pytest.fixture(scope="module")
def opened(
    pods_work: None, triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """One Triton for each number of GPUs, with models of every backend whose group is written and is not."""
    servers: dict[int, TritonServer] = {}
    pods: list[Pod] = []

    def start(gpus: int) -> TritonServer:
        folder = tmp_path_factory.mktemp(f"gpus-{gpus}")
        repository = Repository(folder / "models")
        for name in NAMES:
            repository.add_model(name, backend=name, parameters=LOAD)
            repository.add_model(f"{name}_cpu", backend=name, kind="KIND_CPU", parameters=LOAD)
        repository.add_model("openvino_gpu", backend="openvino", kind="KIND_GPU")
        repository.add_model("auto", backend="onnxruntime", kind="KIND_AUTO")
        repository.add_model("computes", backend="pytorch", kind="KIND_CPU", parameters={"cpu_ms": "300"})
        repository.add_model("waits", backend="pytorch", kind="KIND_CPU", parameters={"wait_ms": "300"})
        add_vllm(repository, "vllm", engines=2)
        pods.append(Pod.open())
        started: list[TritonServer] = []
        for life in lives(started):
            with life:
                server = TritonServer(
                    pods[-1],
                    with_backends(triton_installation, folder),
                    repository.path,
                    log=folder / f"triton-{len(started)}.log",
                    control_mode="explicit",
                    load_models=("*",),
                    environment=cuda_double(gpus),
                )
                started.append(server)
                server.wait_live()
        return started[-1]

    def get(gpus: int) -> TritonServer:
        if gpus not in servers:
            servers[gpus] = start(gpus)
        return servers[gpus]

    yield get
    for pod in pods:
        pod.close()


def groups(client: TritonClient, model: str) -> list[tuple[str, str, int, list[int]]]:
    """What Triton made of a model's instance groups: name, kind, count, gpus."""
    told = client.config(model)["instance_group"]
    return [(each["name"], each["kind"], each["count"], each["gpus"]) for each in told]


def reason(client: TritonClient, model: str) -> str:
    """Why a model is not there."""
    return next(each["reason"] for each in client.index() if each["name"] == model)


@pytest.mark.parametrize(
    ("model", "alone", "beside_two"),
    [
        ("onnxruntime", ("KIND_CPU", 2, []), ("KIND_GPU", 1, [0, 1])),
        ("pytorch", ("KIND_CPU", 1, []), ("KIND_GPU", 1, [0, 1])),
        ("tensorrtllm", ("KIND_CPU", 1, []), ("KIND_GPU", 1, [0, 1])),
        ("openvino", ("KIND_CPU", 1, []), ("KIND_CPU", 1, [])),
    ],
)
def test_where_nothing_is_written_triton_decides_by_backend_and_gpus(
    opened: Opened, model: str, alone: tuple[object, ...], beside_two: tuple[object, ...]
) -> None:
    """Two CPU instances are onnxruntime's fallback; openvino asks for the CPU; the group has the model's name."""
    assert groups(opened(0).client, model) == [(model, *alone)]
    assert groups(opened(2).client, model) == [(model, *beside_two)]


def test_a_written_kind_auto_looks_like_a_written_cpu_where_there_is_no_gpu(opened: Opened) -> None:
    """Its group is numbered, as one of KIND_CPU would be: the resolved configuration can not tell them apart."""
    assert groups(opened(0).client, "auto") == [("auto_0", "KIND_CPU", 1, [])]
    assert groups(opened(2).client, "auto") == [("auto_0", "KIND_GPU", 1, [0, 1])]


def test_backends_refuse_what_the_real_ones_refuse(opened: Opened) -> None:
    """The model is unavailable, with the real backend's words."""
    words = "Triton OpenVINO backend supports only Kind CPU and AUTO"
    assert words in reason(opened(2).client, "openvino_gpu")
    assert "TensorRT backend supports only GPU device" in reason(opened(2).client, "tensorrt_cpu")
    assert "TensorRT backend supports only GPU device" in reason(opened(0).client, "tensorrt")


@pytest.mark.parametrize("model", ["onnxruntime", "tensorrt", "pytorch", "openvino", "tensorrtllm", "vllm"])
def test_every_model_answers_what_it_was_asked_and_is_counted(opened: Opened, model: str) -> None:
    """Inside tritonserver or in a stub: the answer is the input, and the statistics move by one."""
    client = opened(2).client
    before = client.statistics(model)
    assert client.infer(model, (1.5, -2.0)) == [1.5, -2.0]
    # Triton counts after it has answered.
    until(lambda: client.statistics(model)["last_inference"] > before["last_inference"])
    until(lambda: client.statistics(model)["execution_count"] > before["execution_count"])
    after = client.statistics(model)
    assert after["execution_count"] - before["execution_count"] == 1


def test_reported_memory_is_in_the_statistics_by_device(opened: Opened) -> None:
    """Bytes for each CUDA ordinal; none from an instance on the CPU."""
    told = opened(2).client.statistics("onnxruntime")["memory_usage"]
    assert told == [{"type": "GPU", "id": device, "byte_size": 7 * MIB} for device in (0, 1)]
    assert opened(2).client.statistics("onnxruntime_cpu")["memory_usage"] == []


def test_a_request_computes_or_waits_as_the_model_says(opened: Opened) -> None:
    """Both take at least 300 ms by Triton's count; only one takes CPU time of tritonserver."""
    server = opened(0)

    def used(model: str) -> float:
        before = cpu_seconds(server.outer_pid)
        server.client.infer(model)
        return cpu_seconds(server.outer_pid) - before

    assert used("computes") - used("waits") >= 0.2

    def counted(model: str) -> float:
        told = server.client.statistics(model)["inference_stats"]["compute_infer"]["ns"]
        return float(told)

    # Triton counts after it has answered.
    until(lambda: counted("computes") >= 300e6 and counted("waits") >= 300e6)


def test_a_python_based_backend_has_its_folder_and_its_engines(opened: Opened) -> None:
    """The stub's last argument is the backend's folder; its engines are below it, by vLLM's name."""
    server = opened(2)
    # Its model.py is the backend's, so its path does not name the model.
    (stub,) = (each for each in server.stubs() if each.instance == "vllm_0_0")
    members = {each.pid: each for each in server.pod.processes()}
    assert members[stub.pid].arguments[9].endswith("/backends/vllm")
    engines = [each for each in members.values() if each.parent == stub.pid]
    assert [each.name for each in engines] == [ENGINE[:15]] * 2


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, of all its threads."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
