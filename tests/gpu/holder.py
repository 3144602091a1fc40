"""A process that takes a GPU when it is told to: one order a line on stdin, one answer a line on stdout.

``list`` answers NVML's list as ``{uuid: {pid: bytes}}``, ``import`` only imports torch, ``hold MIB`` takes so
much of the GPU, ``busy SECONDS`` writes to it; everything but ``list`` answers with the own pid.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import pynvml


def main() -> None:
    """Obey until stdin ends."""
    held: list[Any] = []
    for line in sys.stdin:
        order, _, number = line.partition(" ")
        answer: object = os.getpid()
        match order.strip():
            case "list":
                answer = listed()
            case "import":
                _torch()
            case "hold":
                held.append(_torch().zeros(int(number) << 20, dtype=_torch().uint8, device="cuda:0"))
                _torch().cuda.synchronize()
            case "busy":
                until = time.monotonic() + float(number)
                while time.monotonic() < until:
                    held[-1].fill_(1)
                    _torch().cuda.synchronize()
        print(json.dumps(answer), flush=True)  # noqa: T201 - this is how it answers


def _torch() -> Any:  # noqa: ANN401 - the whole point is that it is imported late
    return importlib.import_module("torch")


def listed() -> dict[str, dict[int, int | None]]:
    """Every process that NVML lists here."""
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(each) for each in range(pynvml.nvmlDeviceGetCount())]
        return {
            str(pynvml.nvmlDeviceGetUUID(handle)): {
                each.pid: each.usedGpuMemory for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            }
            for handle in handles
        }
    finally:
        pynvml.nvmlShutdown()


if __name__ == "__main__":
    main()
