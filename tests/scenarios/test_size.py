"""``triton-probe size`` beside a real Triton under load: what it proposes, and what it says of little watching."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import yaml

from probe.facts.sizing import ModelPeak
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.scenarios.conftest import Ports, StartDaemon

StartTriton = Callable[..., TritonServer]
MIB = 1 << 20

TWICE = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        spare = bytearray(b"x" * (150 << 20))
        time.sleep(5)
        del spare

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(each, "INPUT").as_numpy())]
            )
            for each in requests
        ]
"""
"""A model that takes 300 MiB for a moment and 150 for five seconds while it loads, and nothing of it later."""


def size(probe: Daemon, *options: str) -> str:
    """What ``triton-probe size`` prints."""
    command = [sys.executable, "-m", "probe", "size", "--url", f"http://127.0.0.1:{probe.port}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told(probe: Daemon) -> dict[str, Any]:
    """The same for scripts."""
    found: dict[str, Any] = json.loads(size(probe, "--format", "json"))
    return found


def peak(probe: Daemon, model: str) -> ModelPeak | None:
    """What is known of a model."""
    sizing = probe.status().sizing
    assert sizing is not None
    return next((each for each in sizing.models if each.name == model), None)


def asked(server: TritonServer, seconds: float) -> None:
    """Ask the model for so long, one request after the other."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        server.client.infer("twice", (1.0,))


def test_size_tells_a_load_from_serving_and_says_that_it_watched_too_little(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, ports: Ports
) -> None:
    """At once it has nothing; after a load run it has figures, a proposal, and what is missing."""
    repository.add_python("twice", source=TWICE, kind="KIND_CPU", instances=2)
    repository.add_echo("unasked", kind="KIND_CPU")
    probe = daemon(ports)
    assert size(probe).startswith("# TOO LITTLE WATCHED TO TELL: 0.0 min of serving")
    assert yaml.safe_load(size(probe)) is None

    server = triton(live=False, ports=ports)
    probe.wait_code("/readyz", OPEN, seconds=60)

    def settled() -> ModelPeak | None:
        asked(server, 1.0)
        found = peak(probe, "twice")
        return found if found is not None and found.memory_steady_bytes is not None else None

    model = probe.wait_until("a look at the model while it serves", settled, 40)
    assert model.memory_load_bytes is not None
    assert model.memory_steady_bytes is not None
    # Two stubs held 150 MiB each while they loaded.
    assert model.memory_load_bytes - model.memory_steady_bytes > 200 * MIB

    container = probe.wait_until(
        "a look at the container while it serves",
        lambda: told(probe)["container"] if told(probe)["minutes"] else None,
    )
    assert container["memory_load_bytes"] is not None
    sizing = told(probe)
    assert not sizing["enough"]
    assert any(each.startswith("It has watched Triton serve for ") for each in sizing["why_not"])
    assert any("Nobody asked unasked/1 since" in each for each in sizing["why_not"])
    assert not any("No model was seen to load" in each for each in sizing["why_not"])

    text = size(probe)
    assert text.startswith("# TOO LITTLE WATCHED TO TELL")
    assert "# twice/1: memory " in text
    proposal = yaml.safe_load(text)
    assert proposal["resources"]["requests"].keys() == {"cpu", "memory"}
    assert proposal["resources"]["limits"]["memory"] == proposal["resources"]["requests"]["memory"]
    assert proposal["volumes"][0]["emptyDir"]["medium"] == "Memory"
    assert proposal["volumeMounts"] == [{"name": "triton-shm", "mountPath": "/dev/shm"}]
    assert probe.stop() == 0
