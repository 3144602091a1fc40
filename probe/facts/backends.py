"""What is known of Triton's backends: where each can run, and how their platforms are named."""

from __future__ import annotations

CPU_ONLY = frozenset(("openvino",))
"""Backends that refuse every other kind; openvino's TARGET_DEVICE=GPU is another vendor's (``openvino.cc``)."""

GPU_ONLY = frozenset(("tensorrt", "tensorrtllm", "vllm"))
"""Backends that compute on GPUs (vLLM for CPUs is another build)."""

TWO_ON_CPU = frozenset(("onnxruntime", "tensorflow"))
"""Backends of which a KIND_CPU group without a count gets two instances (core, ``SetDefaultInstanceCount``)."""

OF_PLATFORM = {
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "libtorch": "pytorch",
    "torch_aoti": "pytorch",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
}
"""Every platform of core (``constants.h``) but ensemble; ``libtorch`` and ``torch_aoti`` are later than 24.10."""
