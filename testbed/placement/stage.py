"""Plays a plan: starts its Triton once, looks at it in every way at the same time, and tells what was concluded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from probe.facts.status import Status
from probe.sandbox.daemon import OPEN, Daemon
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer, free_ports
from probe.sandbox.wheel import TritonInstallation
from testbed.backends.double import add_vllm, with_backends
from testbed.cuda import cuda_double
from testbed.nvml.double import NvmlDouble
from testbed.placement.cases import REASONS, Case, Conclusion, Plan, Sight
from testbed.placement.sights import gpus_under

_SOURCES = 3
_LOOKS = 5
"""Looks of each source before a conclusion counts: lists prove themselves in the first two, GpuNotUsed in three."""

_LATE = 20.0
"""Seconds for looks that come late; a plan that is concluded otherwise waits as long."""

Concluded = dict[tuple[str, Sight], Conclusion]
"""By model and sight."""


def play(installation: TritonInstallation, folder: Path, plan: Plan) -> Concluded:
    """Conclude on every case under every sight of the plan.  Raises SandboxError where the stage fails."""
    with contextlib.ExitStack() as stage:
        server = stage.enter_context(staged(installation, folder, plan))
        loaded = _loaded(server)
        daemons = {}
        for sight in plan.sights:
            (folder / sight.name).mkdir()
            environment = _environment(folder / sight.name, sight, plan, server)
            daemons[sight] = stage.enter_context(beside(server, folder / sight.name, plan, environment))
        for sight, daemon in daemons.items():
            settled(daemon, sight, loaded)
        ask(server, plan)
        looked = {sight: _looks(daemon) for sight, daemon in daemons.items()}
        concluded: Concluded = {}
        for sight, daemon in daemons.items():
            settled(daemon, sight, loaded, after=looked[sight])
            told = _as_it_must_be(daemon, sight, plan)
            ever = reasons_ever(daemon)
            for case in plan.cases:
                concluded[case.name, sight] = _conclusion(told, case.name, ever.get(case.name, frozenset()))
        return concluded


def _as_it_must_be(daemon: Daemon, sight: Sight, plan: Plan) -> Status:
    """What is told once it is all as it must be; where it does not come to that, what is told in the end.

    On a busy machine a look may come late, and what it showed be too old for a moment.
    """

    def seen() -> Status | None:
        told = daemon.status()
        outcomes = (
            _conclusion(told, case.name, frozenset()).outcome == case.outcome(sight) for case in plan.cases
        )
        return told if told.evidence.mode is sight.mode and all(outcomes) else None

    try:
        return daemon.wait_until("every conclusion", seen, _LATE, pause=0.1)
    except SandboxError:
        return daemon.status()


@contextlib.contextmanager
def staged(installation: TritonInstallation, folder: Path, plan: Plan) -> Iterator[TritonServer]:
    """The plan's Triton in a pod of its own, with its models loaded."""
    repository = _written(folder, plan.cases)
    with Pod.open() as pod:
        server = TritonServer(
            pod,
            with_backends(installation, folder),
            repository.path,
            log=folder / "triton.log",
            control_mode="explicit",
            load_models=("*",),
            environment=cuda_double(plan.devices, error=plan.cuda_error),
        ).wait_live()
        yield server


def ask(server: TritonServer, plan: Plan) -> None:
    """Send each model its requests.

    While daemons watch: what a model executed within a second of its load they leave out of account, because
    the kernel tells only to a second when a process began.
    """
    loaded = _loaded(server)
    for case in plan.cases:
        for _ in range(case.asked if case.name in loaded else 0):
            server.client.infer(case.name)


def _loaded(server: TritonServer) -> set[str]:
    return {each["name"] for each in server.client.index() if each.get("state") == "READY"}


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


def beside(
    server: TritonServer,
    folder: Path,
    plan: Plan,
    environment: Mapping[str, str],
    *,
    interval: str = "400ms",
) -> Daemon:
    """A daemon beside the plan's Triton, with the plan's policy; its files go into ``folder``."""
    lines = [f"interval: {interval}", "placement:", f"  default: {plan.default}"]
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


def _environment(folder: Path, sight: Sight, plan: Plan, server: TritonServer) -> dict[str, str]:
    if sight is Sight.ABSENT:
        return {}
    double = NvmlDouble(folder)
    double.set(gpus=gpus_under(sight, plan, server))
    return double.environment


# ---- what the daemon concluded --------------------------------------------------------------------------


def settled(daemon: Daemon, sight: Sight, loaded: set[str], *, after: int = 0) -> None:
    """Wait until the daemon has looked often enough, knows every loaded model, and is in the sight's mode."""
    daemon.wait_code("/livez", OPEN)
    daemon.wait_until(f"{_LOOKS} looks of each source", lambda: _looks(daemon) >= after + _LOOKS)

    def known() -> bool:
        told = {each.name: each.placement.declared for each in daemon.status().models}
        return all(told.get(each) is not None for each in loaded)

    daemon.wait_until("every configuration", known)
    daemon.wait_until(f"evidence {sight.mode}", lambda: daemon.status().evidence.mode is sight.mode)


def _looks(daemon: Daemon) -> int:
    """How often each source was looked at; of the slowest, the others have looked as often or oftener."""
    sample = r'^triton_probe_source_duration_seconds_count\{source="(?:nvml|triton|processes)"\} (\S+)$'
    counts = [float(each) for each in re.findall(sample, daemon.ask("/metrics").body, re.MULTILINE)]
    return int(min(counts)) if len(counts) == _SOURCES else 0


def reasons_ever(daemon: Daemon) -> dict[str, frozenset[str]]:
    """Every reason that was ever raised, by model."""
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
