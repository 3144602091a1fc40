"""Is the answer of a canary whole, of the declared types and shapes, and the expected one?"""

from __future__ import annotations

from typing import Any

from probe.sources.triton import tensors
from probe.sources.triton.canary_inputs import Expected
from probe.sources.triton.signatures import Port, Signature

_MOST_VALUES = 1_000_000
"""Elements kept of a stream for comparison: what is longer is not what anybody wrote down."""


class Answer:
    """The answer of one canary, response by response; each method raises ValueError for what is wrong."""

    def __init__(self, signature: Signature, expected: Expected, tolerance: float) -> None:
        """``expected`` as :meth:`Making.expected` gives it."""
        self._signature = signature
        self._outputs = {each.name: each for each in signature.outputs}
        self._expected = expected
        self._tolerance = tolerance
        self._seen: set[str] = set()
        self._values: dict[str, list[Any]] = {}
        self.responses = 0

    def take(self, response: Any) -> None:  # noqa: ANN401  (a ModelInferResponse)
        """Check one response; an empty one, as ends a stream, is fine."""
        outputs, raws = response.outputs, response.raw_output_contents
        if len(outputs) != len(raws):
            raise ValueError(f"the answer has {len(outputs)} outputs and the contents of {len(raws)}")
        self.responses += bool(outputs)
        for told, raw in zip(outputs, raws, strict=True):
            port = self._outputs.get(told.name)
            if port is None:
                # An ensemble, or a backend of its own mind, may give more than it declares.
                continue
            self._seen.add(port.name)
            self._take(port, told.datatype, tuple(told.shape), raw)

    def finish(self) -> None:
        """Check that nothing is missing."""
        if self._signature.decoupled:
            # A decoupled model gives in each response what it has; vLLM's declares outputs that it gives only
            # where an input asks for them.
            if not self.responses:
                raise ValueError("the stream ended without any response")
            wanted = frozenset(self._expected)
        else:
            wanted = frozenset(self._outputs)
        missing = sorted(wanted - self._seen)
        if missing:
            raise ValueError(f"the answer lacks the output {', '.join(missing)}")
        for name, (_, values) in self._expected.items():
            self._compare(self._outputs[name], self._values[name], values)

    def _take(self, port: Port, datatype: str, shape: tuple[int, ...], raw: bytes) -> None:
        if datatype != port.datatype:
            raise ValueError(
                f"the output {port.name} is {datatype or 'of no type'}, declared as {port.datatype}"
            )
        if any(each < 0 for each in shape) or not self._signature.fits(shape, port.dims):
            declared = self._signature.told(port.dims)
            raise ValueError(f"the output {port.name} has the shape {list(shape)}, declared as {declared}")
        count = tensors.elements(shape)
        expected = self._expected.get(port.name)
        try:
            if expected is None:
                tensors.check(datatype, raw, count)
                return
            values = tensors.decoded(datatype, raw, count) if count <= _MOST_VALUES else []
        except ValueError as error:
            raise ValueError(f"the output {port.name} {error}") from None
        if not self._signature.decoupled and shape != expected[0]:
            wanted = list(expected[0])
            raise ValueError(f"the output {port.name} has the shape {list(shape)}, expected {wanted}")
        kept = self._values.setdefault(port.name, [])
        if count + len(kept) > _MOST_VALUES:
            raise ValueError(f"the output {port.name} has more values than any that is expected")
        kept.extend(values)

    def _compare(self, port: Port, found: list[Any], expected: list[Any]) -> None:
        if len(found) != len(expected):
            raise ValueError(f"the output {port.name} has {len(found)} values, expected {len(expected)}")
        for index, (each, wanted) in enumerate(zip(found, expected, strict=True)):
            if not tensors.close(port.datatype, each, wanted, self._tolerance):
                where = f"value {index + 1} of {len(expected)}"
                raise ValueError(
                    f"the output {port.name} is {tensors.shown(each)} in {where}, expected {tensors.shown(wanted)}"
                )
