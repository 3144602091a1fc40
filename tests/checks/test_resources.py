"""Do amounts read in a manifest as Kubernetes takes them, and never below what was asked for?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.resources import HEADROOM, cores_up, cpu_quantity, guaranteed, quantity, rounded_up, size
from probe.kits.quantities import parse_size

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("cores", "up", "told"),
    [
        (0, 0.1, "100m"),
        (0.01, 0.1, "100m"),
        (0.3, 0.3, "300m"),
        (1.0, 1.0, "1"),
        (1.01, 1.5, "1500m"),
        (2.4999999, 2.5, "2500m"),
        (4.0, 4.0, "4"),
        (4.1, 5.0, "5"),
        (63.2, 64.0, "64"),
    ],
)
def test_cores_go_up_in_steps_that_a_person_would_choose(cores: float, up: float, told: str) -> None:
    """Tenths, halves, whole ones."""
    assert cores_up(cores) == up
    assert cpu_quantity(cores_up(cores)) == told


@pytest.mark.parametrize(
    ("figure", "told"),
    [(0, "64Mi"), (100 * MIB, "128Mi"), (GIB, "1536Mi"), (8 * GIB, "10752Mi"), (60 * GIB, "76Gi")],
)
def test_memory_goes_up_by_a_quarter_in_steps(figure: int, told: str) -> None:
    """Of 64 MiB, of half a GiB, of a GiB."""
    assert quantity(rounded_up(figure)) == told


@pytest.mark.parametrize(("amount", "told"), [(0, "0 MiB"), (64 * MIB, "64 MiB"), (1.5 * GIB, "1.5 GiB")])
def test_sizes_read_as_a_sentence_says_them(amount: float, told: str) -> None:
    """In the unit that leaves few digits."""
    assert size(amount) == told


def test_the_line_has_requests_like_limits() -> None:
    """That, for CPU and memory, is what the class Guaranteed asks for."""
    assert guaranteed(4 * GIB, 2.0) == (
        "resources: {requests: {cpu: 2, memory: 4Gi}, limits: {cpu: 2, memory: 4Gi}}"
    )
    assert guaranteed(4 * GIB, None) == "resources: {requests: {memory: 4Gi}, limits: {memory: 4Gi}}"


@given(st.integers(0, 1 << 50), st.floats(0, 4096))
def test_no_proposal_is_below_what_it_is_for(figure: int, cores: float) -> None:
    """Memory with its headroom; cores to a millionth."""
    assert parse_size(quantity(rounded_up(figure))) >= figure * HEADROOM
    assert cores_up(cores) >= cores - 1e-6
