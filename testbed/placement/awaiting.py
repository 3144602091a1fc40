"""Placements that the contract asks for and that are not judged so yet: no test takes them from here."""

from __future__ import annotations

from testbed.placement.cases import Case, Hold, Plan, Sight, on

_HIDDEN = on("unknown", "PlacementUnknown")

HALF = (
    Case(
        name="half_absent",
        asked=24,
        says="declared over two GPUs, asked, one stub on GPU 0 and the other on none",
        group="[{ kind: KIND_GPU, gpus: [0, 1] }]",
        declared="gpu",
        expected="gpu",
        holds=[Hold(0, 330)],
        whole=on("gpu", "PlacementSkewed"),
        unproven=_HIDDEN,
    ),
)

AWAITING = (Plan(name="two GPUs, one of them used", devices=2, cases=HALF, sights=(Sight.WHOLE,)),)
"""Plans as ``rows.PLANS`` has them; they move there when what they need is judged."""
