"""What a model takes and gives, from its resolved configuration; read when a canary is made, and not kept."""

from __future__ import annotations

from typing import Any

import msgspec

# DataType and ControlKind of Triton's model_config.proto; the protocol's spelling of STRING is BYTES.
_DATATYPES = {
    1: "BOOL",
    2: "UINT8",
    3: "UINT16",
    4: "UINT32",
    5: "UINT64",
    6: "INT8",
    7: "INT16",
    8: "INT32",
    9: "INT64",
    10: "FP16",
    11: "FP32",
    12: "FP64",
    13: "BYTES",
    14: "BF16",
}
_CORRELATION_ID = 3
_MOST = 100_000


class Port(msgspec.Struct, frozen=True):
    """An input or an output: its dims are without the batch, -1 for any; ``datatype`` empty where garbage."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False
    shape_tensor: bool = False


class WarmupInput(msgspec.Struct, frozen=True):
    """One input of a warmup sample: ``how`` is ``zero``, ``random`` or ``file``, empty where garbage."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    how: str
    file: str = ""


class Signature(msgspec.Struct, frozen=True):
    """What a canary must know of a model version.

    ``max_batch_size`` 0: its tensors have no batch dimension.  ``warmup``: its first sample, None where it
    has none.  ``sequence``: None, or the datatype of its correlation ids, BYTES or an integer.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    max_batch_size: int = 0
    decoupled: bool = False
    warmup: tuple[WarmupInput, ...] | None = None
    sequence: str | None = None

    def shape(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        """The least whole shape of a tensor with these dims: a batch of one, 1 for any."""
        batch = (1,) if self.max_batch_size > 0 else ()
        return (*batch, *(max(1, each) if each < 0 else each for each in dims))

    def fits(self, shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
        """Whether a tensor of this whole shape can be one of these dims."""
        if self.max_batch_size > 0:
            return len(shape) > 0 and 1 <= shape[0] <= self.max_batch_size and _matches(shape[1:], dims)
        return _matches(shape, dims)

    def told(self, dims: tuple[int, ...]) -> str:
        """The shape in a message: ``[-1, 3]``, with the batch before it."""
        batch = (f"1..{self.max_batch_size}",) if self.max_batch_size > 0 else ()
        return f"[{', '.join((*batch, *map(str, dims)))}]"


def signature(message: Any) -> Signature:  # noqa: ANN401  (generated code has no types)
    """From a ``ModelConfigResponse``."""
    told = message.config
    samples = told.model_warmup
    return Signature(
        inputs=tuple(
            Port(each.name, _datatype(each.data_type), tuple(each.dims), each.optional, each.is_shape_tensor)
            for each in told.input[:_MOST]
        ),
        outputs=tuple(
            Port(each.name, _datatype(each.data_type), tuple(each.dims)) for each in told.output[:_MOST]
        ),
        max_batch_size=max(0, told.max_batch_size),
        decoupled=told.model_transaction_policy.decoupled,
        warmup=_sample(samples[0]) if samples else None,
        sequence=_sequence(told) if told.HasField("sequence_batching") else None,
    )


def _sample(sample: Any) -> tuple[WarmupInput, ...]:  # noqa: ANN401
    return tuple(
        WarmupInput(
            name,
            _datatype(each.data_type),
            tuple(each.dims),
            {"zero_data": "zero", "random_data": "random", "input_data_file": "file"}.get(
                each.WhichOneof("input_data_type") or "", ""
            ),
            each.input_data_file,
        )
        for name, each in sorted(sample.inputs.items())
    )


def _sequence(told: Any) -> str:  # noqa: ANN401
    kinds = (
        control
        for each in told.sequence_batching.control_input
        for control in each.control
        if control.kind == _CORRELATION_ID
    )
    return next((_datatype(each.data_type) for each in kinds), "UINT64")


def _datatype(number: int) -> str:
    return _DATATYPES.get(number, "")


def _matches(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(shape) == len(dims) and all(
        wanted in (-1, found) for found, wanted in zip(shape, dims, strict=True)
    )
