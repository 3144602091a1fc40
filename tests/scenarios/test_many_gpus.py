"""Sixteen models over eight GPUs, two of them partitioned: every figure in its place, and NVML broken in every way."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest

from probe.facts.status import ModelStatus, Status
from probe.sandbox.daemon import CLOSED, OPEN
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from testbed.nvml.double import DeviceState, GpuState, NvmlDouble
from testbed.placement.cases import ABSENCES, Case, Sight
from testbed.placement.eight import EIGHT
from testbed.placement.faults import FAULTS, WELL, Fault, Told, gates_moved, left, outcomes, play_all, well
from testbed.placement.sights import MIB, gpus_under, uuid_of
from testbed.placement.stage import ask, beside, reasons_ever, settled, staged

CASES = EIGHT.cases
LOADED = {each.name for each in CASES}


class Deployed(msgspec.Struct):
    """The Triton with its sixteen models, and what NVML says of it while it is well."""

    server: TritonServer
    gpus: list[GpuState]


class Seen(msgspec.Struct):
    """What the daemon told once it knew everything."""

    status: Status
    metrics: str


@pytest.fixture(scope="module")
def deployed(
    pods_work: None, triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """One Triton for all tests of this file: none of them changes it."""
    with staged(triton_installation, tmp_path_factory.mktemp("eight"), EIGHT) as server:
        ask(server, EIGHT)
        yield Deployed(server, gpus_under(Sight.WHOLE, EIGHT, server))


@pytest.fixture(scope="module")
def seen(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What a daemon beside it tells."""
    folder = tmp_path_factory.mktemp("seen")
    double = NvmlDouble(folder)
    double.set(gpus=deployed.gpus)
    with beside(deployed.server, folder, EIGHT, double.environment) as daemon:
        settled(daemon, Sight.WHOLE, LOADED)
        status = well(daemon)
        metrics = daemon.wait_until(
            "the same in the metrics",
            lambda: page if 'evidence_info{mode="full"}' in (page := daemon.ask("/metrics").body) else None,
        )
        return Seen(status, metrics)


def model(status: Status, name: str) -> ModelStatus:
    """This model's part of ``/status``."""
    return next(each for each in status.models if each.name == name)


def devices(gpus: Sequence[GpuState]) -> Iterator[tuple[DeviceState, GpuState]]:
    """Every GPU and, after it, its MIG devices; each with its GPU."""
    for gpu in gpus:
        yield gpu, gpu
        for mig in gpu.migs:
            yield mig, gpu


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_has_its_own_gpus_and_bytes(seen: Seen, case: Case) -> None:
    """UUIDs of GPUs and MIG devices, and the sum of what its processes hold there."""
    placement = model(seen.status, case.name).placement
    assert placement.verdict is case.whole.verdict
    assert (placement.declared, placement.expected) == (case.declared, case.expected)
    assert placement.gpus == tuple(sorted({uuid_of(each.gpu, each.device) for each in case.holds}))
    assert placement.gpu_memory_bytes == (sum(each.mib for each in case.holds) * MIB or None)


def test_a_stub_has_the_bytes_of_its_own_processes_and_no_others(deployed: Deployed, seen: Seen) -> None:
    """Each of two dozen stubs: by its pid, its engines counted with it, on the devices that list them."""
    members = deployed.server.pod.processes()
    stubs = [stub for each in seen.status.models for stub in each.stubs]
    outer = {each.inside_pid: each.pid for each in members}
    for stub in stubs:
        family = {stub.pid} | {each.inside_pid for each in members if each.parent == outer[stub.pid]}
        held = {
            device.uuid: sum(each.used_bytes or 0 for each in device.processes if each.pid in family)
            for device, _ in devices(deployed.gpus)
            if any(each.pid in family for each in device.processes)
        }
        assert stub.gpus == tuple(sorted(held)), stub.instance
        assert stub.gpu_memory_bytes == sum(held.values()), stub.instance
    assert len(stubs) == 6 + 2 + 3 + 8 + 1 + 1 + 2 + 2 + 1


def test_every_gpu_and_every_part_of_one_is_listed_with_its_figures(deployed: Deployed, seen: Seen) -> None:
    """Eight GPUs and five MIG devices: UUID, name, minor, total and used bytes are those that NVML told."""
    told = [
        (each.uuid, each.name, each.minor, each.mig, each.memory_total_bytes, each.memory_used_bytes, each.ok)
        for each in seen.status.gpus
    ]
    assert told == [
        (
            *(device.uuid, device.name, gpu.minor, device is not gpu),
            *(device.memory_total_bytes, device.memory_used_bytes, True),
        )
        for device, gpu in devices(deployed.gpus)
    ]
    assert len(told) == 13


def samples(text: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Every sample of this metric with its labels."""
    for labels, value in re.findall(rf"^triton_probe_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
        yield dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)


def test_the_metrics_say_what_the_status_says(deployed: Deployed, seen: Seen) -> None:
    """Bytes by model and GPU, bytes by GPU, and one verdict a model."""
    told = {
        (labels["model"], labels["gpu_uuid"]): value
        for labels, value in samples(seen.metrics, "model_gpu_memory_bytes")
    }
    truth: dict[tuple[str, str], int] = {}
    for case in CASES:
        for each in case.holds:
            key = (case.name, uuid_of(each.gpu, each.device))
            truth[key] = truth.get(key, 0) + each.mib * MIB
    assert told == truth
    used = {labels["gpu_uuid"]: value for labels, value in samples(seen.metrics, "gpu_memory_used_bytes")}
    assert used == {device.uuid: device.memory_used_bytes for device, _ in devices(deployed.gpus)}
    verdicts = {
        labels["model"]: labels["verdict"]
        for labels, value in samples(seen.metrics, "model_placement")
        if value
    }
    assert verdicts == {each.name: each.whole.verdict for each in CASES}


# ---- NVML broken in every way ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Told]]:
    """Every fault's story, a few at the same time: each has a daemon and an NVML of its own."""
    return play_all(deployed.server, deployed.gpus, [tmp_path_factory.mktemp("fault") for _ in FAULTS])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_broken_nvml_hides_what_it_hides_and_accuses_no_model(
    told: dict[str, Future[Told]], fault: Fault
) -> None:
    """Its own finding and no other, no gate but ready for GPUs that are lost, never CPU, and all back afterwards."""
    story = told[fault.name].result()
    found = {each.reason: each for each in story.broken.findings if each.reason.startswith(("Nvml", "Gpu"))}
    assert found.keys() == fault.reasons
    for each in found.values():
        assert (each.gates == each.pending == ()) is not fault.closes
        assert fault.closes or "is unknown until NVML answers" in each.message
    assert outcomes(story.broken) == left(fault)
    closed = {"/readyz": CLOSED} if fault.closes else {}
    assert story.answers == dict.fromkeys(story.answers, OPEN) | closed
    assert story.gates_moved == (2 if fault.closes else 0)
    assert story.ever & ABSENCES == set()
    if story.healed is not None:
        assert outcomes(story.healed) == WELL
        assert not [each for each in story.healed.findings if each.reason in fault.reasons]


def test_a_killed_helper_is_followed_by_another_and_no_verdict_is_lost_for_long(
    deployed: Deployed, tmp_path: Path
) -> None:
    """The helper is the driver's to break, not the daemon's: it comes back by itself, and no gate moves."""
    double = NvmlDouble(tmp_path)
    double.set(gpus=deployed.gpus)
    with beside(deployed.server, tmp_path, EIGHT, double.environment, interval="1s") as daemon:
        daemon.wait_code("/readyz", OPEN)
        well(daemon)
        moved = gates_moved(daemon)
        pod = deployed.server.pod

        def helper() -> int | None:
            return next(
                (
                    each.pid
                    for each in pod.processes()
                    if each.parent == daemon.program.pid and "probe.sources.nvml.helper" in each.arguments
                ),
                None,
            )

        first = daemon.wait_until("the helper", helper)
        os.kill(first, signal.SIGKILL)
        second = daemon.wait_until("another helper", lambda: ((one := helper()) != first and one) or None)
        assert second != first
        well(daemon)
        daemon.wait_clear("NvmlUnavailable")
        assert gates_moved(daemon) == moved
        ever = {reason for reasons in reasons_ever(daemon).values() for reason in reasons}
        assert ever & ABSENCES == set()
