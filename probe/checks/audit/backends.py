"""Which backend is a model for, and what does that backend make of kinds, GPUs and accelerators?"""

from __future__ import annotations

from probe.facts.backends import OF_PLATFORM
from probe.facts.models import InstanceKind
from probe.facts.repository import RepositoryModel

STUBS = frozenset(("python", "vllm"))
"""Backends that start a process for each instance, each with its region in /dev/shm."""

CHOOSES_ITSELF = frozenset(("tensorrtllm", "vllm"))
"""Backends that take GPUs whatever the kind says (tensorrtllm_backend, docs/llmapi.md; vllm_backend, model.py)."""

WITH_ACCELERATORS = frozenset(("onnxruntime", "tensorflow"))
"""Backends whose source reads ``optimization.execution_accelerators``."""

WITHOUT_ACCELERATORS = frozenset(
    ("python", "vllm", "pytorch", "openvino", "tensorrt", "tensorrtllm", "dali", "fil")
)
"""Backends whose source does not; of others nothing is known."""

ORT_ACCELERATORS = {
    InstanceKind.GPU: ("tensorrt", "cuda"),
    InstanceKind.CPU: ("openvino",),
}
"""What ONNX Runtime's backend takes (``onnxruntime.cc``: anything else is "unknown Execution Accelerator")."""

_OF_FILE = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.xml": "openvino",
    "model.pt": "pytorch",
    "model.pt2": "pytorch",
    "model.py": "python",
}
"""In the order in which Triton asks (core, ``AutoCompleteBackendFields``)."""


def backend_of(model: RepositoryModel) -> str:
    """The backend as Triton completes it; empty where nothing tells."""
    said = model.said
    if said.backend or said.platform:
        return said.backend or OF_PLATFORM.get(said.platform, "")
    if said.default_file:
        return _OF_FILE.get(said.default_file, "")
    # Triton looks into the first folder by name, whatever its number.
    first = min(model.versions, key=lambda each: str(each.version), default=None)
    files = first.files if first is not None else ()
    found = next((backend for file, backend in _OF_FILE.items() if file in files), "")
    return found or model.name.partition(".")[2]
