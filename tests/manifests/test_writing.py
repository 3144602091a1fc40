"""Does what is written read back as what was meant?"""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from probe.manifests.writing import Style, flow, item, pair, spread

KEYS = st.sampled_from(["name", "runAsUser", "triton-probe/injected", "a b", "yes", "1"])
VALUES = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none()),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(KEYS, below, max_size=3)),
    max_leaves=8,
)
STYLES = st.builds(Style, step=st.integers(1, 4), dash=st.integers(0, 4), json=st.booleans())


@given(VALUES, STYLES)
def test_every_form_reads_back(value: object, style: Style) -> None:
    """In braces, spread over lines, as a pair and as an item."""
    assert yaml.safe_load(flow(value, style)) == value
    assert yaml.safe_load(spread(value, style, 0)) == value
    assert yaml.safe_load("\n".join(pair("key", value, style))) == {"key": value}
    assert yaml.safe_load("\n".join(item(value, style))) == [value]


@given(VALUES)
def test_json_is_json(value: object) -> None:
    """For a file that some reader takes for JSON and not for YAML."""
    style = Style(json=True)

    assert json.loads(flow(value, style)) == value
    assert json.loads(spread(value, style, 4)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("serve", "serve"),
        ("triton-probe:0.1.0", "triton-probe:0.1.0"),
        ("/dev/shm", "/dev/shm"),
        ("96Mi", "96Mi"),
        ("20m", "20m"),
        ("1", "'1'"),
        ("no", "'no'"),
        ("1e3", "'1e3'"),
        ("127.0.0.1:8001", "'127.0.0.1:8001'"),
        ("[::]:9003", "'[::]:9003'"),
        ("", "''"),
        ("é", '"é"'),
        ("\n", '"\\n"'),
        ("\U0001f600", '"\U0001f600"'),
    ],
)
def test_quotes_stand_where_they_are_needed(value: str, text: str) -> None:
    """As somebody would write it by hand."""
    assert flow(value, Style()) == text


def test_within_braces_a_colon_is_quoted() -> None:
    """Some readers take it for that of a key."""
    assert flow({"image": "p:1"}, Style()) == "{image: 'p:1'}"
