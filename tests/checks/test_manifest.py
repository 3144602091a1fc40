"""Are lines to paste what Kubernetes reads, and sizes never less than what was seen?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.container.manifest import (
    cores_up,
    cpu_quantity,
    memory_line,
    quantity,
    reserved_line,
    rounded,
    shm_line,
    size_of,
)
from probe.kits.quantities import parse_size
from tests.worlds import GIB, MIB


@pytest.mark.parametrize(
    ("size", "written"), [(0, "0Mi"), (1, "1Mi"), (64 * MIB, "64Mi"), (GIB, "1Gi"), (1536 * MIB, "1536Mi")]
)
def test_a_quantity_is_in_whole_units(size: int, written: str) -> None:
    """Mebibytes, or gibibytes where nothing is lost."""
    assert quantity(size) == written


@given(st.integers(0, 1 << 45))
def test_what_is_written_is_read_back_as_no_less(size: int) -> None:
    """A limit that was rounded down would kill."""
    assert 0 <= parse_size(quantity(size)) - size < MIB
    assert rounded(size) >= size * 1.25
    assert rounded(size) % (64 * MIB) == 0


def test_lines_are_lines_of_a_manifest() -> None:
    """As flow mappings, which fit into one line."""
    assert memory_line(768 * MIB) == "resources: {limits: {memory: 768Mi}}"
    assert reserved_line(2 * GIB) == "resources: {requests: {memory: 2Gi}, limits: {memory: 2Gi}}"
    assert shm_line(128 * MIB) == "emptyDir: {medium: Memory, sizeLimit: 128Mi}"


@pytest.mark.parametrize(("cores", "written"), [(2.0, "2"), (0.5, "500m"), (0.0001, "1m"), (1.2501, "1251m")])
def test_cores_are_written_in_thousandths_and_never_less(cores: float, written: str) -> None:
    """Kubernetes counts no finer."""
    assert cpu_quantity(cores) == written


@pytest.mark.parametrize(
    ("cores", "up"),
    [
        (0, 0.1),
        (0.01, 0.1),
        (0.3, 0.3),
        (1.0, 1.0),
        (1.01, 1.5),
        (2.4999999, 2.5),
        (4.0, 4.0),
        (4.1, 5.0),
        (63.2, 64.0),
    ],
)
def test_cores_go_up_in_steps_that_a_person_would_choose(cores: float, up: float) -> None:
    """Tenths, halves, whole ones."""
    assert cores_up(cores) == up


@pytest.mark.parametrize(
    ("figure", "told"),
    [(0, "64Mi"), (100 * MIB, "128Mi"), (GIB, "1536Mi"), (8 * GIB, "10752Mi"), (60 * GIB, "76Gi")],
)
def test_memory_goes_up_by_a_quarter_in_steps(figure: int, told: str) -> None:
    """Of 64 MiB, of half a GiB, of a GiB."""
    assert quantity(rounded(figure)) == told


def test_the_line_reserves_its_memory_and_limits_no_cpu() -> None:
    """A figure from an idle minute is a harmless request, and as a limit would throttle the first load."""
    assert reserved_line(4 * GIB, 2.0) == (
        "resources: {requests: {cpu: 2, memory: 4Gi}, limits: {memory: 4Gi}}"
    )
    assert reserved_line(4 * GIB) == "resources: {requests: {memory: 4Gi}, limits: {memory: 4Gi}}"


@given(st.floats(0, 4096))
def test_no_proposal_of_cores_is_below_what_it_is_for(cores: float) -> None:
    """To a millionth."""
    assert cores_up(cores) >= cores - 1e-6


def test_a_size_in_a_sentence_has_a_unit() -> None:
    """In the one that fits."""
    assert size_of(600 * MIB) == "600 MiB"
    assert size_of(1.5 * GIB) == "1.5 GiB"
