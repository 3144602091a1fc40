"""What is wrong with a manifest around Triton, each with what cures it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from probe.facts.wiring import SHM_PATH
from probe.manifests.drafts import Draft, Path
from probe.manifests.pods import arguments, listed, mapping, resources, shm_mount, words
from probe.manifests.triton import Found, Ports, in_predictor
from probe.manifests.wishes import GateProbe, Wishes
from probe.manifests.workloads import Platform, Workload

_FIRST_PROCESS = re.compile(r"\bkill(?:\s+-s\s+\w+|\s+-\w+)*\s+1(?![\w.])|/proc/1/")
_GUARDED = re.compile(
    r"--grpc-(?:use-ssl(?:-mutual)?(?![=\s]+[\"']?(?:false|0|no|off)\b)|restricted-protocol)\b", re.IGNORECASE
)
_HOOKS = ("postStart", "preStop")


class Advice(msgspec.Struct, frozen=True):
    """One thing that is wrong or worth knowing: the field that it is about, and a sentence with the cure."""

    path: Path
    says: str


def advice(draft: Draft, work: Workload, triton: Found, wishes: Wishes, listening: Ports) -> list[Advice]:
    """Everything that is wrong around this Triton's container."""
    pod = mapping(draft.read(work.pod))
    return [
        *_amounts(triton, work),
        *_shm(pod, work, triton, wishes),
        *_probes(triton, wishes),
        *_users(pod, work, triton),
        *_host(pod, work),
        *_whole(draft, pod, work),
        *_ports(triton, listening),
    ]


def first_process(pod: dict[str, Any], work: Workload) -> Iterator[Advice]:
    """Commands that take process 1 for their container's own, which ends with a shared process namespace."""
    for index, each in enumerate(listed(pod.get("containers"))):
        hooks = mapping(each.get("lifecycle"))
        asked = [mapping(hooks.get(name)) for name in _HOOKS]
        asked += [mapping(each.get(gate.key)) for gate in GateProbe]
        commands = [arguments(each), *(words(mapping(one.get("exec")).get("command")) for one in asked)]
        if any(_FIRST_PROCESS.search(" ".join(one)) for one in commands):
            yield Advice(
                (*work.pod, "containers", index),
                f"a command of the container {each.get('name')} goes to process 1, which with shareProcessNamespace "
                "is the pod's pause: nothing happens, or, as root, the whole pod ends. Name the process, as pkill "
                "tritonserver does",
            )


def _amounts(triton: Found, work: Workload) -> Iterator[Advice]:
    path = (*triton.path, "resources")
    if in_predictor(triton, work) and "resources" not in triton.said:
        return
    requests, limits = resources(triton.said, "requests"), resources(triton.said, "limits")
    if not requests and not limits:
        yield Advice(
            path,
            "Triton has no resources (BestEffort): the first to be killed when the node runs short. Set requests and "
            "a memory limit; triton-probe size proposes them from what it saw",
        )
    elif "memory" not in limits:
        yield Advice(
            path,
            "Triton has no memory limit: it can take the node's memory, and others are killed with it. Set "
            "resources.limits.memory; triton-probe size proposes one",
        )


def _shm(pod: dict[str, Any], work: Workload, triton: Found, wishes: Wishes) -> Iterator[Advice]:
    mount = shm_mount(triton.said)
    if mount is None:
        if wishes.shm is None and pod.get("hostIPC") is not True:
            yield Advice(
                triton.path,
                f"{SHM_PATH} is 64Mi without a volume: each stub of the python backend takes a region there. Leave "
                "--shm at its default, or mount an emptyDir with medium: Memory",
            )
        return
    for index, each in enumerate(listed(pod.get("volumes"))):
        if each.get("name") != mount.get("name"):
            continue
        path = (*work.pod, "volumes", index)
        if "emptyDir" in each and mapping(each["emptyDir"]).get("medium") != "Memory":
            yield Advice(
                path,
                f"the volume at {SHM_PATH} is on disk: regions are slow there. Set emptyDir.medium: Memory",
            )
        elif "emptyDir" in each and mapping(each["emptyDir"]).get("sizeLimit") is None:
            yield Advice(
                path,
                f"the volume at {SHM_PATH} has no sizeLimit: it may grow to the pod's memory limit, and counts "
                "towards it. Set emptyDir.sizeLimit",
            )


def _probes(triton: Found, wishes: Wishes) -> Iterator[Advice]:
    liveness = mapping(triton.said.get("livenessProbe"))
    starts = triton.said.get("startupProbe") or GateProbe.STARTUP in wishes.gates
    replaced = GateProbe.LIVENESS in wishes.gates and wishes.existing.value == "replace"
    if liveness and not starts and not replaced:
        seconds = _seconds(liveness)
        yield Advice(
            (*triton.path, "livenessProbe"),
            f"Triton has a livenessProbe and no startupProbe: a load that takes longer than {seconds} s is killed "
            "before it ends, again and again. Add --gates startup",
        )


def _seconds(probe: dict[str, Any]) -> int:
    """How long a container may take that never answers; the defaults are Kubernetes'."""
    numbers = {"initialDelaySeconds": 0, "periodSeconds": 10, "failureThreshold": 3}
    delay, period, misses = (
        value if isinstance(value := probe.get(name), int) else default for name, default in numbers.items()
    )
    return delay + period * misses


def _users(pod: dict[str, Any], work: Workload, triton: Found) -> Iterator[Advice]:
    if mapping(triton.said.get("securityContext")).get("privileged") is True:
        yield Advice(
            (*triton.path, "securityContext"),
            "Triton is privileged, which it needs for nothing, and its container has the host's cgroups: take "
            "`privileged: true` out",
        )
    own = mapping(triton.said.get("securityContext")).get("runAsUser")
    for index, each in enumerate(listed(pod.get("containers"))):
        other = mapping(each.get("securityContext")).get("runAsUser")
        if own is not None and other is not None and other != own:
            yield Advice(
                (*work.pod, "containers", index, "securityContext"),
                f"the container {each.get('name')} runs as uid {other} and Triton as {own}: where it starts processes "
                "that Triton's memory or /dev/shm depends on, the probe can not read them",
            )


def _host(pod: dict[str, Any], work: Workload) -> Iterator[Advice]:
    if pod.get("hostNetwork") is True:
        yield Advice(
            (*work.pod, "hostNetwork"),
            "hostNetwork: the probe's port is the node's, so a second such pod on a node can not start its sidecar, "
            "and /status is open to whoever reaches the node. Take hostNetwork out, or give each its --port",
        )
    if pod.get("hostPID") is True:
        yield Advice(
            (*work.pod, "hostPID"),
            "hostPID: the probe sees every process of the node, other Tritons too, and shareProcessNamespace may not "
            "be set beside it. Take hostPID out",
        )
    if work.platform is Platform.KUBERNETES and pod.get("restartPolicy") == "Never" and not work.ends:
        yield Advice(
            (*work.pod, "restartPolicy"), "restartPolicy: Never: what /livez kills is not started again"
        )


def _whole(draft: Draft, pod: dict[str, Any], work: Workload) -> Iterator[Advice]:
    if mapping(pod.get("resources")):
        yield Advice(
            (*work.pod, "resources"),
            "the pod has resources of its own, which the requests of its containers may not exceed: add the "
            "sidecar's to them, or Kubernetes may refuse the pod",
        )
    path: Path = ("metadata", "ownerReferences")
    for each in listed(draft.read(path)):
        if each.get("controller") is True:
            yield Advice(
                path,
                f"belongs to {each.get('kind')}/{each.get('name')}, which makes it anew from its own template: "
                "inject into that instead",
            )


def _ports(triton: Found, listening: Ports) -> Iterator[Advice]:
    for each in listening.unknown:
        yield Advice(
            triton.path,
            f"{each} can not be told from the manifest: give the sidecar the port as an environment variable, "
            "TRITON_PROBE_TRITON__GRPC, …__HTTP or …__METRICS; inject keeps variables that you add",
        )
    if guarded := _GUARDED.search(" ".join(arguments(triton.said))):
        yield Advice(
            triton.path,
            f"Triton's gRPC is guarded ({guarded[0]}): without its certificates (triton.tls) or headers "
            "(triton.headers) the probe gets no answer, and no gate that asks it opens. Give the sidecar a "
            "configuration with them; inject keeps the variables and mounts that you add",
        )
    if listening.grpc is None:
        yield Advice(
            triton.path,
            "Triton runs with --allow-grpc=false: the probe asks by gRPC and can judge no model. Allow it",
        )
    if listening.http is None:
        yield Advice(
            triton.path, "Triton runs with --allow-http=false: TritonHung can not be told. Allow HTTP"
        )
    if listening.metrics is None:
        yield Advice(
            triton.path,
            "Triton runs with --allow-metrics=false: ModelStalled and placement have less evidence. Allow it",
        )
