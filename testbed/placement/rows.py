"""The plans of the table of placements: two GPUs, none, a driver that is too old, and MIG."""

from __future__ import annotations

from testbed.placement.cases import Case, Plan, Sight, on
from testbed.placement.two_gpus import BESIDE_TWO_GPUS
from testbed.placement.which_gpu import PARTITIONED, WHICH_GPU

_CPU = "[{ kind: KIND_CPU }]"
_MODEL = "[{ kind: KIND_MODEL }]"

_HIDDEN = on("unknown", "PlacementUnknown")
_INSIDE = on("unknown", "PlacementUnknown")
"""In tritonserver's own process: its bare context on every GPU is no proof of any one model."""

WITHOUT_GPU = (
    Case(
        name="implicit",
        says="nothing written",
        declared="cpu",
        expected="cpu",
        whole=on("cpu", "PlacementImplicit"),
        unproven=on("cpu", "PlacementImplicit"),
    ),
    Case(
        name="onnx_implicit",
        says="ONNX Runtime, nothing written: two instances on the CPU",
        backend="onnxruntime",
        declared="cpu",
        expected="cpu",
        whole=on("cpu", "PlacementImplicit"),
        unproven=on("cpu", "PlacementImplicit"),
    ),
    Case(
        name="trtllm",
        says="TensorRT-LLM, KIND_CPU",
        backend="tensorrtllm",
        group=_CPU,
        declared="cpu",
        expected="gpu",
        whole=_INSIDE,
        unproven=_INSIDE,
    ),
    Case(
        name="needs_gpu",
        says="written KIND_GPU: the load fails instead of falling back",
        group="[{ kind: KIND_GPU }]",
        declared=None,
        expected="any",
        whole=on("unknown", "ModelLoadFailed"),
        unproven=on("unknown", "ModelLoadFailed"),
    ),
)

MEANT_FOR_GPU = (
    Case(
        name="implicit",
        says="nothing written, fell back",
        declared="cpu",
        expected="gpu",
        whole=on("cpu", "CpuFallback", "PlacementImplicit"),
        unproven=on("cpu", "CpuFallback", "PlacementImplicit"),
    ),
    Case(
        name="onnx_implicit",
        says="ONNX Runtime, nothing written: its two CPU instances are the fallback's fingerprint",
        backend="onnxruntime",
        declared="cpu",
        expected="gpu",
        whole=on("cpu", "CpuFallback", "PlacementImplicit"),
        unproven=on("cpu", "CpuFallback", "PlacementImplicit"),
    ),
    Case(
        name="torch_implicit",
        says="PyTorch, nothing written",
        backend="pytorch",
        declared="cpu",
        expected="gpu",
        whole=on("cpu", "CpuFallback", "PlacementImplicit"),
        unproven=on("cpu", "CpuFallback", "PlacementImplicit"),
    ),
    Case(
        name="auto",
        says="written without a kind, which no GPU makes KIND_CPU",
        group="[{ count: 2 }]",
        declared="cpu",
        expected="gpu",
        whole=on("cpu", "CpuFallback"),
        unproven=on("cpu", "CpuFallback"),
    ),
    Case(
        name="written_cpu",
        says="written KIND_CPU, and placement.default wants a GPU",
        group=_CPU,
        declared="cpu",
        expected="gpu",
        whole=on("cpu", "CpuFallback"),
        unproven=on("cpu", "CpuFallback"),
    ),
    Case(
        name="engine_model",
        says="vLLM with KIND_MODEL, which no missing GPU changes",
        backend="vllm",
        group=_MODEL,
        declared="model",
        expected="gpu",
        whole=_HIDDEN,
        unproven=_HIDDEN,
    ),
)

PLANS = (
    Plan(name="two GPUs", devices=2, cases=BESIDE_TWO_GPUS, sights=tuple(Sight)),
    Plan(name="no GPU", devices=0, cases=WITHOUT_GPU, sights=(Sight.ABSENT,)),
    Plan(
        name="no GPU, placement.default: gpu",
        devices=0,
        default="gpu",
        cases=MEANT_FOR_GPU,
        sights=(Sight.ABSENT,),
    ),
    Plan(
        name="a driver too old for CUDA, placement.default: gpu",
        devices=1,
        cuda_error=35,
        default="gpu",
        cases=MEANT_FOR_GPU,
        sights=(Sight.EMPTY,),
    ),
    Plan(
        name="two GPUs, and which", devices=2, cases=WHICH_GPU, sights=(Sight.WHOLE, Sight.PIDS, Sight.EMPTY)
    ),
    Plan(name="one GPU cut in two", devices=1, migs={0: 2}, cases=PARTITIONED, sights=(Sight.WHOLE,)),
)
