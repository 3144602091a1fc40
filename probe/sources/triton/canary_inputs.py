"""With which inputs a canary is sent: from the configuration file, the model's own warmup, or made up; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from probe.facts.canaries import CanaryOrder, CanaryOrigin
from probe.kits.words import nearest, quoted
from probe.sources.triton import tensors
from probe.sources.triton.signatures import Port, Signature, WarmupInput
from probe.sources.triton.tensors import Tensor

LARGEST = 16 * 1024 * 1024
"""Bytes of all inputs together: a canary is small, and the probe's memory is not the model's."""

Expected = dict[str, tuple[tuple[int, ...], list[Any]]]
"""Shape and elements of each expected output, BYTES as bytes."""

ReadFile = Callable[[str, int], bytes]
"""A file of the model's warmup folder by its name, of so many bytes; raises OSError, ValueError."""


class UnsendableError(ValueError):
    """The canary can not be made; the text names the key and says what was found and expected."""


class Making(msgspec.Struct, frozen=True):
    """How the inputs of one canary are made."""

    order: CanaryOrder
    signature: Signature
    read: ReadFile

    @property
    def reads_files(self) -> bool:
        """Whether making the inputs may read a file, which may take long."""
        warmup = self.signature.warmup or ()
        return CanaryOrigin.WARMUP in self.order.origins and any(each.how == "file" for each in warmup)

    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors to send.  Raises UnsendableError."""
        if self.order.misspelt:
            raise UnsendableError(
                f"triton_probe.canary in its config.pbtxt: found {quoted(self.order.misspelt)}, expected "
                "warmup, generate or off"
            )
        self._all_known()
        for origin in self.order.origins:
            if origin is CanaryOrigin.INPUTS:
                return self._given()
            if origin is CanaryOrigin.GENERATED:
                return self._generated()
            if self.signature.warmup is not None:
                return self._warmed_up(self.signature.warmup)
        raise UnsendableError(
            f"canary.{self.order.key.name}: the model has no model_warmup, expected {self._key('inputs')} (or "
            "generate: true) to say what to send"
        )

    def expected(self) -> Expected:
        """What is expected of each output.  Raises UnsendableError."""
        found: Expected = {}
        outputs = {each.name: each for each in self.signature.outputs}
        for name, nested in self.order.expected.items():
            key = self._key("expected", name)
            if name not in outputs:
                raise UnsendableError(f"{key}: the model has no such output{_hint(name, outputs)}")
            port = outputs[name]
            shape, raw = self._tensor(key, nested, port, fits=not self.signature.decoupled)
            count = tensors.elements(shape)
            found[name] = (shape, tensors.decoded(port.datatype, raw, count))
        return found

    def _all_known(self) -> None:
        for port in (*self.signature.inputs, *self.signature.outputs):
            if not tensors.known(port.datatype):
                raise UnsendableError(
                    f"the model's own configuration gives {port.name} a datatype of no meaning"
                )

    def _given(self) -> tuple[Tensor, ...]:
        ports = {each.name: each for each in self.signature.inputs}
        for name in self.order.inputs:
            if name not in ports:
                key = self._key("inputs", name)
                raise UnsendableError(f"{key}: the model has no such input{_hint(name, ports)}")
        made = []
        for name, port in ports.items():
            key = self._key("inputs", name)
            if name in self.order.inputs:
                shape, raw = self._tensor(key, self.order.inputs[name], port)
                made.append(Tensor(name, port.datatype, shape, raw))
            elif not port.optional:
                wanted = f"{port.datatype} {self.signature.told(port.dims)}"
                raise UnsendableError(f"{key}: not given, expected a tensor of {wanted}")
        return tuple(made)

    def _tensor(
        self,
        key: str,
        nested: Any,  # noqa: ANN401 - whatever YAML can say
        port: Port,
        *,
        fits: bool = True,
    ) -> tuple[tuple[int, ...], bytes]:
        try:
            shape, values = tensors.unfolded(nested)
            raw = tensors.encoded(port.datatype, values)
        except ValueError as error:
            raise UnsendableError(f"{key}: {error}") from None
        if not fits:
            return shape, raw
        # The batch of one may be left out, and the brackets of a single value.
        candidates = [shape, (1, *shape), (1, 1)] if self.signature.max_batch_size > 0 else [shape, (1,)]
        for each in candidates:
            if tensors.elements(each) == len(values) and self.signature.fits(each, port.dims):
                return each, raw
        raise UnsendableError(
            f"{key}: found the shape {list(shape)}, expected {self.signature.told(port.dims)} of {port.datatype}"
        )

    def _generated(self) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for port in self.signature.inputs:
            if port.optional:
                continue
            if port.shape_tensor:
                raise UnsendableError(
                    f"the input {port.name} is a shape tensor, for which no value can be made up; expected "
                    f"{self._key('inputs')} to say one"
                )
            shape = self.signature.shape(port.dims)
            self._bounded(port.datatype, shape, made)
            raw = tensors.zeros(port.datatype, tensors.elements(shape))
            made.append(Tensor(port.name, port.datatype, shape, raw))
        return tuple(made)

    def _warmed_up(self, sample: tuple[WarmupInput, ...]) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for each in sample:
            if not tensors.known(each.datatype):
                raise UnsendableError(f"its model_warmup gives {each.name} a datatype of no meaning")
            # Triton sends a sample of a batch as that many requests of one each, with the same data.
            shape = self.signature.shape(each.dims)
            self._bounded(each.datatype, shape, made)
            count = tensors.elements(shape)
            if each.how == "zero":
                raw = tensors.zeros(each.datatype, count)
            elif each.how == "random":
                raw = tensors.pattern(each.datatype, count)
            elif each.how == "file":
                raw = self._from_file(each, count)
            else:
                raise UnsendableError(f"its model_warmup gives {each.name} no data")
            made.append(Tensor(each.name, each.datatype, shape, raw))
        return tuple(made)

    def _from_file(self, told: WarmupInput, count: int) -> bytes:
        size = tensors.size_of(told.datatype)
        try:
            raw = self.read(told.file, LARGEST if size is None else count * size)
            tensors.check(told.datatype, raw, count)
        except (OSError, ValueError) as error:
            what = f"its model_warmup takes {told.name} from the file {quoted(told.file)}"
            raise UnsendableError(
                f"{what}, which can not be used here: {error}; expected {self._key('inputs')} instead"
            ) from None
        return raw

    def _bounded(self, datatype: str, shape: tuple[int, ...], before: list[Tensor]) -> None:
        size = tensors.elements(shape) * (tensors.size_of(datatype) or 4)
        whole = size + sum(len(each.raw) for each in before)
        if whole > LARGEST:
            raise UnsendableError(
                f"its inputs would be {whole} bytes or more, expected at most {LARGEST}; "
                f"{self._key('inputs')} can say smaller ones"
            )

    def _key(self, knob: str, name: str = "") -> str:
        return f"canary.{self.order.key.name}.{knob}" + (f".{name}" if name else "")


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = nearest(name, known)
    return f", did you mean {close}?" if close else f", expected one of {', '.join(sorted(known)) or 'none'}"
