"""A Triton of any release for the scenarios: a scripted one that talks, and impostors that the kernel shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from probe.sandbox.pods import Pod
from probe.sources.triton.protos import SERVICE, messages
from testbed.impostors.lines import Release
from testbed.impostors.server import ImpostorServer, ImpostorStub
from testbed.scripted.script import Group, ScriptedModel
from testbed.scripted.server import ScriptedTriton

RESTARTS_BEFORE: Release = (2, 47)
"""24.06: from then on a dead stub stays dead (python_backend 27f04d1)."""


class OldOrNew:
    """One python model ``echo`` with two instances, an ensemble ``pipeline`` over it, and a model ``other``.

    What becomes of a dead stub is the release's: it stays a zombie, is reaped when readiness is asked (the
    script asks ``look``), or is started again by a request.
    """

    def __init__(self, pod: Pod, folder: Path, scripted: ScriptedTriton, version: str) -> None:
        self.script = scripted.script
        self.script.version = version
        major, minor, *_ = (int(each) for each in version.split("."))
        self.release = (major, minor)
        self.grpc = scripted.grpc
        self.ports = (_port(scripted.grpc), _port(scripted.http), _port(scripted.metrics))
        self.server = ImpostorServer(
            pod,
            folder,
            release=self.release,
            options=(f"--grpc-port={self.ports[0]}", "--model-control-mode=explicit"),
        )
        self.stubs: dict[str, ImpostorStub] = {}
        self.dead: set[str] = set()
        self.script.models = [
            ScriptedModel(
                "echo", groups=(Group("echo_0", count=2),), look=self._look, requested=self._requested
            ),
            ScriptedModel("other", groups=(Group("other_0"),)),
            ScriptedModel("pipeline", steps=("echo",)),
        ]
        self.load("echo", "echo_0_0", "echo_0_1")
        self.load("other", "other_0_0")

    def load(self, model: str, *instances: str) -> None:
        """Start these instances' stubs."""
        for each in instances:
            self.stubs[each] = self.server.start(each, f"/models/{model}/1/model.py")
            self.dead.discard(each)

    def kill(self, instance: str) -> int:
        """Kill an instance's stub; its pid, as the pod counts."""
        stub = self.stubs[instance]
        self.server.kill(stub)
        self.dead.add(instance)
        return stub.pid

    def unload(self, model: str, *instances: str) -> None:
        """Unload a model as Triton does: it is no longer ready, then its stubs end and are reaped."""
        told = self.script.model(model)
        told.state = "UNLOADING"
        for each in instances:
            self.server.end(self.stubs.pop(each))
        told.state, told.reason = "UNAVAILABLE", "unloaded"

    def reload(self, model: str, *instances: str) -> None:
        """Load a model over what is there: its new stubs start before the old ones end."""
        old = [self.stubs.pop(each) for each in instances if each in self.stubs]
        self.load(model, *instances)
        for each in old:
            if not self.server.reap(each):
                self.server.end(each)

    def request(self, model: str = "echo") -> None:
        """Send a model one request, over the wire."""
        with grpc.insecure_channel(self.grpc) as channel:
            call: Any = channel.unary_unary(
                f"{SERVICE}ModelInfer",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            call(messages.ModelInferRequest(model_name=model), timeout=5.0)

    def _look(self) -> bool:
        # StubActive reaps (python_backend 395a780); a dead instance stays dead however often it is asked.
        for each in self.dead:
            if each in self.stubs and self.server.reap(self.stubs[each]):
                del self.stubs[each]
        return not self.dead

    def _requested(self) -> None:
        if self.release < RESTARTS_BEFORE:
            for each in sorted(self.dead):
                self.server.reap(self.stubs[each])
                self.load("echo", each)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
