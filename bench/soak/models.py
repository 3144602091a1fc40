"""The models of a soak: one of each kind that Triton's python backend has, and an ensemble over two."""

from __future__ import annotations

import re

from bench.soak.plan import Cast
from probe.sandbox.repositories import Repository

TWICE, ONCE, FAMILY, VERSIONED, PIPELINE, DECOUPLED = (
    "twice",
    "once",
    "family",
    "versioned",
    "pipeline",
    "decoupled",
)
CAST = Cast(plain=(TWICE, ONCE), versioned=VERSIONED, other=(FAMILY, PIPELINE, DECOUPLED))
CANARIES = (TWICE, ONCE)
SETTINGS = "canary:\n" + "".join(
    f"  {name}: {{inputs: {{INPUT: [0.0]}}, expected: {{OUTPUT: [0.0]}}, deadline: 5s, idle: 3s}}\n"
    for name in CANARIES
)
"""All else is the default."""

_DECOUPLED_SOURCE = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            sender = request.get_response_sender()
            for _ in range(3):
                output = pb_utils.Tensor("OUTPUT", values)
                sender.send(pb_utils.InferenceResponse(output_tensors=[output]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
"""
_COUNT = re.compile(r"count: \d+")


class Models:
    """Writes the models; every call makes files that differ from those before, so that a load loads."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._generation = 0
        self._instances = {TWICE: 2}
        self._versions: tuple[int, ...] = (1, 2)

    def write_all(self) -> None:
        """Write every model."""
        for name in CAST.names:
            self.write(name)

    def write(
        self, name: str, *, instances: int | None = None, versions: tuple[int, ...] | None = None
    ) -> None:
        """Write a model anew, source and configuration; what is not given stays as it was."""
        self._generation += 1
        if instances is not None:
            self._instances[name] = instances
        if versions is not None:
            self._versions = versions
        count, parameters = self._instances.get(name, 1), {"generation": str(self._generation)}
        if name == PIPELINE:
            self._repository.add_ensemble(name, steps=(TWICE, ONCE))
            with (self._repository.path / name / "config.pbtxt").open("a") as file:
                file.write(
                    f'parameters {{ key: "generation" value {{ string_value: "{self._generation}" }} }}\n'
                )
        elif name == DECOUPLED:
            self._repository.add_python(
                name, kind="KIND_CPU", parameters=parameters, source=_DECOUPLED_SOURCE
            )
            with (self._repository.path / name / "config.pbtxt").open("a") as file:
                file.write("model_transaction_policy { decoupled: true }\n")
        elif name == VERSIONED:
            self._repository.add_echo(name, kind="KIND_CPU", versions=self._versions, parameters=parameters)
        elif name == FAMILY:
            self._repository.add_echo(name, kind="KIND_CPU", parameters={**parameters, "children": "2"})
        else:
            self._repository.add_echo(name, kind="KIND_CPU", instances=count, parameters=parameters)

    def resize(self, name: str, instances: int) -> None:
        """Change the number of instances and nothing else."""
        self._instances[name] = instances
        file = self._repository.path / name / "config.pbtxt"
        file.write_text(_COUNT.sub(f"count: {instances}", file.read_text()))
