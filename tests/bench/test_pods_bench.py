"""The bench of pods sees the kernel's event, and the finding after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import pods
from bench.harness import Result
from probe.facts.catalogue import CATALOGUE
from probe.sandbox.wheel import TritonInstallation
from testbed.pods.podman import Podman


def test_a_kill_is_seen_and_measured(
    podman: Podman, triton_installation: TritonInstallation, tmp_path: Path
) -> None:
    """One sample of the first case: a time that is neither nothing nor for ever, in milliseconds."""
    case = pods.CASES[0]
    seconds = pods.sample(podman, triton_installation, pods.repository(tmp_path / "models"), case)
    result = pods._measured(case, [seconds])
    assert isinstance(result, Result)
    assert result.figure == pytest.approx(seconds * 1000)
    assert 0 < seconds < 20


@pytest.mark.parametrize("case", pods.CASES, ids=lambda case: f"{case.name}, {case.reason}")
def test_a_case_waits_for_a_reason_of_the_catalogue(case: pods.Case) -> None:
    """A misspelt reason would be waited for in vain."""
    assert case.reason in CATALOGUE
