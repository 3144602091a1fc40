"""What does readiness mean in which release of Triton?"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.facts.releases import TABLE, ModelReady, parse_release, semantics


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.51.0", (2, 51)),
        ("2.64", (2, 64)),
        ("3.0.0dev", (3, 0)),
        ("2.51.0.post1", (2, 51)),
        (None, None),
        ("", None),
        ("2", None),
        ("2.x", None),
        ("v2.51.0", None),
        ("2.-1", None),
        ("²·51", None),
    ],
)
def test_a_version_is_read_or_it_is_none(version: str | None, expected: tuple[int, int] | None) -> None:
    """Major and minor count."""
    assert parse_release(version) == expected
    assert (semantics(version) is None) == (expected is None)


LIFECYCLE, INSTANCES, USER = ModelReady


@pytest.mark.parametrize(
    ("version", "since", "restarts", "model", "server", "errors"),
    [
        ("1.9.0", "", True, LIFECYCLE, False, False),
        ("2.34.0", "", True, LIFECYCLE, False, False),
        ("2.46.0", "", True, LIFECYCLE, False, False),
        ("2.47.0", "24.06", False, LIFECYCLE, False, False),
        ("2.51.0", "24.06", False, LIFECYCLE, False, False),
        ("2.63.0", "24.06", False, LIFECYCLE, False, False),
        ("2.64.0", "25.12", False, INSTANCES, False, False),
        ("2.66.0", "25.12", False, INSTANCES, False, False),
        ("2.67.0", "26.03", False, USER, False, False),
        ("2.68.0", "26.04", False, USER, True, False),
        ("2.70.1", "26.04", False, USER, True, False),
        ("2.71.0", "26.07", False, USER, True, True),
        ("2.999.0", "26.07", False, USER, True, True),
        ("3.0.0", "26.07", False, USER, True, True),
    ],
)
def test_each_release_means_what_its_source_does(
    version: str,
    since: str,
    *,
    restarts: bool,
    model: ModelReady,
    server: bool,
    errors: bool,
) -> None:
    """24.06 ends restarts, 25.12 sees instances, 26.03 asks the model, 26.04 the server sees, 26.07 errs."""
    meaning = semantics(version)
    assert meaning is not None
    assert meaning.container == since
    assert meaning.restarts_stubs is restarts
    assert meaning.model_ready is model
    assert meaning.server_ready_sees_instances is server
    assert meaning.unready_is_an_error is errors


def test_the_status_says_what_the_table_holds() -> None:
    """Every row has a text of its own, made of its columns."""
    texts = [row.text for row in TABLE]
    assert len(set(texts)) == len(texts)
    for row in TABLE:
        assert ("never restarted" in row.text) != row.restarts_stubs
        assert ("ModelReady sees dead" in row.text) == (row.model_ready is not LIFECYCLE)
        assert ("is_ready()" in row.text) == (row.model_ready is USER)
        assert ("ServerReady sees dead" in row.text) == row.server_ready_sees_instances
        assert ("an error" in row.text) == row.unready_is_an_error


def test_the_table_is_in_order_and_covers_every_release() -> None:
    """Oldest first, from the very first on; no later row takes back what an earlier one brought."""
    assert TABLE[0].since == (0, 0)
    assert [row.since for row in TABLE] == sorted({row.since for row in TABLE})
    assert [row.model_ready for row in TABLE] == sorted(row.model_ready for row in TABLE)


@given(st.text(max_size=20))
@example("9" * 5000 + ".1")
@example("2." + "9" * 5000 + ".0")
def test_any_text_is_a_version_or_none(text: str) -> None:
    """Garbage is no fault."""
    assert (parse_release(text) is None) == (semantics(text) is None)
