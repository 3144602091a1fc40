"""Lays out a backend folder for a real tritonserver: the python backend, doubles in C, a python-based vllm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from probe.sandbox.repositories import Repository
from probe.sandbox.wheel import TritonInstallation
from testbed.compile import build_shared_library

_SOURCE = Path(__file__).with_name("backend_double.c")
IN_PROCESS = ("onnxruntime", "tensorrt", "pytorch", "openvino", "tensorrtllm")
"""What the doubles in C are called where nothing else is asked for."""
ENGINE = "VLLM::EngineCore"
"""The process below a vLLM stub that has the GPU; the kernel keeps 15 characters of the name."""


def with_backends(
    installation: TritonInstallation, folder: Path, names: Sequence[str] = IN_PROCESS
) -> TritonInstallation:
    """The same server with a backend folder of the test's own: these doubles, ``vllm``, and the real python.

    Raises ``testbed.compile.CompileError``.
    """
    backends = folder / "backends"
    # Copied, not linked: Triton's own look at the folder decides what a backend is, and links are no folders to it.
    shutil.copytree(installation.backends / "python", backends / "python")
    library = build_shared_library(_SOURCE, "libtriton_double.so")
    for name in names:
        (backends / name).mkdir()
        shutil.copy2(library, backends / name / f"libtriton_{name}.so")
    (backends / "vllm").mkdir()
    (backends / "vllm" / "model.py").write_text(_VLLM)
    return msgspec.structs.replace(installation, backends=backends)


def add_vllm(
    repository: Repository,
    name: str,
    *,
    group: str | None = "[{ kind: KIND_MODEL }]",
    engines: int = 1,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Add a model of the python-based ``vllm``: its stub starts so many engine processes and keeps no GPU itself."""
    told = {"engines": str(engines), **(parameters or {})}
    repository.add_model(name, backend="vllm", group=group, parameters=told)


# As vllm_backend's model.py: the interface of the python backend, in the backend's folder instead of the model's.
_VLLM = f'''\
import json
import subprocess
import sys

import triton_python_backend_utils as pb_utils

CHILD = """
import time
open("/proc/self/comm", "w").write("{ENGINE[:15]}")
time.sleep(1e9)
"""


class TritonPythonModel:
    def initialize(self, args):
        written = json.loads(args["model_config"]).get("parameters", {{}})
        python = sys.executable or "python3"
        self.engines = [
            subprocess.Popen(["{ENGINE}", "-c", CHILD], executable=python)
            for _ in range(int(written["engines"]["string_value"]))
        ]

    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "INPUT").as_numpy() for each in requests]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", each)]) for each in tensors
        ]

    def finalize(self):
        for each in self.engines:
            each.kill()
'''
