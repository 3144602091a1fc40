"""Which objects run pods, and where in them the pod stands."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from probe.manifests.drafts import Path


class Platform(enum.Enum):
    """Who makes the pod of an object, and so what may be written into it."""

    KUBERNETES = "Kubernetes"
    PREDICTOR = "KServe, from an InferenceService"
    RUNTIME = "KServe, from a serving runtime"
    KNATIVE = "Knative"


class Workload(msgspec.Struct, frozen=True):
    """An object that runs pods: ``pod`` is the path of what stands for the pod's spec in it."""

    kind: str
    name: str
    namespace: str
    pod: Path
    platform: Platform
    ends: bool = False
    """Whether its pods are meant to end, as a Job's are."""

    @property
    def title(self) -> str:
        """As ``kubectl`` names it, in its namespace where one is written."""
        return f"{self.kind}/{self.name}" + (f" in {self.namespace}" if self.namespace else "")


_CORE = {"", "apps", "batch", "extensions"}
_TEMPLATE: Path = ("spec", "template", "spec")
_KINDS: dict[str, Path] = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "ReplicationController": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
_KSERVE = "serving.kserve.io"
_KNATIVE = "serving.knative.dev"
_MODE = f"{_KSERVE}/deploymentMode"
_SERVERLESS = ("Serverless", "Knative")
"""The second is its name from KServe 0.16 on."""
_ENDING = ("Job", "CronJob")


def workload(said: Any, *, knative: bool = False) -> Workload | None:  # noqa: ANN401  (any document)
    """The workload that this document is, if it is one; ``knative`` says that KServe's are run by Knative."""
    if not isinstance(said, dict):
        return None
    kind = _word(said.get("kind"))
    group = _word(said.get("apiVersion")).rpartition("/")[0]
    if group in _CORE and kind in _KINDS:
        return _made(said, kind, _KINDS[kind], Platform.KUBERNETES)
    if group == _KNATIVE and kind in ("Service", "Configuration"):
        return _made(said, kind, _TEMPLATE, Platform.KNATIVE)
    if group == _KNATIVE and kind == "Revision":
        return _made(said, kind, ("spec",), Platform.KNATIVE)
    if group == _KSERVE and kind == "InferenceService":
        if annotated(said).get(_MODE) == "ModelMesh":  # its pods are those of the runtimes
            return None
        serverless = knative or annotated(said).get(_MODE) in _SERVERLESS
        return _made(
            said, kind, ("spec", "predictor"), Platform.KNATIVE if serverless else Platform.PREDICTOR
        )
    if group == _KSERVE and kind in ("ServingRuntime", "ClusterServingRuntime"):
        return _made(said, kind, ("spec",), Platform.RUNTIME)
    return None


def stated_mode(said: dict[str, Any]) -> str:
    """KServe's deployment mode, empty where the cluster's default counts."""
    return _word(annotated(said).get(_MODE))


def is_list(said: Any) -> bool:  # noqa: ANN401  (any document)
    """Whether it is a list of objects, as ``kubectl get`` prints them."""
    return (
        isinstance(said, dict)
        and _word(said.get("kind")).endswith("List")
        and isinstance(said.get("items"), list)
    )


def title_of(said: Any) -> str:  # noqa: ANN401  (any document)
    """What to call any document."""
    if not isinstance(said, dict) or not _word(said.get("kind")):
        return "a document without a kind"
    return f"{_word(said['kind'])}/{_name(said)}"


def annotated(said: dict[str, Any]) -> dict[str, Any]:
    """The object's annotations."""
    metadata = said.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _made(said: dict[str, Any], kind: str, pod: Path, platform: Platform) -> Workload:
    metadata = said.get("metadata")
    namespace = _word(metadata.get("namespace")) if isinstance(metadata, dict) else ""
    return Workload(kind, _name(said), namespace, pod, platform, ends=kind in _ENDING)


def _name(said: dict[str, Any]) -> str:
    metadata = said.get("metadata")
    if not isinstance(metadata, dict):
        return "(no name)"
    return _word(metadata.get("name")) or _word(metadata.get("generateName")) or "(no name)"


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
