"""The placements that ask which GPU: over several, named by policy, and on a part of one."""

from __future__ import annotations

from testbed.placement.cases import Case, Hold, on
from testbed.placement.sights import uuid_of

_GPU = "[{ kind: KIND_GPU, gpus: [0] }]"
_GPUS = "[{ kind: KIND_GPU, gpus: [0, 1] }]"
_MIXED = "[{ kind: KIND_GPU, gpus: [0] }, { kind: KIND_CPU }]"
_HIDDEN = on("unknown", "PlacementUnknown")

WHICH_GPU = (
    Case(
        name="known_there",
        says="keeps the evidence whole: its stub has 100 MiB on GPU 0",
        group=_GPU,
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 100)],
        whole=on("gpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="skewed",
        asked=24,
        says="declared over two GPUs, both stubs on GPU 0",
        group=_GPUS,
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 310), Hold(0, 320, process=1)],
        whole=on("gpu", "PlacementSkewed"),
        unproven=_HIDDEN,
    ),
    Case(
        name="half_absent",
        asked=24,
        says="declared over two GPUs, one stub on GPU 0 and the other on none",
        group=_GPUS,
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 330)],
        whole=on("gpu", "PlacementSkewed"),
        unproven=_HIDDEN,
    ),
    Case(
        name="wrong",
        says="the file names GPU 1, its stub is on GPU 0",
        group=_GPU,
        policy=f"{{gpus: [{uuid_of(1)}]}}",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 340)],
        whole=on("gpu", "WrongGpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="wrong_by_own_word",
        says="its config.pbtxt names GPU 1, its stub is on GPU 0",
        group=_GPU,
        parameters={"triton_probe.gpus": uuid_of(1)},
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 350)],
        whole=on("gpu", "WrongGpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="partly_wrong",
        asked=24,
        says="the file names GPU 0, one of its stubs is on GPU 1",
        group=_GPUS,
        policy=f"{{gpus: [{uuid_of(0)}]}}",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 360), Hold(1, 370, process=1)],
        whole=on("gpu", "WrongGpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="right",
        says="the file names GPU 0, its stub is there",
        group=_GPU,
        policy=f"{{gpus: [{uuid_of(0)}]}}",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 380)],
        whole=on("gpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="mixed_absent",
        asked=24,
        says="a KIND_GPU and a KIND_CPU group, asked, neither on any GPU",
        group=_MIXED,
        declared="gpu",
        expected="gpu",
        whole=on("cpu", "GpuNotUsed"),
        unproven=_HIDDEN,
    ),
)

PARTITIONED = (
    Case(
        name="partitioned",
        says="its stub has 450 MiB on the second MIG device",
        group=_GPU,
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 450, device=1)],
        whole=on("gpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="partitioned_absent",
        says="declared on a GPU, asked, on no MIG device",
        group=_GPU,
        declared="gpu",
        expected="gpu",
        whole=on("cpu", "GpuNotUsed"),
        unproven=_HIDDEN,
    ),
    Case(
        name="partitioned_wrong",
        says="the file names the first MIG device, its stub is on the second",
        group=_GPU,
        policy=f"{{gpus: [{uuid_of(0, 0)}]}}",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 460, device=1)],
        whole=on("gpu", "WrongGpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="partitioned_parent",
        says="the file names the GPU, its stub is on a MIG device of it",
        group=_GPU,
        policy=f"{{gpus: [{uuid_of(0)}]}}",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 470, device=1)],
        whole=on("gpu"),
        unproven=_HIDDEN,
    ),
)
