"""Plays a plan: starts its Triton once, looks at it in every way at the same time, and tells what was concluded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from probe.facts.status import Status
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.pods import Pod
from probe.sandbox.processes import PodProcess
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from testbed.backends.double import add_vllm, with_backends
from testbed.cuda import cuda_double
from testbed.nvml.double import GpuState, MigState, NvmlDouble, ProcessState
from testbed.placement.cases import REASONS, Case, Conclusion, Plan, Sight

MIB = 1 << 20
CONTEXT_MIB = 300
"""What tritonserver itself holds on every GPU it sees: its context and its pool."""
_FOREIGN = 3_000_000
"""Added to a pid, it is one that no process of this machine's pid namespaces has."""
_LOOKS = 5
"""Looks of each source before a conclusion counts: lists prove themselves in the first two, GpuNotUsed in three."""
_LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3")

Concluded = dict[tuple[str, Sight], Conclusion]
"""By model and sight."""


def uuid_of(gpu: int, device: int | None = None) -> str:
    """The UUID of a pretended GPU, or of a MIG device on it."""
    if device is not None:
        return f"MIG-0000000{gpu}-d00d-4000-8000-00000000000{device}"
    return f"GPU-0000000{gpu}-aaaa-4000-8000-000000000001"


def play(installation: TritonInstallation, folder: Path, plan: Plan) -> Concluded:
    """Conclude on every case under every sight of the plan.  Raises SandboxError where the stage fails."""
    repository = _written(folder, plan.cases)
    with contextlib.ExitStack() as stage:
        pod = stage.enter_context(Pod.open())
        server = TritonServer(
            pod,
            with_backends(installation, folder),
            repository.path,
            log=folder / "triton.log",
            control_mode="explicit",
            load_models=("*",),
            environment=cuda_double(plan.devices, error=plan.cuda_error),
        ).wait_live()
        loaded = {each["name"] for each in server.client.index() if each.get("state") == "READY"}
        for case in plan.cases:
            if case.asked and case.name in loaded:
                server.client.infer(case.name)
        daemons = {}
        for sight in plan.sights:
            environment = _nvml(folder / sight.name, sight, plan, server)
            daemons[sight] = stage.enter_context(_daemon(server, folder / sight.name, plan, environment))
        concluded: Concluded = {}
        for sight, daemon in daemons.items():
            _settled(daemon, sight, loaded)
            told = daemon.status()
            ever = _ever(daemon)
            for case in plan.cases:
                concluded[case.name, sight] = _conclusion(told, case.name, ever.get(case.name, frozenset()))
        return concluded


def _written(folder: Path, cases: Sequence[Case]) -> Repository:
    repository = Repository(folder / "models")
    for case in cases:
        if case.steps:
            repository.add_ensemble(case.name, steps=case.steps)
        elif case.backend == "python":
            repository.add_echo(case.name, group=case.group, parameters=case.parameters)
        elif case.backend == "vllm":
            add_vllm(repository, case.name, group=case.group, parameters=case.parameters)
        else:
            repository.add_model(
                case.name, backend=case.backend, group=case.group, parameters=case.parameters
            )
    return repository


def _daemon(server: TritonServer, folder: Path, plan: Plan, environment: dict[str, str]) -> Daemon:
    lines = ["interval: 400ms", "placement:", f"  default: {plan.default}"]
    entries = [f"    {case.name}: {case.policy}" for case in plan.cases if case.policy]
    lines += ["  models:", *entries] if entries else []
    (port,) = free_ports(1)
    return Daemon(
        server.pod,
        port,
        log=folder / "probe.log",
        addresses={"grpc": server.grpc, "http": server.http, "metrics": server.metrics},
        settings="\n".join(lines) + "\n",
        environment=environment,
    )


# ---- what NVML is made to say ---------------------------------------------------------------------------


def _nvml(folder: Path, sight: Sight, plan: Plan, server: TritonServer) -> dict[str, str]:
    folder.mkdir()
    if sight is Sight.ABSENT:
        return {}
    double = NvmlDouble(folder)
    double.set(gpus=[_gpu(each, sight, plan, server) for each in range(plan.devices)])
    return double.environment


def _gpu(number: int, sight: Sight, plan: Plan, server: TritonServer) -> GpuState:
    here = {
        device: tuple(_processes(number, device, sight, plan, server))
        for device in (None, *range(plan.migs.get(number, 0)))
    }
    refused = dict.fromkeys(_LISTS, 4) if sight is Sight.ONE_LIST and number == 0 else {}
    return GpuState(
        uuid=uuid_of(number),
        minor=number,
        pci=f"00000000:{number + 1:02X}:00.0",
        memory_used_bytes=_used(here[None]),
        processes=() if number in plan.migs else here[None],
        returns=refused,
        migs=[_mig(number, device, here[device]) for device in range(plan.migs.get(number, 0))],
    )


def _mig(number: int, device: int, processes: Sequence[ProcessState]) -> MigState:
    return MigState(
        uuid=uuid_of(number, device),
        gpu_instance=device + 1,
        memory_used_bytes=_used(processes),
        processes=processes,
    )


def _processes(
    number: int, device: int | None, sight: Sight, plan: Plan, server: TritonServer
) -> Iterator[ProcessState]:
    if sight is Sight.EMPTY:
        return
    seen = server.pod.processes()
    (main,) = (each for each in seen if each.pid == server.outer_pid)
    truth = [(main.inside_pid, CONTEXT_MIB)] if device in (None, 0) else []
    for case in plan.cases:
        holders = _holders(case, seen)
        truth += [
            (holders[each.process].inside_pid, each.mib)
            for each in case.holds
            if (each.gpu, each.device) == (number, device)
        ]
    for pid, mib in truth:
        foreign = _FOREIGN if sight is Sight.FOREIGN else 0
        yield ProcessState(pid + foreign, 0 if sight is Sight.PIDS else mib * MIB)


def _holders(case: Case, seen: Sequence[PodProcess]) -> list[PodProcess]:
    # A stub's ninth argument is its instance's name; a group of a model is called as the model, with a number.
    stubs = sorted(
        (
            each
            for each in seen
            if len(each.arguments) > 9
            and re.fullmatch(rf"{re.escape(case.name)}(_\d+){{1,2}}", each.arguments[8])
        ),
        key=lambda each: (each.arguments[8], each.pid),
    )
    parents = {each.pid for each in stubs}
    engines = [each for each in seen if each.parent in parents]
    return engines or stubs


def _used(processes: Sequence[ProcessState]) -> int:
    return sum(each.used_bytes or 0 for each in processes)


# ---- what the daemon concluded --------------------------------------------------------------------------


def _settled(daemon: Daemon, sight: Sight, loaded: set[str]) -> None:
    daemon.wait_code("/livez", OPEN)

    def looked() -> bool:
        text = daemon.ask("/metrics").body
        counts = [
            float(found)
            for found in re.findall(
                r'^triton_probe_source_duration_seconds_count\{source="(?:nvml|triton|processes)"\} (\S+)$',
                text,
                re.MULTILINE,
            )
        ]
        return len(counts) == 3 and min(counts) >= _LOOKS

    daemon.wait_until(f"{_LOOKS} looks of each source", looked)

    def known() -> bool:
        told = {each.name: each.placement.declared for each in daemon.status().models}
        return all(told.get(each) is not None for each in loaded)

    daemon.wait_until("every configuration", known)
    daemon.wait_until(f"evidence {sight.mode}", lambda: daemon.status().evidence.mode is sight.mode)


def _ever(daemon: Daemon) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for event in daemon.events():
        if event["kind"] == "finding_raised":
            found.setdefault(event["subject"].partition("/")[0], set()).add(event["reason"])
    return {name: frozenset(reasons) for name, reasons in found.items()}


def _conclusion(told: Status, name: str, ever: frozenset[str]) -> Conclusion:
    (model,) = (each for each in told.models if each.name == name)
    standing = {each.reason for each in told.findings if each.subject.model == name}
    placement = model.placement
    return Conclusion(
        mode=told.evidence.mode,
        declared=placement.declared,
        expected=placement.expected.value,
        verdict=placement.verdict,
        gpus=placement.gpus,
        gpu_memory_bytes=placement.gpu_memory_bytes,
        why=placement.why,
        reasons=frozenset(standing & REASONS),
        ever=ever,
    )
