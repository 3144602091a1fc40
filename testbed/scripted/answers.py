"""How Triton answers, by release: rules from a script to protocol messages.

The sources are ``core``'s ``server.cc``, ``tritonserver.cc`` and ``model_lifecycle.cc`` (73aad7c), the
python backend's ``python_be.cc`` (f9088ff), and runs against release 24.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import grpc

from probe.sources.triton.protos import messages
from testbed.scripted.script import Script, ScriptedModel

Message: TypeAlias = Any
"""A message or its class; generated code carries no types."""

_INSTANCES_COUNT_FOR_MODELS = (2, 64)
_USER_IS_ASKED = (2, 67)
_USER_SECONDS_AT_MOST = 5.0
_INSTANCES_COUNT_FOR_SERVER = (2, 68)
_UNREADY_IS_AN_ERROR = (2, 71)


class Refusal(Exception):  # noqa: N818  (it is an answer of the protocol)
    """The call ends with this status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def release(script: Script) -> tuple[int, int]:
    """Return the release as a pair that compares."""
    major, minor, *_ = (int(each) for each in script.version.split("."))
    return major, minor


def server_ready(script: Script) -> bool:
    """Whether the server counts as ready, strictly: every version is, or was unloaded on purpose."""
    if script.ready is not None:
        return script.ready
    considered = [each for each in script.models if each.state and each.reason != "unloaded"]
    if not all(each.state == "READY" for each in considered):
        return False
    # One after the other, until one is not.
    sees = release(script) >= _INSTANCES_COUNT_FOR_SERVER
    return all(_instances_ready(script, each) for each in considered) if sees else True


def model_ready(script: Script, name: str, version: str) -> bool:
    """Whether the model is ready; newer releases refuse instead of saying no of one that is not loaded."""
    known = [each for each in script.models if each.name == name and version in ("", each.version)]
    ready = [each for each in known if each.state == "READY"]
    if ready:
        return _instances_ready(script, max(ready, key=lambda each: int(each.version)))
    if release(script) >= _UNREADY_IS_AN_ERROR:
        unknown = f"Request for unknown model: '{name}'"
        if not known:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{unknown} is not found")
        if not version:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"{unknown} has no available versions")
        raise Refusal(grpc.StatusCode.UNAVAILABLE, f"{unknown} version {version} is not at ready state")
    return False


def _instances_ready(script: Script, model: ScriptedModel) -> bool:
    if release(script) < _INSTANCES_COUNT_FOR_MODELS or model.steps:
        return True
    if not (model.alive if model.look is None else model.look()):
        return False
    if release(script) < _USER_IS_ASKED:
        return True
    script.ending.wait(min(model.user_seconds, _USER_SECONDS_AT_MOST))
    return model.user_ready and model.user_seconds < _USER_SECONDS_AT_MOST


def _server_live(script: Script, _: Message) -> Message:
    return messages.ServerLiveResponse(live=script.live)


def _server_ready(script: Script, _: Message) -> Message:
    return messages.ServerReadyResponse(ready=server_ready(script))


def _model_ready(script: Script, request: Message) -> Message:
    return messages.ModelReadyResponse(ready=model_ready(script, request.name, request.version))


def _server_metadata(script: Script, _: Message) -> Message:
    return messages.ServerMetadataResponse(
        name="triton", version=script.version, extensions=list(script.extensions)
    )


def _statistics(script: Script, request: Message) -> Message:
    wanted = [each for each in script.models if each.state == "READY"]
    if request.name:
        wanted = [each for each in wanted if each.name == request.name]
        if not wanted:
            text = f"requested model '{request.name}' is not available"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
    return messages.ModelStatisticsResponse(model_stats=[_one_statistics(each) for each in wanted])


def _one_statistics(model: ScriptedModel) -> Message:
    duration = messages.StatisticDuration
    return messages.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=model.last_inference_ms,
        inference_count=model.success,
        execution_count=model.executions,
        inference_stats=messages.InferStatistics(
            success=duration(count=model.success, ns=model.success_ns),
            fail=duration(count=model.failure),
            compute_infer=duration(count=model.executions, ns=model.compute_infer_ns),
        ),
        batch_stats=[
            messages.InferBatchStatistics(
                batch_size=1, compute_infer=duration(count=model.executions, ns=model.compute_infer_ns)
            )
        ],
        memory_usage=[
            messages.MemoryUsage(type=kind, id=device, byte_size=size) for kind, device, size in model.memory
        ],
    )


def _config(script: Script, request: Message) -> Message:
    model = _loaded(script, request.name, request.version)
    config = messages.ModelConfigResponse().config
    config.name = model.name
    config.backend = model.backend if not model.steps else ""
    config.platform = "ensemble" if model.steps else model.platform
    config.default_model_filename = model.default_file
    config.model_transaction_policy.decoupled = model.decoupled
    config.max_batch_size = model.max_batch_size
    for told, tensors in ((config.input, model.inputs), (config.output, model.outputs)):
        for name, kind, dims in tensors:
            tensor = told.add(name=name, dims=dims)
            tensor.data_type = (
                type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[kind].number
            )
    for group in model.groups:
        row = config.instance_group.add(name=group.name, count=group.count, gpus=list(group.gpus))
        row.kind = type(row).Kind.Value(group.kind)
    for step in model.steps:
        config.ensemble_scheduling.step.add(model_name=step, model_version=-1)
    for key, value in model.parameters.items():
        config.parameters[key].string_value = value
    return messages.ModelConfigResponse(config=config)


def _index(script: Script, request: Message) -> Message:
    answer = messages.RepositoryIndexResponse()
    for each in script.models:
        if each.state == "READY" or not request.ready:
            answer.models.add(name=each.name, version=each.version, state=each.state, reason=each.reason)
    return answer


def _load(script: Script, request: Message) -> Message:
    models = _under_control(script, request.model_name)
    if not models:
        text = f"failed to load '{request.model_name}', failed to poll from model repository"
        raise Refusal(grpc.StatusCode.INTERNAL, text)
    for model in models:
        model.forget()
        model.state = "UNAVAILABLE" if model.load_error else "READY"
        model.reason = model.load_error
        model.alive = True
        if model.load_error:
            text = (
                f"load failed for model '{model.name}': version {model.version} is at UNAVAILABLE state: "
                f"{model.load_error};\n"
            )
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
    return messages.RepositoryModelLoadResponse()


def _unload(script: Script, request: Message) -> Message:
    for model in _under_control(script, request.model_name):
        model.state, model.reason = "UNAVAILABLE", "unloaded"
    return messages.RepositoryModelUnloadResponse()


def _infer(script: Script, request: Message) -> Message:
    model = _loaded(script, request.model_name, request.model_version)
    if model.requested is not None:
        model.requested()
    model.served()
    answer = messages.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for given in request.inputs:
        output = answer.outputs.add(name=given.name.replace("INPUT", "OUTPUT"), datatype=given.datatype)
        output.shape.extend(given.shape)
        output.contents.CopyFrom(given.contents)
    answer.raw_output_contents.extend(request.raw_input_contents)
    return answer


def stream(script: Script, request: Message) -> Iterator[Message]:
    """Answer one request of a stream: its responses, and an empty one that is final."""
    model = _loaded(script, request.model_name, request.model_version)
    for number in range(model.responses + 1):
        answer = messages.ModelStreamInferResponse()
        if number < model.responses:
            answer.infer_response.CopyFrom(_infer(script, request))
        answer.infer_response.parameters["triton_final_response"].bool_param = number == model.responses
        yield answer


def _loaded(script: Script, name: str, version: str) -> ScriptedModel:
    known = [each for each in script.models if each.name == name and version in ("", each.version)]
    if not known:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
    for each in known:
        if each.state == "READY":
            return each
    text = f"Request for unknown model: '{name}' has no available versions"
    raise Refusal(grpc.StatusCode.NOT_FOUND, text)


def _under_control(script: Script, name: str) -> list[ScriptedModel]:
    if script.control_mode != "explicit":
        text = "explicit model load / unload is not allowed if polling is enabled"
        raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
    return [each for each in script.models if each.name == name]


METHODS: dict[str, tuple[Message, str, Callable[[Script, Message], Message]]] = {
    "ServerLive": (messages.ServerLiveRequest, "health", _server_live),
    "ServerReady": (messages.ServerReadyRequest, "health", _server_ready),
    "ModelReady": (messages.ModelReadyRequest, "health", _model_ready),
    "ServerMetadata": (messages.ServerMetadataRequest, "metadata", _server_metadata),
    "ModelStatistics": (messages.ModelStatisticsRequest, "statistics", _statistics),
    "ModelConfig": (messages.ModelConfigRequest, "model-config", _config),
    "RepositoryIndex": (messages.RepositoryIndexRequest, "model-repository", _index),
    "RepositoryModelLoad": (messages.RepositoryModelLoadRequest, "model-repository", _load),
    "RepositoryModelUnload": (messages.RepositoryModelUnloadRequest, "model-repository", _unload),
    "ModelInfer": (messages.ModelInferRequest, "inference", _infer),
}
"""Each method's request, its category for restrictions, and its rule; others are UNIMPLEMENTED."""


def metrics(script: Script) -> str:
    """Return the metrics page, as far as anyone here reads it."""
    ready = [each for each in script.models if each.state == "READY"]
    lines = []
    for name, kind, field in (
        ("nv_inference_request_success", "counter", "success"),
        ("nv_inference_pending_request_count", "gauge", "pending"),
    ):
        lines += [f"# HELP {name} {name} per model", f"# TYPE {name} {kind}"]
        for each in ready:
            lines.append(f'{name}{{model="{each.name}",version="{each.version}"}} {getattr(each, field)}')
    for each in ready:
        of_its_own = each.failure - each.rejected - each.canceled
        for reason, count in (
            ("REJECTED", each.rejected),
            ("CANCELED", each.canceled),
            ("BACKEND", of_its_own),
            ("OTHER", 0),
        ):
            labels = f'model="{each.name}",reason="{reason}",version="{each.version}"'
            lines.append(f"nv_inference_request_failure{{{labels}}} {count}")
    for uuid, size in script.gpu_memory_used.items():
        lines.append(f'nv_gpu_memory_used_bytes{{gpu_uuid="{uuid}"}} {size}.000000')
    return "\n".join(lines) + "\n"
