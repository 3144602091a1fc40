"""Is Triton's container found, and no other, and is it known where it listens?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.manifests.triton import Ports, is_triton_image, ports, tritons
from probe.manifests.workloads import Workload, workload


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/nvidia/tritonserver:24.10-py3",
        "registry.example/nvidia/tritonserver:24.10-py3@sha256:0123",
        "localhost:5000/tritonserver",
        "kserve-tritonserver:replace",
        "registry.example/team/tritonserver/embedder:v3",
        "example.com/ml/triton:1",
        "triton-inference-server",
        "ml/our-triton-server:2",
        "nvidia_triton",
        "team/triton-trtllm:9",
    ],
)
def test_images_of_triton(image: str) -> None:
    """By a component of the path, wherever the image lies and whatever its tag."""
    assert is_triton_image(image)


@pytest.mark.parametrize(
    "image",
    [
        "triton-probe:0.1.0",
        "registry/triton-probe",
        "registry.example/nvidia/tritonserver:24.10-py3-sdk",
        "triton-lang/triton:3",
        "registry.example/openai/triton",
        "triton.example.com/nginx",
        "triton-client",
        "triton-metrics-exporter:1",
        "electriton",
        "model-analyzer-triton",
        "nginx",
        "",
        None,
        7,
    ],
)
def test_images_of_others(image: object) -> None:
    """The probe, the clients, the compiler, a registry of that name, and what is no image at all."""
    assert not is_triton_image(image)


def pod(*containers: dict[str, Any], kind: str = "Pod") -> tuple[dict[str, Any], Workload]:
    """A pod of these containers, or a Job of them."""
    spec = {"containers": list(containers)}
    group, body = ("v1", spec) if kind == "Pod" else ("batch/v1", {"template": {"spec": spec}})
    said = {"apiVersion": group, "kind": kind, "metadata": {"name": "p"}, "spec": body}
    work = workload(said)
    assert work is not None
    return said, work


def found(*containers: dict[str, Any], wanted: str | None = None, kind: str = "Pod") -> list[str]:
    """The names of what may run Triton there."""
    said, work = pod(*containers, kind=kind)
    return [each.name for each in tritons(said, work, wanted)]


IMAGE = "tritonserver:24.10"


def test_the_image_goes_before_the_command() -> None:
    """And where two have the image, the one that calls tritonserver is it."""
    by_command = {"name": "c", "image": "ours", "args": ["/opt/tritonserver/bin/tritonserver", "--id=a"]}
    by_image = {"name": "i", "image": IMAGE}

    assert found({"name": "x", "image": "nginx"}, by_command) == ["c"]
    assert found(by_command, by_image) == ["i"]
    assert found(by_image, {"name": "j", "image": IMAGE}) == ["i", "j"]
    assert found(by_image, {"name": "j", "image": IMAGE, "args": ["tritonserver"]}) == ["j"]
    assert found(by_command, by_image, wanted="c") == ["c"]
    assert found(by_command, by_image, wanted="z") == []


@pytest.mark.parametrize(
    "said",
    [
        {"command": ["tritonserver"]},
        {"args": ["--", "tritonserver", "--model-repository=/m"]},
        {
            "command": ["sh", "-c"],
            "args": ["export A=1; exec /opt/tritonserver/bin/tritonserver --exit-on-error=false"],
        },
        {"command": ["bash", "-c", 'mpirun -n 1 "tritonserver" : -n 1 x']},
        {"args": ["python3", "/opt/launch_triton_server.py", "--world_size=1"]},
        {"command": "tritonserver"},
    ],
)
def test_commands_that_call_tritonserver(said: dict[str, Any]) -> None:
    """By themselves, with a path, within a shell's line, or by the launcher of the TensorRT-LLM backend."""
    assert found({"name": "s", "image": "ours", **said}) == ["s"]


@pytest.mark.parametrize(
    "args",
    [
        ["--model-repository=/opt/tritonserver/models"],
        ["perf_analyzer", "-u", "tritonserver:8001"],
        ["--server=tritonserver"],
        ["ls", "/opt/tritonserver/bin"],
        [],
    ],
)
def test_commands_that_only_name_it(args: list[str]) -> None:
    """A folder, a host and an option are no call."""
    assert found({"name": "s", "image": "ours", "args": args}) == []


def test_an_image_that_is_kept_at_hand_serves_nothing() -> None:
    """A pod that sleeps, and a Job that does something else with Triton's image; a script may well start it."""
    script = {"name": "s", "image": IMAGE, "command": ["/scripts/start.sh"]}

    assert found({"name": "s", "image": IMAGE, "command": ["sleep", "infinity"]}) == []
    assert found(script) == ["s"]
    assert found(script, kind="Job") == []
    assert found({**script, "args": ["tritonserver"]}, kind="Job") == ["s"]


def test_nothing_is_found_in_what_is_no_pod() -> None:
    """Lists, words and nulls in the places of mappings are read as nothing."""
    for containers in (None, "x", [None, "x", {"image": IMAGE, "name": 7, "args": {"a": 1}}]):
        said = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}}
        work = workload(said)
        assert work is not None
        assert [each.name for each in tritons(said, work, None)] in ([], [""])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Ports(8001, 8000, 8002)),
        (["--grpc-port=9001", "--http-port", "9000"], Ports(9001, 9000, 8002)),
        (["tritonserver --metrics-port=7 --metrics-port=9002"], Ports(8001, 8000, 9002)),
        (["--http_port", "8100"], Ports(8001, 8100, 8002)),
        (["--allow-metrics=false", "--allow-http=0", "--allow-grpc=true"], Ports(8001, None, None)),
        (["--http-port=$(PORT)"], Ports(8001, 9100, 8002)),
        (["--http-port=${PORT}"], Ports(8001, 9100, 8002)),
        (["--http-port=$(OTHER)"], Ports(8001, 8000, 8002, ("--http-port=$(OTHER)",))),
        (["--grpc-port=0"], Ports(8001, 8000, 8002, ("--grpc-port=0",))),
        (["--http-address=0.0.0.0", "--grpc-infer-allocation-pool-size=4"], Ports()),
        (['sh -c "tritonserver --http-port=9000"'], Ports(8001, 9000, 8002)),
    ],
)
def test_where_triton_listens(args: list[str], expected: Ports) -> None:
    """The last option counts; what the manifest can not tell is said."""
    assert ports({"args": args, "env": [{"name": "PORT", "value": "9100"}, {"name": "OTHER"}]}) == expected


def inference(predictor: dict[str, Any]) -> list[tuple[str, str]]:
    """What of an InferenceService runs Triton, and how it was told."""
    said = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "i"},
        "spec": {"predictor": predictor},
    }
    work = workload(said)
    assert work is not None
    return [(each.name, each.how) for each in tritons(said, work, None, frozenset({"ours"}))]


def test_kserves_ways_to_ask_for_triton() -> None:
    """By runtime, by format, in the older form, or by a container of one's own."""
    rules = "by KServe's rules"
    assert inference({"triton": {"storageUri": "s3://m"}}) == [("triton", rules)]
    assert inference({"model": {"modelFormat": {"name": "triton"}}}) == [("model", rules)]
    assert inference({"model": {"modelFormat": {"name": "onnx"}, "runtime": "kserve-tritonserver"}}) == [
        ("model", rules)
    ]
    assert inference({"model": {"modelFormat": {"name": "onnx"}, "runtime": "ours"}}) == [("model", rules)]
    assert inference({"containers": [{"name": "kserve-container", "image": IMAGE}]}) == [
        ("kserve-container", "by its image")
    ]
    assert inference({"model": {"modelFormat": {"name": "onnx"}}}) == []
    assert inference({"model": {"modelFormat": {"name": "triton"}, "runtime": "another"}}) == []


def test_what_kserves_own_runtime_says_is_known() -> None:
    """Its ports, which are not Triton's defaults, and its user; what the model says goes before."""
    said = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "spec": {
            "predictor": {"triton": {"args": ["--http-port=9999"], "securityContext": {"runAsUser": 5}}}
        },
    }
    work = workload(said)
    assert work is not None
    (triton,) = tritons(said, work, None)

    assert ports(triton.said) == Ports(9000, 9999, 8002)
    assert triton.said["securityContext"]["runAsUser"] == 5
    assert triton.said["securityContext"]["runAsNonRoot"] is True
