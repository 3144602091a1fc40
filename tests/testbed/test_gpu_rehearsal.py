"""The suite for a real GPU, rehearsed: doubles in the driver's place show that everything up to the driver runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from probe.sandbox.wheel import TritonInstallation
from testbed.cuda import cuda_double
from testbed.nvml.double import GpuState, NvmlDouble

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "tests" / "gpu"
GPU = GpuState(uuid="GPU-0e0e0e0e-aaaa-4000-8000-000000000001", memory_total_bytes=80 << 30)


def rehearsed(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """One file of the suite, with an NVML, a CUDA runtime and a torch that are none."""
    double = NvmlDouble(folder)
    double.set(gpus=[GPU])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE / name)],
        cwd=ROOT,
        env={
            **os.environ,
            **double.environment,
            **cuda_double(1),
            "PYTHONPATH": os.pathsep.join((str(ROOT / "testbed" / "gpu" / "site"), str(ROOT))),
            "OUT": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["test_process_lists.py", "test_answers.py", "test_placements.py"])
def test_every_test_of_the_suite_runs_where_doubles_stand_for_the_driver(
    pods_work: None, triton_installation: TritonInstallation, tmp_path: Path, name: str
) -> None:
    """None is skipped, none fails, and what it saw is in the report."""
    done = rehearsed(tmp_path, name)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout[-1000:]
    assert (tmp_path / "gpu-report.txt").read_text().count("\n") >= 3


def test_without_a_gpu_the_suite_is_skipped_and_says_why(tmp_path: Path) -> None:
    """Also where a skip for want of a tool would be a failure: a GPU can not be installed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)],
        cwd=ROOT,
        env={**os.environ, **NvmlDouble(tmp_path).environment, "TRITON_PROBE_REQUIRE_ALL": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "no NVIDIA GPU here: the driver counts none" in done.stdout
    assert re.search(r"^\d+ skipped in", done.stdout, re.MULTILINE)
