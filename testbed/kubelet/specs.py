"""A pod as a manifest has it: the part that a kubelet acts on, with Kubernetes' defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import msgspec
import yaml

from testbed.pods.resources import Resources


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """Something that a manifest writes in camel case; what is not listed is not looked at."""


class HttpGet(Record, frozen=True):
    """``httpGet`` of a probe; a port's name is looked for among those of the probed container."""

    port: int | str
    path: str = "/"


class ProbeSpec(Record, frozen=True):
    """A probe; the defaults are those of ``pkg/apis/core/v1/defaults.go``."""

    http_get: HttpGet
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Variable(Record, frozen=True):
    """One of ``env``."""

    name: str
    value: str = ""


class Port(Record, frozen=True):
    """One of ``ports``."""

    container_port: int
    name: str = ""


class Mount(Record, frozen=True):
    """One of ``volumeMounts``."""

    name: str
    mount_path: str


class Capabilities(Record, frozen=True):
    """``capabilities`` of a security context."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Record, frozen=True):
    """``securityContext`` of a container, or of a pod."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    allow_privilege_escalation: bool = True
    read_only_root_filesystem: bool = False
    capabilities: Capabilities = Capabilities()


class ContainerSpec(Record, frozen=True):
    """One of ``containers`` or ``initContainers``."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    ports: tuple[Port, ...] = ()
    resources: dict[str, Any] = {}
    volume_mounts: tuple[Mount, ...] = ()
    security_context: SecurityContext = SecurityContext()
    startup_probe: ProbeSpec | None = None
    liveness_probe: ProbeSpec | None = None
    readiness_probe: ProbeSpec | None = None
    restart_policy: str | None = None

    @property
    def restartable(self) -> bool:
        """Whether it is a native sidecar, where it is one of ``initContainers``."""
        return self.restart_policy == "Always"

    @property
    def limits(self) -> Resources:
        """Its ``resources``."""
        return Resources.of(self.resources)

    def port(self, asked: int | str) -> int:
        """A port by number, or by a name of this container alone (``pkg/probe/util.go``).

        Raises LookupError for a name that it has not, which the kubelet counts as an error and not as a failure.
        """
        if isinstance(asked, int):
            return asked
        found = (each.container_port for each in self.ports if each.name == asked)
        if (number := next(found, None)) is None:
            raise LookupError(f"container {self.name} has no port named {asked}")
        return number


class EmptyDir(Record, frozen=True):
    """``emptyDir`` of a volume."""

    medium: str = ""
    size_limit: str | None = None


class Volume(Record, frozen=True):
    """One of ``volumes``; what is no ``emptyDir`` is somebody else's."""

    name: str
    empty_dir: EmptyDir | None = None


class PodSpec(Record, frozen=True):
    """``spec`` of a pod."""

    containers: tuple[ContainerSpec, ...]
    init_containers: tuple[ContainerSpec, ...] = ()
    volumes: tuple[Volume, ...] = ()
    share_process_namespace: bool = False
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    security_context: SecurityContext = SecurityContext()

    @classmethod
    def read(cls, manifest: str) -> Self:
        """The first pod of a YAML stream, bare or as the template of a workload; raises ValueError where none is."""
        for document in yaml.safe_load_all(manifest):
            if isinstance(document, Mapping) and (spec := _pod(document)) is not None:
                return msgspec.convert(spec, cls, strict=False)
        raise ValueError("no Pod, and no workload with a pod template, in this YAML")

    def lasting(self) -> Iterator[ContainerSpec]:
        """The containers that run as long as the pod: native sidecars, then the others."""
        yield from (each for each in self.init_containers if each.restartable)
        yield from self.containers

    def all(self) -> Iterator[ContainerSpec]:
        """Every container, in the order in which they start."""
        yield from self.init_containers
        yield from self.containers

    def container(self, name: str) -> ContainerSpec:
        """The container of this name; raises LookupError."""
        for each in self.all():
            if each.name == name:
                return each
        raise LookupError(f"no container named {name} in the pod")


def _pod(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    spec = document.get("spec") or {}
    found = spec if document.get("kind") == "Pod" else (spec.get("template") or {}).get("spec")
    return found if isinstance(found, Mapping) else None
