"""Sixteen models over eight GPUs, two of them cut into MIG devices; no two figures are the same."""

from __future__ import annotations

from testbed.placement.cases import Case, Hold, Outcome, Plan, Sight, on

_HIDDEN = on("unknown", "PlacementUnknown")
_GPU = on("gpu")


def _on(gpus: str, kind: str = "KIND_GPU") -> str:
    return f"[{{ kind: {kind}, gpus: [{gpus}] }}]"


def _alone(number: int, *holds: Hold, whole: Outcome = _GPU) -> Case:
    return Case(
        name=f"alone_{number}",
        says=f"one instance on GPU {number}",
        group=_on(str(number)),
        declared="gpu",
        expected="gpu",
        holds=holds,
        whole=whole,
        unproven=_HIDDEN,
    )


CASES = (
    *(_alone(number, Hold(number, 1000 + 7 * number)) for number in range(5)),
    _alone(6, Hold(6, 1601, device=2)),
    Case(
        name="pair",
        says="over GPUs 0 and 1",
        group=_on("0, 1"),
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 2003), Hold(1, 2011, process=1)],
        whole=_GPU,
        unproven=_HIDDEN,
    ),
    Case(
        name="three",
        says="over GPU 5 and two MIG devices",
        group=_on("5, 6, 7"),
        declared="gpu",
        expected="gpu",
        holds=[Hold(5, 3001), Hold(6, 3011, process=1, device=1), Hold(7, 3019, process=2, device=0)],
        whole=_GPU,
        unproven=_HIDDEN,
    ),
    Case(
        name="implicit",
        says="nothing written: an instance on each GPU",
        declared="gpu",
        expected="gpu",
        holds=[
            *(Hold(number, 400 + 3 * number, process=number) for number in range(6)),
            Hold(6, 461, process=6, device=0),
            Hold(7, 467, process=7, device=1),
        ],
        whole=on("gpu", "PlacementImplicit"),
        unproven=on("unknown", "PlacementUnknown", "PlacementImplicit"),
    ),
    Case(
        name="engines",
        says="vLLM whose two engines are on GPUs 2 and 3",
        backend="vllm",
        group="[{ kind: KIND_MODEL }]",
        parameters={"engines": "2"},
        declared="model",
        expected="gpu",
        holds=[Hold(2, 5003), Hold(3, 5009, process=1)],
        whole=_GPU,
        unproven=_HIDDEN,
    ),
    Case(
        name="engine",
        says="vLLM whose engine is on GPU 4, and its stub with nothing",
        backend="vllm",
        group="[{ kind: KIND_MODEL }]",
        declared="model",
        expected="gpu",
        holds=[Hold(4, 6007)],
        whole=_GPU,
        unproven=_HIDDEN,
    ),
    Case(
        name="both_kinds",
        says="a group on GPU 4 and one on the CPU",
        group="[{ kind: KIND_GPU, gpus: [4] }, { kind: KIND_CPU }]",
        declared="gpu",
        expected="gpu",
        holds=[Hold(4, 701)],
        whole=on("mixed"),
        unproven=_HIDDEN,
        one_list=_GPU,
    ),
    Case(
        name="cpu",
        says="two instances on the CPU",
        group="[{ kind: KIND_CPU, count: 2 }]",
        declared="cpu",
        expected="cpu",
        whole=on("cpu"),
        unproven=_HIDDEN,
    ),
    Case(
        name="idle",
        says="declared on GPU 5, never asked, on none",
        group=_on("5"),
        declared="gpu",
        expected="gpu",
        asked=0,
        whole=_HIDDEN,
        unproven=_HIDDEN,
    ),
    Case(
        name="inside",
        says="TensorRT inside tritonserver",
        backend="tensorrt",
        group=_on("0"),
        declared="gpu",
        expected="gpu",
        whole=_HIDDEN,
        unproven=_HIDDEN,
    ),
    Case(
        name="pipeline",
        says="an ensemble over a model on a GPU and one on the CPU",
        steps=("alone_0", "cpu"),
        declared="ensemble",
        expected="any",
        whole=on("mixed"),
        unproven=on("unknown"),
    ),
)

EIGHT = Plan(name="eight GPUs", devices=8, migs={6: 3, 7: 2}, cases=CASES, sights=(Sight.WHOLE,))
