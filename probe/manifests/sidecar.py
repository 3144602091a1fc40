"""What the sidecar's container looks like, as a value to be written."""

from __future__ import annotations

from typing import Any

import msgspec

from probe.facts import wiring
from probe.facts.wiring import ProbeTiming, Resources, SecurityContext
from probe.manifests.pods import listed
from probe.manifests.triton import Ports
from probe.settings.knobs import environment_name

OWN_KEYS = (
    "name",
    "image",
    "args",
    "restartPolicy",
    "env",
    "ports",
    "livenessProbe",
    "resources",
    "securityContext",
)
"""What ``inject`` writes; everything else in the container was added by somebody, and is kept."""

_ADDRESSES = ("grpc", "http", "metrics")
_DEFAULTS = Ports()
_LISTEN = environment_name("listen")
OWN_VARIABLES = (*(environment_name(f"triton.{each}") for each in _ADDRESSES), _LISTEN)


class Sidecar(msgspec.Struct, frozen=True):
    """What is decided about the container before it is written."""

    image: str
    ports: Ports
    security: SecurityContext | None
    resources: Resources
    port: int = wiring.PORT
    native: bool = False
    serverless: bool = False
    nvml: bool = False


def container(sidecar: Sidecar, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The container; what somebody added to the one that was there ``before`` stays."""
    made: dict[str, Any] = {
        "name": wiring.CONTAINER,
        "image": sidecar.image,
        "args": list(wiring.ARGUMENTS),
    }
    if sidecar.native:
        made["restartPolicy"] = "Always"
    own = _variables(sidecar)
    if variables := [*own, *_kept_variables(before, {each["name"] for each in own})]:
        made["env"] = variables
    if not sidecar.serverless:
        made["ports"] = [{"name": wiring.PORT_NAME, "containerPort": sidecar.port}]
        made["livenessProbe"] = probe(wiring.OWN_LIVENESS, sidecar.port)
    made["resources"] = plain(sidecar.resources)
    if sidecar.security is not None:
        made["securityContext"] = plain(sidecar.security)
    return {**made, **{name: value for name, value in (before or {}).items() if name not in OWN_KEYS}}


def probe(timing: ProbeTiming, port: int) -> dict[str, Any]:
    """A kubelet's probe of the sidecar, by number of port: a name is looked for in the probed container alone."""
    return {
        "httpGet": {"path": timing.path, "port": port},
        "periodSeconds": timing.period_seconds,
        "timeoutSeconds": timing.timeout_seconds,
        "failureThreshold": timing.failure_threshold,
    }


def volume(size: str) -> dict[str, Any]:
    """Triton's /dev/shm."""
    return {"name": wiring.SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def mount() -> dict[str, Any]:
    """Where it belongs."""
    return {"name": wiring.SHM_VOLUME, "mountPath": wiring.SHM_PATH}


def plain(record: msgspec.Struct) -> Any:  # noqa: ANN401  (any manifest)
    """The record in the words of a manifest, as JSON would give it back."""
    return msgspec.json.decode(msgspec.json.encode(record))


def _variables(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Settings for what differs from the daemon's defaults, and what brings NVML."""
    found = []
    for which in _ADDRESSES:
        port = getattr(sidecar.ports, which)
        if port is not None and port != getattr(_DEFAULTS, which):
            found.append({"name": environment_name(f"triton.{which}"), "value": f"127.0.0.1:{port}"})
    if sidecar.port != wiring.PORT:
        found.append({"name": _LISTEN, "value": f"[::]:{sidecar.port}"})
    if sidecar.nvml:
        found += [{"name": name, "value": value} for name, value in wiring.NVML_VARIABLES.items()]
    return found


def _kept_variables(before: dict[str, Any] | None, own: set[str]) -> list[dict[str, Any]]:
    written = {*OWN_VARIABLES, *own}
    return [each for each in listed((before or {}).get("env")) if each.get("name") not in written]


def without_nvml(before: dict[str, Any]) -> dict[str, Any]:
    """The container without the variables that inject wrote for NVML the last time."""
    kept = [each for each in listed(before.get("env")) if each.get("name") not in wiring.NVML_VARIABLES]
    return {**before, "env": kept}
