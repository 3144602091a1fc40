"""The little of torch that the suite of a real GPU uses, on host memory.

What is put on the GPU is entered into the state of the NVML double (``NVML_DOUBLE_STATE``), whose last GPU
then lists this process, as a driver would.  It needs nothing but the standard library: stubs import it.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

uint8 = "uint8"
__version__ = "0.0 (rehearsal)"


class Tensor:
    """So many bytes somewhere."""

    def __init__(self, size: int, device: str) -> None:
        self.size, self.device = size, device
        if device.startswith("cuda"):
            _enter(size)

    def fill_(self, _: int) -> Tensor:
        """Keep whatever it is busy for a moment."""
        time.sleep(0.001)
        return self


def zeros(size: int, *, dtype: str, device: str = "cpu") -> Tensor:  # noqa: ARG001 - bytes are all there are
    """So many bytes on this device."""
    return Tensor(size, device)


class cuda:  # noqa: N801 - torch's own name
    """The module of the device."""

    @staticmethod
    def is_available() -> bool:
        """Whether there is an NVML double."""
        return "NVML_DOUBLE_STATE" in os.environ

    @staticmethod
    def synchronize(*_: Any) -> None:  # noqa: ANN401 - as torch's
        """There is nothing to wait for."""


def _enter(size: int) -> None:
    state = Path(os.environ["NVML_DOUBLE_STATE"])
    with state.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = state.with_suffix(f".{os.getpid()}")
        fresh.write_text(f"{state.read_text()}{_context()}process {os.getpid()} {size}\n")
        fresh.replace(state)


def _context() -> str:
    # A tritonserver has a context on every GPU that it sees, before any of its models has.
    parent = os.getppid()
    comm = Path(f"/proc/{parent}/comm")  # there is none where the parent is in another pid namespace
    if not comm.exists() or comm.read_text() != "tritonserver\n":
        return ""
    return f"process {parent} {300 << 20}\n"
