"""A wired pod that a kubelet runs here: the real tritonserver, and the probe from this checkout or from an image.

Ports are remapped here: Triton's program is started on free ones, and the probe is told of them, and of its own, by
environment variables, which stand behind the manifest's own arguments.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from probe.facts.wiring import CONTAINER, PORT
from probe.sandbox.daemon import DaemonClient
from probe.sandbox.programs import Program
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from testbed.kubelet.kubelet import Kubelet
from testbed.kubelet.runtime import Part, Runtime
from testbed.kubelet.specs import ContainerSpec, PodSpec
from testbed.kubelet.wired import TRITON, TRITON_PORTS
from testbed.pods.containers import Container
from testbed.pods.hosts import CHECKOUT, python_folders, triton_folders
from testbed.pods.pod import LimitedPod
from testbed.pods.podman import Podman

_FROM_CHECKOUT = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
_PROTOCOLS = ("grpc", "http", "metrics")


class PlayedPod:
    """A pod as it runs; :func:`played` makes one."""

    def __init__(self, kubelet: Kubelet, pod: LimitedPod, port: int, servers: list[TritonServer]) -> None:
        self.kubelet = kubelet
        self.pod = pod
        self._port = port
        self._servers = servers

    @property
    def triton(self) -> TritonServer:
        """The tritonserver that was started last; raises IndexError before the first."""
        return self._servers[-1]

    @property
    def probe(self) -> DaemonClient:
        """A client of the probe, whichever run of it answers."""
        running = self.kubelet.running(CONTAINER)
        return DaemonClient(self._port, running.log)


@contextlib.contextmanager
def played(
    spec: PodSpec,
    repository: Repository,
    podman: Podman,
    installation: TritonInstallation,
    *,
    settings: str = "",
    image: str = "",
) -> Iterator[PlayedPod]:
    """Run this pod: Triton with this repository, the probe with these settings on top of its manifest.

    ``image`` is one with the probe in it, by its name in ``podman``; without one it runs from this checkout.
    """
    *triton_ports, port = free_ports(len(_PROTOCOLS) + 1)
    here = dict(zip(_PROTOCOLS, triton_ports, strict=True))
    ports = {PORT: port, **{TRITON_PORTS[name]: number for name, number in here.items()}}
    servers: list[TritonServer] = []

    def launch_triton(container: Container, _spec: ContainerSpec, log: Path) -> Program:
        grpc, http, metrics = (here[name] for name in _PROTOCOLS)
        servers.append(
            TritonServer(container, installation, repository.path, log=log, ports=(grpc, http, metrics))
        )
        return servers[-1].program

    pod = LimitedPod(podman, installation)
    file = pod.folder / "probe.yaml"
    file.write_text(settings)
    told = {
        "TRITON_PROBE_LISTEN": f"127.0.0.1:{port}",
        "TRITON_PROBE_CONFIG": str(file),
        **{f"TRITON_PROBE_TRITON__{name.upper()}": f"127.0.0.1:{here[name]}" for name in _PROTOCOLS},
    }

    def launch_probe(container: Container, spec: ContainerSpec, log: Path) -> Program:
        command = [] if image else [sys.executable, "-m", "probe"]
        with log.open("wb") as output:
            return container.popen([*command, *spec.args], stdout=output, stderr=subprocess.STDOUT)

    parts = {
        TRITON: Part(launch_triton, (repository.path, *triton_folders(installation)), {"LC_ALL": "C.UTF-8"}),
        CONTAINER: Part(launch_probe, (file,), told, image)
        if image
        else Part(launch_probe, (*python_folders(), file), told | _FROM_CHECKOUT),
    }
    with Kubelet(Runtime(spec, pod, parts, ports)) as kubelet:
        yield PlayedPod(kubelet, pod, port, servers)
