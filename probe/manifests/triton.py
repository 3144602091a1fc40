"""Which container runs Triton, and where it listens."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from probe.facts.wiring import CONTAINER
from probe.manifests.drafts import Path
from probe.manifests.pods import arguments, listed, mapping, name_of, resources, variables, words
from probe.manifests.workloads import Platform, Workload

KSERVE_RUNTIME = "kserve-tritonserver"
"""KServe's own serving runtime of Triton, which it takes where none is named."""
_KSERVE_CONTAINER: dict[str, Any] = {
    "args": ["tritonserver", "--grpc-port=9000", "--http-port=8080"],
    "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
}
"""What that runtime's container says (kserve, config/runtimes/kserve-tritonserver.yaml): ``model:`` is merged in it."""
_ASLEEP = ("sleep", "tail")
"""A pod that keeps Triton's image at hand, for its tools."""
_FLAG = re.compile(r"--?((?:allow-)?(?:grpc|http|metrics)(?:[-_]port)?)(?:=|[ \t\n]+)[\"']?([^\s\"';&|]+)")
_VARIABLE = re.compile(r"\$[({]?([A-Za-z_]\w*)[)}]?")
_PORTS = 65536
_BETWEEN = re.compile(r"[\s\"';&|()]+")
_SERVERS = ("tritonserver", "launch_triton_server.py")
"""What a command calls; the second is tensorrtllm_backend's, which starts the first under MPI."""
_IMAGE_NAME = re.compile(
    r"(?:[a-z0-9.]+[-_])*triton(?:[-_]?(?:inference[-_]?)?server)?"
    r"(?:[-_](?:trt-?llm|tensorrt-?llm|vllm|python|onnx|cpu|gpu|cuda|py3|min|runtime|serving|inference|models?))*"
)
_NO_SERVER = re.compile(r"triton[-_]?(?:probe|lang|llvm|cpu)|sdk|client|openai|analy[sz]er|navigator")
"""The probe itself, the clients, and the compiler of that name."""


class Found(msgspec.Struct, frozen=True):
    """A container that may run Triton: its name, its path, what it says, and how it was told."""

    name: str
    path: Path
    said: dict[str, Any]
    how: str


class Ports(msgspec.Struct, frozen=True):
    """Where Triton listens; None where it was told not to.  ``unknown`` are options that a manifest can not tell."""

    grpc: int | None = 8001
    http: int | None = 8000
    metrics: int | None = 8002
    unknown: tuple[str, ...] = ()


def containers(said: dict[str, Any], work: Workload) -> list[Found]:
    """Every container that the object writes down, with KServe's ``model:``, which is merged into one."""
    pod = _at(said, work.pod)
    found = [
        Found(name_of(each), (*work.pod, "containers", index), mapping(each), "")
        for index, each in enumerate(pod["containers"] if isinstance(pod.get("containers"), list) else [])
    ]
    if work.kind == "InferenceService":
        found += [
            Found(key, (*work.pod, key), mapping(pod[key]), "")
            for key in ("model", "triton")
            if isinstance(pod.get(key), dict)
        ]
    return found


def tritons(
    said: dict[str, Any], work: Workload, wanted: str | None, runtimes: frozenset[str] = frozenset()
) -> list[Found]:
    """The containers that run Triton, by the first rule that finds any; ``wanted`` is the user's word for it.

    ``runtimes`` are the names of serving runtimes of Triton in the same stream.
    """
    every = [each for each in containers(said, work) if each.name != CONTAINER]
    if wanted is not None:
        return [_told(_merged(each, work), "by --container") for each in every if each.name == wanted]
    by_image = [
        _told(each, "by its image")
        for each in every
        if is_triton_image(each.said.get("image")) and _may_serve(each.said, work)
    ]
    if by_image:
        running = [each for each in by_image if runs_triton(each.said)]
        return running if len(running) == 1 else by_image
    by_command = [_told(each, "by its command") for each in every if runs_triton(each.said)]
    return by_command or [
        _told(_merged(each, work), "by KServe's rules")
        for each in every
        if _kserves(each, work, said, runtimes)
    ]


def is_triton_image(image: object) -> bool:
    """Whether an image's name is one of Triton's server; its registry and tag do not count, but for ``-sdk``."""
    if not isinstance(image, str):
        return False
    path = image.partition("@")[0].lower()
    *folders, last = path.split("/")
    name, _, tag = last.partition(":")
    if folders and re.search(r"[.:]|^localhost$", folders[0]):
        folders = folders[1:]
    if any(_NO_SERVER.search(each) for each in (*folders, name)) or tag.endswith("sdk"):
        return False
    return any("tritonserver" in each for each in (*folders, name)) or _IMAGE_NAME.fullmatch(name) is not None


def runs_triton(container: dict[str, Any]) -> bool:
    """Whether its command or arguments call tritonserver, also within a shell's line."""
    called = (word for each in arguments(container) for word in _BETWEEN.split(each))
    return any(not word.startswith("-") and word.rpartition("/")[2] in _SERVERS for word in called)


def _may_serve(container: dict[str, Any], work: Workload) -> bool:
    """Whether a container of Triton's image can be one that serves: a script may, ``sleep`` and a Job's may not."""
    said = arguments(container)
    if not said or runs_triton(container):
        return True
    return not work.ends and said[0].rpartition("/")[2] not in _ASLEEP


def ports(container: dict[str, Any]) -> Ports:
    """Where Triton listens by its options; the last one counts, and variables are followed where they are written."""
    line = " ".join(arguments(container))
    known = variables(container)
    options: dict[str, str] = {}
    for match in _FLAG.finditer(line):
        said = _VARIABLE.sub(lambda name: known.get(name[1], name[0]), match[2])
        options[match[1].replace("_", "-")] = said
    unknown: list[str] = []
    grpc, http, metrics = (_port(options, which, default, unknown) for which, default in _DEFAULTS.items())
    return Ports(grpc, http, metrics, tuple(unknown))


_DEFAULTS = {"grpc": 8001, "http": 8000, "metrics": 8002}


def _port(options: dict[str, str], which: str, default: int, unknown: list[str]) -> int | None:
    allowed = options.get(f"allow-{which}", "true").lower()
    if allowed in ("false", "0", "no", "off"):
        return None
    said = options.get(f"{which}-port", str(default))
    if said.isdecimal() and 0 < int(said) < _PORTS:
        return int(said)
    unknown.append(f"--{which}-port={said}")
    return default


def holder_of(port: int, pod: dict[str, Any], triton: Found) -> str:
    """The container that listens on this port of the pod, by what the manifest says; empty where none does."""
    listening = ports(triton.said)
    if port in (listening.grpc, listening.http, listening.metrics):
        return triton.name or "(no name)"
    for each in (triton.said, *listed(pod.get("initContainers")), *listed(pod.get("containers"))):
        if any(written.get("containerPort") == port for written in listed(each.get("ports"))):
            return name_of(each) or "(no name)"
    return ""


def asked_runtime(container: Found, work: Workload) -> str | None:
    """The serving runtime that an InferenceService asks for, empty where KServe chooses; None for a container."""
    if not in_predictor(container, work):
        return None
    name = container.said.get("runtime")
    return name if isinstance(name, str) else ""


def in_predictor(container: Found, work: Workload) -> bool:
    """Whether it is what an InferenceService writes in the place of a container."""
    return work.kind == "InferenceService" and container.path[-1] in ("model", "triton")


def _kserves(container: Found, work: Workload, said: dict[str, Any], runtimes: frozenset[str]) -> bool:
    last = container.path[-1]
    if work.kind == "InferenceService" and last == "triton":
        return True
    if work.kind == "InferenceService" and last == "model":
        name = container.said.get("runtime")
        format_ = mapping(container.said.get("modelFormat")).get("name")
        if isinstance(name, str) and name:
            return name in runtimes or "triton" in name.lower()
        return format_ == "triton"
    if work.platform is Platform.RUNTIME and container.name == "kserve-container":
        formats = listed(mapping(said.get("spec")).get("supportedModelFormats"))
        return "triton" in work.name.lower() or any(each.get("name") == "triton" for each in formats)
    return False


def _merged(found: Found, work: Workload) -> Found:
    """With what KServe's own runtime says of the container, where that is the one."""
    if asked_runtime(found, work) not in ("", KSERVE_RUNTIME):
        return found
    own, base = found.said, _KSERVE_CONTAINER
    args = [*base["args"], *words(own.get("args"))]
    security = {**base["securityContext"], **mapping(own.get("securityContext"))}
    amounts = {
        which: {**base["resources"][which], **resources(own, which)} for which in ("requests", "limits")
    }
    merged = {**own, "args": args, "securityContext": security, "resources": amounts}
    return msgspec.structs.replace(found, said=merged)


def _told(found: Found, how: str) -> Found:
    return msgspec.structs.replace(found, how=how)


def _at(said: dict[str, Any], path: Path) -> dict[str, Any]:
    value: Any = said
    for step in path:
        value = mapping(value).get(str(step))
    return mapping(value)
