"""Fixtures of the suite for a machine with a real NVIDIA GPU; anywhere else each test is skipped.

A GPU can not be installed, so that such a skip is none of ``testbed.tools.missing``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from probe.sandbox.pods import Pod

Tell = Callable[[str, object], None]

_REPORT: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def driver() -> str:
    """The driver's release; skips where there is no GPU."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    try:
        if not pynvml.nvmlDeviceGetCount():
            pytest.skip("no NVIDIA GPU here: the driver counts none")
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


@pytest.fixture(scope="session")
def gpu(driver: str) -> str:
    """The UUID of the first GPU, which CUDA takes where nothing else is said."""
    pynvml.nvmlInit()
    try:
        return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)))
    finally:
        pynvml.nvmlShutdown()


@pytest.fixture(scope="session")
def torch_site(driver: str) -> Path:
    """Where this interpreter finds torch, for the stubs; skips where it does not."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        pytest.skip("no torch here")
    origin = Path(found.origin)
    return origin.parent if origin.name == "torch.py" else origin.parent.parent


@pytest.fixture
def pod(driver: str, pods_work: None) -> Iterator[Pod]:
    """A pid namespace of its own, as containers share one."""
    with Pod.open() as opened:
        yield opened


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Note what the machine did: it is printed at the end, and goes into ``$OUT`` where there is one."""
    name = request.node.name

    def note(what: str, value: object) -> None:
        _REPORT.append(f"{name}: {what}: {value}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was noted."""
    if not _REPORT:
        return
    terminalreporter.section("what this machine did")
    for line in _REPORT:
        terminalreporter.line(line)
    if out := os.environ.get("OUT"):
        (Path(out) / "gpu-report.txt").write_text("\n".join(_REPORT) + "\n")
