"""GPUs pretended at the boundary of the CUDA runtime, so that the real tritonserver loads ``KIND_GPU``.

Only what Triton's core and python backend call is pretended, on host memory; no kernel ever runs.
"""

from __future__ import annotations

from pathlib import Path

from testbed.compile import build_shared_library

_SOURCE = Path(__file__).with_name("cuda_double.c")


def cuda_double(devices: int, *, error: int = 0) -> dict[str, str]:
    """Return an environment under which a program sees this many GPUs of compute capability 8.0.

    ``error`` is the ``cudaError_t`` that counting devices answers instead (35: the driver is too old, which
    Triton takes for "no GPU"; 100: no device).  Raises ``testbed.compile.CompileError``.
    """
    library = build_shared_library(_SOURCE, "libcuda_double.so")
    return {
        "LD_PRELOAD": str(library),
        "CUDA_DOUBLE_DEVICES": str(devices),
        "CUDA_DOUBLE_ERROR": str(error),
    }


def cuda_double_from(state: Path) -> dict[str, str]:
    """Do the same with devices and error read from a file at every call: ``2`` or ``2 35``."""
    library = build_shared_library(_SOURCE, "libcuda_double.so")
    return {"LD_PRELOAD": str(library), "CUDA_DOUBLE_STATE": str(state.absolute())}
