"""The containers of a manifest, run by podman in a pod of ``testbed.pods``: what a runtime does for a kubelet.

The network is this machine's, so pods beside each other need ports of their own: whoever makes a :class:`Runtime`
says by which port here each port of the manifest goes, and its parts tell the programs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from probe.kits.quantities import parse_size
from probe.sandbox.programs import Program
from testbed.kubelet.specs import ContainerSpec, PodSpec, SecurityContext
from testbed.pods.containers import Container, Rights
from testbed.pods.hosts import variables, volumes
from testbed.pods.pod import LimitedPod

_SECONDS_TO_TELL = 5.0
_UNKNOWN_CODE = 255
_ROOT = 0


class Part(msgspec.Struct, frozen=True):
    """How a container of the manifest runs here.

    ``launch`` starts its program in a container, with its output into a file.  ``folders`` of this machine are shown
    in it, read-only, at their own paths; without an ``image`` this machine's own programs too.  ``environment``
    stands behind the manifest's.
    """

    launch: Callable[[Container, ContainerSpec, Path], Program]
    folders: tuple[Path, ...] = ()
    environment: Mapping[str, str] = {}
    image: str = ""


class Running:
    """One run of a container."""

    def __init__(self, container: Container, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self._container = container
        self._handle: int | None = None
        with contextlib.suppress(ProcessLookupError):  # what ends at once may be gone already
            self._handle = os.pidfd_open(program.pid)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until its main process has ended; whether it has."""
        if self._handle is None:
            return True
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def code(self) -> tuple[int, str]:
        """Its exit code (128 and the signal's number where it was killed) and Kubernetes' word for it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.program.wait(_SECONDS_TO_TELL)
            words = "Completed" if code == 0 else "Error"
            return code, "OOMKilled" if code and self._container.killed_for_memory else words
        return _UNKNOWN_CODE, "ContainerStatusUnknown"

    def end(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL where it is still there after the grace."""
        self.program.send_signal(signal.SIGTERM)
        if not self.wait(grace_seconds):
            self.program.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give back what is held here, and end what is left of it."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
        self._container.close()


class Runtime:
    """Runs the containers of ``spec`` in ``pod``; ``ports`` are those here by the manifest's."""

    def __init__(
        self, spec: PodSpec, pod: LimitedPod, parts: Mapping[str, Part], ports: Mapping[int, int]
    ) -> None:
        self.spec = spec
        self.pod = pod
        self.ports = ports
        self._parts = parts
        self._mounted: dict[str, Path] = {}

    def open(self) -> None:
        """Make the volumes of the pod, each an ``emptyDir`` in memory."""
        for each in self.spec.volumes:
            if each.empty_dir is None or each.empty_dir.medium != "Memory":
                continue
            folder = self.pod.folder / f"volume-{each.name}"
            folder.mkdir()
            limit = each.empty_dir.size_limit
            options = "mode=1777" + ("" if limit is None else f",size={parse_size(limit)}")
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
            self._mounted[each.name] = folder

    def start(self, name: str) -> Running:
        """Start a container; raises SandboxError where podman can not."""
        spec, part = self.spec.container(name), self._parts[name]
        container = self.pod.container(name, list(self._flags(spec, part)), image=part.image)
        log = self.pod.folder / f"{container.name}.log"
        return Running(container, part.launch(container, spec, log), log)

    def close(self) -> None:
        """Unmount the volumes, after the pod was closed."""
        for folder in self._mounted.values():
            subprocess.run(["umount", folder], check=True)
        self._mounted.clear()

    def _flags(self, spec: ContainerSpec, part: Part) -> Iterator[str]:
        yield from spec.limits.flags()
        yield from rights(spec.security_context, self.spec.security_context).flags()
        if part.image:
            yield from (f"--volume={each}:{each}:ro" for each in part.folders)
        else:
            yield from volumes(part.folders)
        for each in spec.volume_mounts:
            if (folder := self._mounted.get(each.name)) is not None:
                yield f"--volume={folder}:{each.mount_path}"
        yield from variables({each.name: each.value for each in spec.env} | dict(part.environment))
        if spec.security_context.read_only_root_filesystem:
            yield from ("--read-only", "--read-only-tmpfs=false")


def rights(own: SecurityContext, pods: SecurityContext) -> Rights:
    """A container's user and options, from its own ``securityContext`` and its pod's."""
    user = pods.run_as_user if own.run_as_user is None else own.run_as_user
    group = pods.run_as_group if own.run_as_group is None else own.run_as_group
    more = [f"--cap-drop={each.lower()}" for each in own.capabilities.drop]
    more += [f"--cap-add={each.lower()}" for each in own.capabilities.add]
    if not own.allow_privilege_escalation:
        more.append("--security-opt=no-new-privileges")
    return Rights(_ROOT if user is None else user, _ROOT if group is None else group, more)
