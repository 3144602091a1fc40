from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.kits.quantities import (
    LARGEST_BYTES,
    LONGEST_SECONDS,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("250ms", 0.25),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1d", 86_400.0),
        ("1m500ms", 60.5),
        ("0.1s", 0.1),
        ("0", 0.0),
        ("0s", 0.0),
        (" 5s ", 5.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    """Each unit, combinations of units, decimals, and the one number that needs no unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "-1s",
        "+1s",
        "nan",
        "inf",
        "NaNs",
        "5S",
        "5 s",
        "1m1h",
        "1s1s",
        "s",
        "1e3s",
        "5sec",
        "٣s",
        "1,5s",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """Bare, negative, disordered and foreign numbers are refused, and the error shows how to write one."""
    with pytest.raises(ValueError, match="expected a duration such as 5s, 250ms, 2m or 1h30m"):
        parse_duration(text)


def test_a_bare_number_is_told_its_missing_unit() -> None:
    """The most common mistake gets its own advice."""
    with pytest.raises(ValueError, match=r"found '5', .*write 5s for seconds"):
        parse_duration("5")


@pytest.mark.parametrize("text", ["99999999999999999999h", "36526d"])
def test_a_duration_beyond_a_century_is_refused(text: str) -> None:
    """No wait may overflow what the C library can wait for."""
    with pytest.raises(ValueError, match="at most a hundred years"):
        parse_duration(text)


def test_a_long_text_is_shortened_in_its_error() -> None:
    """An error stays one readable line, whatever was found."""
    with pytest.raises(ValueError, match="found '1111") as caught:
        parse_duration("1" * 100_000)

    assert len(str(caught.value)) < 200


@given(st.floats(min_value=0, max_value=LONGEST_SECONDS))
def test_every_duration_survives_being_written_and_read(seconds: float) -> None:
    """What is formatted parses back to the very same number, however fine."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=int(LONGEST_SECONDS) * 1000))
def test_every_whole_millisecond_survives_being_written_and_read(milliseconds: int) -> None:
    """Durations as people write them make the round trip without a condition."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1.5s"), (5, "5s"), (90, "1m30s"), (5400, "1h30m"), (86_400, "24h")],
)
def test_a_duration_is_written_as_a_person_would(seconds: float, text: str) -> None:
    """The largest units first, and none that is zero."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_what_is_no_duration_is_not_formatted(seconds: float) -> None:
    """A made-up duration is an error, not a text."""
    with pytest.raises(ValueError, match="finite and not negative"):
        format_duration(seconds)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1k", 1000),
        ("64Mi", 64 * 1024**2),
        ("1Gi", 1024**3),
        ("1.5Gi", 3 * 512 * 1024**2),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size_bytes: int) -> None:
    """Binary and decimal suffixes, as Kubernetes writes them."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "Mi", "64MB", "64 Mi", "-1", "1K", "0.5", "1.0001k", "nan", "1e3"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    """Foreign suffixes and parts of bytes are refused, and the error shows how to write one."""
    with pytest.raises(ValueError, match="expected a size such as 64Mi, 1Gi, 1k or plain bytes"):
        parse_size(text)


def test_a_size_beyond_what_the_kernel_counts_is_refused() -> None:
    """Eight exbibytes do not fit into a signed 64-bit number."""
    with pytest.raises(ValueError, match="below 8Ei"):
        parse_size("8Ei")


@given(st.integers(min_value=0, max_value=LARGEST_BYTES))
def test_every_size_survives_being_written_and_read(size_bytes: int) -> None:
    """What is formatted parses back to the very same number."""
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_a_negative_size_is_not_formatted() -> None:
    """A made-up size is an error, not a text."""
    with pytest.raises(ValueError, match="not negative"):
        format_size(-1)


@given(st.text(max_size=30))
def test_no_text_breaks_the_parsers(text: str) -> None:
    """Whatever is written, the answer is a number or a ValueError in one line."""
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are fine
            assert "expected" in str(error)  # noqa: PT017
