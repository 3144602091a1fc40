"""Stubs that are easily mistaken: for instances, for each other, for those that died."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probe.facts.status import ModelStatus
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.scripted.server import ScriptedTriton
from testbed.tools import until
from tests.scenarios.conftest import StartDaemon
from tests.scenarios.releases import OldOrNew

StartTriton = Callable[..., TritonServer]
Begin = Callable[[str], OldOrNew]

_COMPLETES_SLOWLY = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        time.sleep(2.5)
        return config

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(each, "INPUT").as_numpy())
            ])
            for each in requests
        ]
"""


def model(probe: Daemon, name: str, version: str = "1") -> ModelStatus | None:
    """This version's part of ``/status``."""
    return next(
        (each for each in probe.status().models if (each.name, each.version) == (name, version)), None
    )


def raised(probe: Daemon) -> list[tuple[str, str]]:
    """Reason and subject of every finding about stubs that was ever raised, newest first."""
    return [
        (each["reason"], each["subject"])
        for each in probe.events()
        if each["kind"] == "finding_raised"
        and each["reason"] in ("StubDead", "InstancesMissing", "StubFrozen")
    ]


def exits(probe: Daemon) -> list[str]:
    """The counted exits."""
    return [each for each in probe.ask("/metrics").body.splitlines() if "stub_exits_total{" in each]


def test_an_auto_complete_stub_is_neither_an_instance_nor_a_death(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """The real one, which is named as its model, lives while its model loads, and ends when its work is done."""
    repository.add_echo(kind="KIND_CPU").add_python("slow", source=_COMPLETES_SLOWLY, kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("echo",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    scanned = probe.status().probe.sources["processes"].age_seconds
    assert scanned is not None
    loading = threading.Thread(target=lambda: server.client.load("slow", seconds=30.0))
    loading.start()
    until(lambda: [each.instance for each in server.stubs("slow")] == ["slow"])
    loading.join()
    probe.wait_until(
        "the model", lambda: (seen := model(probe, "slow")) is not None and seen.instances.alive == 1
    )
    assert raised(probe) == []
    assert exits(probe) == []


def test_two_instances_of_one_name_on_two_gpus_are_two(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A group over two GPUs names both alike: each death counts, and the one that lives covers for no other."""
    repository.add_echo("twins", kind="KIND_GPU", gpus=(0, 1))
    server = triton(environment=cuda_double(2), control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until(
        "both", lambda: (seen := model(probe, "twins")) is not None and seen.instances.alive == 2
    )
    one, other = server.stubs("twins")
    assert one.instance == other.instance == "twins_0_0"
    os.kill(one.pid, signal.SIGKILL)
    dead = probe.wait_finding("StubDead")
    assert (dead.evidence["instances_alive"], dead.evidence["instances_expected"]) == (1, 2)
    assert dead.evidence["pid"] == one.inside_pid
    os.kill(other.pid, signal.SIGKILL)
    probe.wait_until(
        "none left", lambda: (seen := model(probe, "twins")) is not None and seen.instances.dead == 2
    )
    server.client.load("twins")
    probe.wait_clear("StubDead")
    probe.wait_code("/readyz", OPEN)


def test_versions_are_judged_apart_and_a_changed_policy_kills_none(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A version that the policy no longer serves is unloaded; a death of another one is its own."""
    repository.add_echo("many", kind="KIND_CPU", versions=(1, 2, 3))
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(server)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("three", lambda: sum(len(each.stubs) for each in probe.status().models) == 3)
    file = repository.path / "many" / "config.pbtxt"
    everything = file.read_text()
    file.write_text(
        everything.replace("version_policy { all {} }", "version_policy { specific { versions: [2, 3] } }")
    )
    server.client.load("many")
    probe.wait_until(
        "the unload of 1", lambda: (s := model(probe, "many")) is not None and s.state == "unavailable"
    )
    assert raised(probe) == []
    assert probe.ask("/readyz").code == OPEN
    victim = next(each for each in server.stubs("many") if each.version == "3")
    os.kill(victim.pid, signal.SIGKILL)
    dead = probe.wait_finding("StubDead")
    assert (dead.subject.model, dead.subject.version) == ("many", "3")
    assert (seen := model(probe, "many", "2")) is not None
    assert seen.ready
    file.write_text(everything)
    server.client.load("many")
    probe.wait_until("1 again", lambda: (s := model(probe, "many")) is not None and s.instances.alive == 1)
    assert [reason for reason, _ in raised(probe)] == ["StubDead"]


@pytest.fixture
def begin(scripted_triton: ScriptedTriton, pod: Pod, tmp_path: Path) -> Iterator[Begin]:
    """Start impostors and a scripted Triton of this version."""
    started: list[OldOrNew] = []

    def start(version: str) -> OldOrNew:
        started.append(OldOrNew(pod, tmp_path, scripted_triton, version))
        return started[-1]

    yield start
    for each in started:
        each.server.close()


def test_a_pid_that_is_given_again_hides_no_death(begin: Begin, daemon: StartDaemon) -> None:
    """Reaped by Triton, its number taken by a stub of another model at once: the instance is still dead."""
    triton = begin("2.64.0")
    probe = daemon(triton.ports)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("both", lambda: (seen := model(probe, "echo")) is not None and seen.instances.alive == 2)
    stub = triton.stubs.pop("echo_0_0")
    triton.dead.add("echo_0_0")
    triton.server.kill(stub)
    until(lambda: triton.server.reap(stub))
    triton.server.start("later_0_0", "/models/later/1/model.py", pid=stub.pid)
    dead = probe.wait_finding("StubDead")
    assert (dead.subject.instance, dead.evidence["pid"]) == ("echo_0_0", stub.pid)
    probe.wait_code("/readyz", CLOSED)
    triton.load("echo", "echo_0_0")
    probe.wait_clear("StubDead")


@pytest.mark.parametrize("version", ["2.38.0", "2.51.0", "2.64.0"])
def test_a_folder_with_blanks_leads_to_its_model_on_every_release(
    begin: Begin, daemon: StartDaemon, version: str
) -> None:
    """Split by a shell up to 25.07, whole since; the death is the right model's."""
    triton = begin(version)
    triton.unload("other", "other_0_0")
    triton.stubs["other_0_0"] = triton.server.start("other_0_0", "/my models/of 7 days/other/1/model.py")
    triton.script.model("other").state, triton.script.model("other").reason = "READY", ""
    probe = daemon(triton.ports)
    probe.wait_code("/readyz", OPEN)
    probe.wait_until("it", lambda: (seen := model(probe, "other")) is not None and seen.instances.alive == 1)
    triton.kill("other_0_0")
    assert probe.wait_finding("StubDead").subject.model == "other"
