from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from probe.sandbox.client import TritonClient, TritonError
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sources.triton.protos import SERVICE, messages
from testbed.scripted.raw import RawListener
from testbed.scripted.script import EVERY_CALL, Group, ScriptedModel
from testbed.scripted.server import ScriptedTriton
from testbed.tools import PATIENCE, until

Answer = Any
StartTriton = Callable[..., TritonServer]


def ask(address: str, call: str, *, seconds: float = PATIENCE, key: str = "", **fields: Any) -> Answer:  # noqa: ANN401  (fields of any message)
    """One gRPC call: its message, or its status code and text."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            SERVICE + call,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=getattr(messages, f"{call}Response").FromString,
        )
        metadata = (("triton-grpc-protocol-key", key),) if key else ()
        try:
            return method(getattr(messages, f"{call}Request")(**fields), timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            ended: Any = error  # it is a grpc.Call too, which the stubs can not say
            return ended.code(), ended.details()


def http_status(address: str, path: str, *, seconds: float = PATIENCE, **headers: str) -> int:
    """The status of one HTTP request."""
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


NO, YES = False, True
REFUSED = grpc.StatusCode.UNAVAILABLE
UNKNOWN = grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("version", "dead_model", "unready_model", "unknown_model", "loading_model", "server"),
    [
        ("2.51.0", YES, YES, NO, NO, YES),
        ("2.63.0", YES, YES, NO, NO, YES),
        ("2.64.0", NO, YES, NO, NO, YES),
        ("2.66.0", NO, YES, NO, NO, YES),
        ("2.67.1", NO, NO, NO, NO, YES),
        ("2.68.0", NO, NO, NO, NO, NO),
        ("2.70.0", NO, NO, NO, NO, NO),
        ("2.71.0", NO, NO, UNKNOWN, REFUSED, NO),
    ],
)
def test_readiness_means_what_the_release_means_by_it(
    scripted_triton: ScriptedTriton,
    *,
    version: str,
    dead_model: object,
    unready_model: object,
    unknown_model: object,
    loading_model: object,
    server: bool,
) -> None:
    """A dead instance, one that says no, an unknown model and the whole server, by release (python_backend, core)."""
    script = scripted_triton.script
    script.version = version
    script.models = [ScriptedModel("dead", alive=False), ScriptedModel("well")]
    script.models += [ScriptedModel("unready", user_ready=False), ScriptedModel("well", "2", state="LOADING")]

    def ready(name: str, version: str = "") -> object:
        answer = ask(scripted_triton.grpc, "ModelReady", name=name, version=version)
        return answer[0] if isinstance(answer, tuple) else answer.ready

    assert ready("well") is YES
    assert ready("dead") is dead_model
    assert ready("unready") is unready_model
    assert ready("no such model") is unknown_model
    assert ready("well", "2") is loading_model
    script.models.pop()
    assert ask(scripted_triton.grpc, "ServerReady").ready is server
    assert http_status(scripted_triton.http, "/v2/health/ready") == (200 if server else 400)
    assert ask(scripted_triton.grpc, "ServerMetadata").version == version


def test_models_are_told_as_triton_tells_them(scripted_triton: ScriptedTriton) -> None:
    """Index, statistics, configuration and the pending gauge follow the script as it is now."""
    model = ScriptedModel("m", groups=(Group("m_0", "KIND_GPU", 1, (0, 1)),), parameters={"key": "value"})
    ensemble = ScriptedModel("e", steps=("m",))
    failed = ScriptedModel("f", state="UNAVAILABLE", reason="Internal: it failed")
    scripted_triton.script.models = [model, ensemble, failed]
    model.served(3, seconds_each=0.5)
    model.failure, model.pending = 2, 7
    rows = ask(scripted_triton.grpc, "RepositoryIndex").models
    assert [(each.name, each.state, each.reason) for each in rows] == [
        ("m", "READY", ""),
        ("e", "READY", ""),
        ("f", "UNAVAILABLE", "Internal: it failed"),
    ]
    first, second = ask(scripted_triton.grpc, "ModelStatistics").model_stats
    assert (first.name, first.inference_stats.success.count, first.inference_stats.fail.count) == ("m", 3, 2)
    assert (second.name, first.inference_stats.compute_infer.ns) == ("e", 1_500_000_000)
    config = ask(scripted_triton.grpc, "ModelConfig", name="m").config
    (group,) = config.instance_group
    assert (group.name, group.kind, list(group.gpus)) == ("m_0", type(group).KIND_GPU, [0, 1])
    assert config.parameters["key"].string_value == "value"
    config = ask(scripted_triton.grpc, "ModelConfig", name="e").config
    assert (config.platform, config.ensemble_scheduling.step[0].model_name) == ("ensemble", "m")
    connection = http.client.HTTPConnection(scripted_triton.metrics)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    assert 'nv_inference_pending_request_count{model="m",version="1"} 7\n' in page
    assert 'model="f"' not in page


def test_calls_that_hang_end_with_the_callers_patience_or_with_recovery(
    scripted_triton: ScriptedTriton,
) -> None:
    """Hanging holds one protocol, or all; what waits is answered once the script recovers."""
    script = scripted_triton.script
    script.hang(EVERY_CALL)
    answer = ask(scripted_triton.grpc, "ServerLive", seconds=0.2)
    assert answer[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert http_status(scripted_triton.http, "/v2/health/live") == 200
    script.recover()
    script.hang()
    for address, path in ((scripted_triton.http, "/v2/health/live"), (scripted_triton.metrics, "/metrics")):
        with pytest.raises(TimeoutError):
            http_status(address, path, seconds=0.2)
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(scripted_triton.grpc, "ServerLive")))
    calls = script.calls["ServerLive"]
    waiting.start()
    until(lambda: script.calls["ServerLive"] != calls)
    script.recover()
    waiting.join(PATIENCE)
    assert answers[0].live


def test_one_call_can_fail_be_late_or_make_no_sense_while_others_answer(
    scripted_triton: ScriptedTriton,
) -> None:
    """Errors, delays, garbage and an answer that is too large are per call."""
    script, address = scripted_triton.script, scripted_triton.grpc
    script.fail(grpc.StatusCode.UNAVAILABLE, "Server exiting", "ServerReady")
    script.delay(0.3, "ServerMetadata")
    script.garbage(b"\x08", "ModelStatistics")
    script.garbage(b"\x0a" + b"\xff" * 5_000_000, "RepositoryIndex")
    assert ask(address, "ServerReady") == (grpc.StatusCode.UNAVAILABLE, "Server exiting")
    started = time.monotonic()
    assert ask(address, "ServerMetadata").name == "triton"
    assert time.monotonic() - started > 0.3
    assert ask(address, "ModelStatistics")[0] is grpc.StatusCode.INTERNAL
    assert ask(address, "RepositoryIndex")[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(address, "ServerLive").live
    assert script.calls == {
        "ServerReady": 1,
        "ServerMetadata": 1,
        "ModelStatistics": 1,
        "RepositoryIndex": 1,
        "ServerLive": 1,
    }


def test_a_protocol_can_be_refused_alone_and_comes_back_on_its_port(scripted_triton: ScriptedTriton) -> None:
    """Each port closes and opens for itself; a restart keeps all three."""
    scripted_triton.stop("grpc")
    assert ask(scripted_triton.grpc, "ServerLive")[0] is grpc.StatusCode.UNAVAILABLE
    assert http_status(scripted_triton.http, "/v2/health/live") == 200
    scripted_triton.start("grpc")
    scripted_triton.stop("http", "metrics")
    with pytest.raises(ConnectionRefusedError):
        http_status(scripted_triton.http, "/v2/health/live")
    scripted_triton.start()
    scripted_triton.restart()
    assert ask(scripted_triton.grpc, "ServerLive").live
    assert http_status(scripted_triton.metrics, "/metrics") == 200


def test_a_restart_drops_the_calls_that_hang(scripted_triton: ScriptedTriton) -> None:
    """What waits on a server that goes away is not left waiting."""
    scripted_triton.script.hang("ServerLive")
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(scripted_triton.grpc, "ServerLive")))
    waiting.start()
    until(lambda: scripted_triton.script.calls["ServerLive"])
    scripted_triton.restart()
    waiting.join(PATIENCE / 2)
    assert not waiting.is_alive(), "it waits as long as its own patience lasts"
    assert answers[0][0] is grpc.StatusCode.UNAVAILABLE


def test_something_that_listens_and_says_nothing_is_no_triton() -> None:
    """Connections are taken and never answered, or greeted with what is no protocol."""
    with RawListener() as silent:
        assert ask(silent.address, "ServerLive", seconds=0.3)[0] in (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE,
        )
    with RawListener(b"220 welcome\r\n") as chatty:
        host, _, port = chatty.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            assert connection.recv(100) == b"220 welcome\r\n"
        assert ask(chatty.address, "ServerLive", seconds=0.3)[0] in (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE,
        )


SAME_ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("ModelReady", {"name": "nope"}),
    ("ModelReady", {"name": "broken"}),
    ("ModelConfig", {"name": "nope"}),
    ("ModelConfig", {"name": "broken"}),
    ("ModelStatistics", {"name": "nope"}),
    ("ModelStatistics", {"name": "broken"}),
    ("ModelInfer", {"model_name": "nope"}),
    ("ServerReady", {}),
    ("ServerLive", {}),
    ("ServerMetadata", {}),
    ("RepositoryModelUnload", {"model_name": "nope"}),
    ("RepositoryModelLoad", {"model_name": "nope"}),
    ("RepositoryModelLoad", {"model_name": "broken"}),
    ("RepositoryIndex", {}),
]


def test_the_script_answers_as_the_real_server_does(
    triton: StartTriton, repository: Repository, scripted_triton: ScriptedTriton
) -> None:
    """Release 2.51: the same questions give the same messages, codes and texts from both."""
    repository.add_echo().add_echo("broken", kind="KIND_GPU")
    real = triton(control_mode="explicit", load_models=("*",))
    reason = next(each["reason"] for each in real.client.index() if each["name"] == "broken")
    broken = ScriptedModel("broken", state="UNAVAILABLE", reason=reason, load_error=reason)
    echo = ScriptedModel("echo", groups=(Group("echo"),))
    scripted_triton.script.models = [broken, echo]
    for call, fields in SAME_ANSWERS:
        assert ask(scripted_triton.grpc, call, **fields) == ask(real.grpc, call, **fields), call
    resolved = ask(real.grpc, "ModelConfig", name="echo").config
    told = ask(scripted_triton.grpc, "ModelConfig", name="echo").config
    assert list(told.instance_group) == list(resolved.instance_group)
    assert (told.backend, told.default_model_filename) == (resolved.backend, resolved.default_model_filename)


def listens(address: str) -> bool:
    """Whether somebody accepts a connection there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def test_restrictions_are_worded_as_the_real_server_words_them(
    triton: StartTriton, repository: Repository, scripted_triton: ScriptedTriton
) -> None:
    """Without the header gRPC says UNAVAILABLE and HTTP 403, with it both answer."""
    restrictions = ("--grpc-restricted-protocol=health:key=value", "--http-restricted-api=health:key=value")
    real = triton(arguments=restrictions, live=False)
    until(lambda: "restricted" in ask(real.grpc, "ServerLive")[1])
    refusal = ask(real.grpc, "ServerLive")
    # HTTP opens a moment after gRPC.
    until(lambda: listens(real.http))
    scripted_triton.script.restricted = {"health": ("key", "value")}
    assert ask(scripted_triton.grpc, "ServerLive") == refusal
    texts = []
    for each in (real.http, scripted_triton.http):
        with pytest.raises(TritonError) as caught:
            TritonClient(each)._call("GET", "/v2/health/live")
        texts.append((caught.value.status, caught.value.text))
        assert http_status(each, "/v2/health/live", key="value") == 200
    assert texts[0] == texts[1]
    assert ask(scripted_triton.grpc, "ServerLive", key="value") == ask(real.grpc, "ServerLive", key="value")
