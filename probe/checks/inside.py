"""Where a model runs that has no process of its own: inside tritonserver, beside all others."""

from __future__ import annotations

from probe.checks.expectations import resolved_to_cpu
from probe.checks.observation import Observation
from probe.facts.models import ModelConfig
from probe.facts.placement import Observed, Verdict
from probe.ledgers.models import ModelRecord


def of_server(
    seen: Observation,  # noqa: ARG001  (the question is put as it is of other models)
    record: ModelRecord,
    config: ModelConfig,
) -> Observed:
    """What can be told of one model that shares tritonserver's pid."""
    reported = (
        sum(each.bytes for each in record.statistics.memory if each.kind == "GPU") if record.statistics else 0
    )
    if reported:
        why = f"Triton's statistics report {_mib(reported)} of GPU memory for it."
        return Observed(Verdict.GPU, (), reported, (why,))
    if resolved_to_cpu(config):
        return Observed(Verdict.CPU, (), None, ("Triton resolved all of its instances to KIND_CPU.",))
    why = (
        f"It runs inside tritonserver (backend {config.backend or config.platform}), whose GPU memory all models "
        "share, and Triton reports no memory of its own for it."
    )
    return Observed(Verdict.UNKNOWN, (), None, (why,))


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
