"""Model repositories for a sandboxed Triton: python models that behave as told, and ensembles over them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, TypedDict, Unpack

from probe.sandbox.models import SAMPLE_SOURCE


class PythonOptions(TypedDict, total=False):
    """What every python model can be given, see :meth:`Repository.add_model`."""

    kind: str | None
    instances: int
    gpus: Sequence[int]
    group: str | None
    max_batch_size: int
    versions: Sequence[int]
    parameters: Mapping[str, str] | None
    more: str


class Repository:
    """A folder of models in the making; each ``add_`` returns the repository, so that they chain.

    Adding a model that is there already replaces it (a loaded one changes when Triton reloads it).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def add_python(self, name: str, *, source: str = SAMPLE_SOURCE, **options: Unpack[PythonOptions]) -> Self:
        """Add a model of the python backend, whose ``model.py`` is ``source``."""
        return self.add_model(name, backend="python", files={"model.py": source}, **options)

    def add_model(  # one keyword for each thing that a configuration can say
        self,
        name: str,
        *,
        backend: str,
        files: Mapping[str, str] | None = None,
        kind: str | None = None,
        instances: int = 1,
        gpus: Sequence[int] = (),
        group: str | None = None,
        max_batch_size: int = 0,
        versions: Sequence[int] = (1,),
        parameters: Mapping[str, str] | None = None,
        more: str = "",
    ) -> Self:
        """Add a model of any backend that answers ``INPUT`` with ``OUTPUT``; ``files`` lie in each version's folder.

        ``kind`` is ``KIND_CPU``, ``KIND_GPU``, ``KIND_MODEL`` or ``KIND_AUTO``; ``None`` with one instance
        and no ``gpus`` writes no instance group at all, which leaves the placement to Triton.  ``group`` is
        the text of the instance group instead, braces and brackets included.  All ``versions`` are served.
        ``more`` is what else stands in its ``config.pbtxt``.
        """
        if group is None and (kind is not None or instances != 1 or gpus):
            group = _group(kind, instances, gpus)
        lines = [
            f"name: {_text(name)}",
            f"backend: {_text(backend)}",
            f"max_batch_size: {max_batch_size}",
            'input [{ name: "INPUT", data_type: TYPE_FP32, dims: [-1] }]',
            'output [{ name: "OUTPUT", data_type: TYPE_FP32, dims: [-1] }]',
            "version_policy { all {} }",
        ]
        if group is not None:
            lines.append(f"instance_group {group}")
        lines += [
            f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
            for key, value in (parameters or {}).items()
        ]
        folder = self._fresh(name, [*lines, more])
        for version in versions:
            (folder / str(version)).mkdir()
            for file, text in (files or {}).items():
                (folder / str(version) / file).write_text(text)
        return self

    def add_echo(self, name: str = "echo", **options: Unpack[PythonOptions]) -> Self:
        """Add a model that answers what it was asked."""
        return self._add_behaviour(name, {}, options)

    def add_hang(
        self, name: str = "hang", *, seconds: float | None = None, **options: Unpack[PythonOptions]
    ) -> Self:
        """Add one whose ``execute`` sleeps ``seconds`` (for ever) when an input is above 0, else answers."""
        behaviour = {"execute": "hang", "execute_when": "positive"}
        if seconds is not None:
            behaviour["seconds"] = str(seconds)
        return self._add_behaviour(name, behaviour, options)

    def add_spin(self, name: str = "spin", **options: Unpack[PythonOptions]) -> Self:
        """Add one whose ``execute`` computes for ever when an input is above 0, else answers."""
        return self._add_behaviour(name, {"execute": "spin", "execute_when": "positive"}, options)

    def add_raise(
        self, name: str = "raise", *, always: bool = True, **options: Unpack[PythonOptions]
    ) -> Self:
        """Add one whose ``execute`` raises: at every request, or when an input is above 0."""
        when = "always" if always else "positive"
        return self._add_behaviour(name, {"execute": "raise", "execute_when": when}, options)

    def add_crash(self, name: str = "crash", *, how: str = "kill", **options: Unpack[PythonOptions]) -> Self:
        """Add one that ends its process when an input is above 0: by ``kill`` (SIGKILL), ``segv`` or ``exit`` (3)."""
        return self._add_behaviour(name, {"execute": how, "execute_when": "positive"}, options)

    def add_failing_initialize(
        self, name: str, *, how: str = "raise", **options: Unpack[PythonOptions]
    ) -> Self:
        """Add one whose ``initialize`` fails: ``raise``, ``exit`` (3), ``kill`` (SIGKILL) or ``hang``."""
        return self._add_behaviour(name, {"initialize": how}, options)

    def add_slow_initialize(self, name: str, seconds: float, **options: Unpack[PythonOptions]) -> Self:
        """Add one whose ``initialize`` takes this long."""
        return self._add_behaviour(name, {"initialize_seconds": str(seconds)}, options)

    def add_waiting_initialize(self, name: str, until: Path, **options: Unpack[PythonOptions]) -> Self:
        """Add one whose ``initialize`` ends once there is a file ``until``."""
        return self._add_behaviour(name, {"initialize_until": str(until.absolute())}, options)

    def add_ensemble(self, name: str, *, steps: Sequence[str]) -> Self:
        """Add an ensemble that passes its input through the named models, one after the other."""
        lines = [
            f"name: {_text(name)}",
            'platform: "ensemble"',
            "max_batch_size: 0",
            'input [{ name: "INPUT", data_type: TYPE_FP32, dims: [-1] }]',
            'output [{ name: "OUTPUT", data_type: TYPE_FP32, dims: [-1] }]',
            "ensemble_scheduling {",
        ]
        for index, step in enumerate(steps):
            entering = "INPUT" if index == 0 else f"between_{index}"
            leaving = "OUTPUT" if index == len(steps) - 1 else f"between_{index + 1}"
            lines.append(
                f"  step {{ model_name: {_text(step)} model_version: -1"
                f' input_map {{ key: "INPUT" value: {_text(entering)} }}'
                f' output_map {{ key: "OUTPUT" value: {_text(leaving)} }} }}'
            )
        folder = self._fresh(name, [*lines, "}"])
        (folder / "1").mkdir()
        return self

    def add_ensembles(self, count: int, *, step: str = "echo", prefix: str = "ensemble_") -> Self:
        """Add many cheap models: ensembles of one step, which have no process of their own."""
        for index in range(count):
            self.add_ensemble(f"{prefix}{index:04d}", steps=(step,))
        return self

    def remove(self, name: str) -> Self:
        """Take a model's folder away; Triton notices at its next look."""
        shutil.rmtree(self.path / name)
        return self

    def _add_behaviour(self, name: str, behaviour: dict[str, str], options: PythonOptions) -> Self:
        options["parameters"] = {**behaviour, **(options.get("parameters") or {})}
        return self.add_python(name, **options)

    def _fresh(self, name: str, lines: Sequence[str]) -> Path:
        folder = self.path / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")
        return folder


def _group(kind: str | None, instances: int, gpus: Sequence[int]) -> str:
    told = [f"count: {instances}"]
    if kind is not None:
        told.append(f"kind: {kind}")
    if gpus:
        told.append(f"gpus: [{', '.join(str(each) for each in gpus)}]")
    return "[{ " + ", ".join(told) + " }]"


def _text(value: str) -> str:
    return json.dumps(value)  # protobuf's text format takes the same escapes
