"""What does readiness mean in which release of Triton?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.releases import parse_release, semantics


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


@pytest.mark.parametrize(
    ("version", "restarts", "model", "server", "asks"),
    [
        ("2.34.0", True, False, False, False),
        ("2.46.0", True, False, False, False),
        ("2.47.0", False, False, False, False),
        ("2.51.0", False, False, False, False),
        ("2.63.0", False, False, False, False),
        ("2.64.0", False, True, False, False),
        ("2.66.0", False, True, False, False),
        ("2.67.0", False, True, False, True),
        ("2.68.0", False, True, True, True),
        ("3.0.0", False, True, True, True),
    ],
)
def test_each_release_means_what_its_source_does(
    version: str, *, restarts: bool, model: bool, server: bool, asks: bool
) -> None:
    """24.06 ends restarts, 25.12 sees instances, 26.03 asks the model, 26.04 the server sees."""
    meaning = semantics(version)
    assert meaning is not None
    assert meaning.restarts_stubs is restarts
    assert meaning.model_ready_sees_instances is model
    assert meaning.server_ready_sees_instances is server
    assert ("is_ready()" in meaning.text) == asks
    assert ("never restarted" in meaning.text) != restarts
    assert ("ModelReady sees dead" in meaning.text) == model
    assert ("ServerReady sees dead" in meaning.text) == server


@given(st.text(max_size=20))
def test_any_text_is_a_version_or_none(text: str) -> None:
    """Garbage is no fault."""
    assert (parse_release(text) is None) == (semantics(text) is None)
