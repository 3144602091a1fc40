"""From Triton's messages to facts; pure."""

from __future__ import annotations

from typing import Any

from probe.facts.models import (
    DeviceMemory,
    IndexEntry,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    ModelState,
    ModelStatistics,
    ModelVersion,
)
from probe.sources.triton.failures import clipped

# ModelInstanceGroup.Kind and MemoryUsage of Triton's model_config.proto and grpc_service.proto.
_KINDS = {0: InstanceKind.AUTO, 1: InstanceKind.GPU, 2: InstanceKind.CPU, 3: InstanceKind.MODEL}
_SEQUENCE_IDLE_US = 1_000_000
"""What Triton takes where ``max_sequence_idle_microseconds`` is not written (``model_config.proto``)."""
_STATES = {
    "READY": ModelState.READY,
    "LOADING": ModelState.LOADING,
    "UNLOADING": ModelState.UNLOADING,
    "UNAVAILABLE": ModelState.UNAVAILABLE,
}


def statistics(message: Any) -> tuple[ModelStatistics, ...]:  # noqa: ANN401  (generated code has no types)
    """Every row of a ``ModelStatisticsResponse``."""
    return tuple(_statistics(row) for row in message.model_stats)


def _statistics(row: Any) -> ModelStatistics:  # noqa: ANN401
    stats = row.inference_stats
    return ModelStatistics(
        key=ModelVersion(row.name, row.version),
        success=stats.success.count,
        failure=stats.fail.count,
        inferences=row.inference_count,
        executions=row.execution_count,
        last_inference_ms=row.last_inference,
        compute_infer_count=stats.compute_infer.count,
        compute_infer_ns=stats.compute_infer.ns,
        success_ns=stats.success.ns,
        memory=tuple(DeviceMemory(use.type, use.id, use.byte_size) for use in row.memory_usage),
        batch_infer_ns=sum(each.compute_infer.ns for each in row.batch_stats),
    )


def config(message: Any, version: str) -> ModelConfig:  # noqa: ANN401
    """A ``ModelConfigResponse`` for the version that was asked."""
    told = message.config
    return ModelConfig(
        key=ModelVersion(told.name, version),
        backend=told.backend,
        platform=told.platform,
        groups=tuple(
            InstanceGroup(
                name=group.name,
                kind=_KINDS.get(group.kind, InstanceKind.AUTO),
                count=group.count,
                gpus=tuple(group.gpus),
                passive=group.passive,
            )
            for group in told.instance_group
        ),
        steps=tuple(
            ModelVersion(step.model_name, "" if step.model_version < 0 else str(step.model_version))
            for step in told.ensemble_scheduling.step
        ),
        parameters=tuple(sorted((key, value.string_value) for key, value in told.parameters.items())),
        decoupled=told.model_transaction_policy.decoupled,
        default_file=told.default_model_filename,
        held_back_seconds=_held_back_us(told) / 1e6,
        sequences=told.HasField("sequence_batching"),
    )


def _held_back_us(told: Any) -> int:  # noqa: ANN401
    # Seen in 24.10: what waits for either is counted as pending beside a model that does nothing.
    held: int = told.dynamic_batching.max_queue_delay_microseconds
    if told.HasField("sequence_batching"):
        sequences = told.sequence_batching
        idle = sequences.max_sequence_idle_microseconds or _SEQUENCE_IDLE_US
        held = max(held, idle, sequences.oldest.max_queue_delay_microseconds)
    return held


def index(message: Any) -> tuple[IndexEntry, ...]:  # noqa: ANN401
    """Every row of a ``RepositoryIndexResponse``; an empty state is a model that was never loaded."""
    return tuple(
        IndexEntry(
            ModelVersion(row.name, row.version),
            _STATES.get(row.state, ModelState.UNKNOWN),
            clipped(row.reason),
        )
        for row in message.models
    )
