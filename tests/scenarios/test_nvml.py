"""NVML hangs: endpoints answer at once, the finding says what is unknown.  Other faults: ``test_many_gpus.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from probe.facts.placement import EvidenceMode, Verdict
from probe.sandbox.daemon import OPEN
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from testbed.cuda import cuda_double
from testbed.nvml.double import EVERY, NvmlDouble
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]


def test_an_nvml_that_never_answered_makes_placement_unknown_and_nothing_slow(
    triton: StartTriton, repository: Repository, daemon: StartDaemon, tmp_path: Path
) -> None:
    """Its own finding, PlacementUnknown for the model, ready stays open, answers stay quick."""
    repository.add_echo("on_gpu", kind="KIND_GPU")
    server = triton(environment=cuda_double(1)).wait_ready()
    server.client.infer("on_gpu", (1.0,))
    double = NvmlDouble(tmp_path)
    double.set(hang={EVERY: 60.0})
    probe = daemon(server, environment=double.environment)
    finding = probe.wait_finding("NvmlHung")
    assert finding.gates == finding.pending == ()
    assert "unknown" in finding.message
    probe.wait_finding("PlacementUnknown", "on_gpu")
    status = probe.status()
    assert status.evidence.mode is EvidenceMode.NO_NVML
    assert [each.placement.verdict for each in status.models] == [Verdict.UNKNOWN]
    assert probe.wait_code("/readyz", OPEN)
    for path in ("/livez", "/readyz", "/startupz", "/healthz", "/status", "/metrics", "/events", "/"):
        began = time.monotonic()
        assert probe.ask(path).code == OPEN
        # Generous: the figure is the bench's business; whoever waited for NVML would wait 5 s.
        assert time.monotonic() - began < 4.0
    events = probe.ask("/events").body
    assert "GpuNotUsed" not in events
    assert "CpuFallback" not in events
