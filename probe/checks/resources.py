"""Amounts of memory and CPU as a manifest and as a sentence says them, and the lines to paste."""

from __future__ import annotations

import math

HEADROOM = 1.25
"""The highest use so far says nothing of the next request: a quarter more is the usual margin."""
CONTAINER = "Triton's container (KServe: spec.predictor.model)"
"""Where such a line belongs."""

_MIB = 1 << 20
_GIB = 1 << 30


def rounded_up(figure: float) -> int:
    """Bytes with headroom for this use, in steps that a person would choose."""
    wanted = int(figure * HEADROOM) + 1
    step = 64 * _MIB if wanted < _GIB else 512 * _MIB if wanted < 16 * _GIB else _GIB
    return -(-wanted // step) * step


def quantity(amount: int) -> str:
    """Bytes as Kubernetes writes them: ``5632Mi``, ``4Gi``."""
    return f"{amount // _GIB}Gi" if amount % _GIB == 0 else f"{amount // _MIB}Mi"


def size(amount: float) -> str:
    """Bytes as a sentence says them: ``1.5 GiB``, ``64 MiB``."""
    return f"{amount / _GIB:.1f} GiB" if amount >= _GIB else f"{amount / _MIB:.0f} MiB"


def cores_up(cores: float) -> float:
    """Cores in steps that a person would choose, never fewer: tenths below one, halves below four, then whole."""
    step = 10 if cores <= 1 else 2 if cores <= 4 else 1  # noqa: PLR2004
    return max(1, math.ceil(round(cores * step, 6))) / step


def cpu_quantity(cores: float) -> str:
    """Cores as Kubernetes writes them: ``4``, ``1500m``."""
    thousandths = math.ceil(round(cores * 1000, 6))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def guaranteed(memory: int, cpu: float | None) -> str:
    """A line with requests like limits; without a figure for the CPU, of memory alone."""
    cores = f"cpu: {cpu_quantity(cpu)}, " if cpu is not None else ""
    amounts = f"{{{cores}memory: {quantity(memory)}}}"
    return f"resources: {{requests: {amounts}, limits: {amounts}}}"
