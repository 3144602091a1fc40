"""Durations and sizes as people write them: ``1h30m``, ``250ms``, ``64Mi``.

Computed in decimals, so that what is formatted parses back to the very same number.
"""

from __future__ import annotations

import decimal
import math
import re

from probe.kits.words import quoted

LONGEST_SECONDS = 3_155_760_000.0
"""A hundred years: longer is a typing error, and waits of the C library overflow not far above."""
LARGEST_BYTES = 2**63 - 1
"""What the kernel itself counts in."""

_DURATION = "a duration such as 5s, 250ms, 2m or 1h30m"
_SIZE = "a size such as 64Mi, 1Gi, 1k or plain bytes"
_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,400})?)"
_SECONDS_IN = {
    "d": decimal.Decimal(86_400),
    "h": decimal.Decimal(3_600),
    "m": decimal.Decimal(60),
    "s": decimal.Decimal(1),
    "ms": decimal.Decimal("0.001"),
}
_DURATION_FORM = re.compile("".join(f"(?:{_NUMBER}{unit}(?![a-z]))?" for unit in _SECONDS_IN))
_BYTES_IN = {
    "": 1,
    **{unit: 1000 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_SIZE_FORM = re.compile(f"{_NUMBER}([A-Za-z]*)")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``250ms`` or ``1h30m``; only 0 needs no unit.

    Units are ``d h m s ms``, largest first, each at most once, with decimals where wanted (``1.5s``).
    Raises ValueError, whose text says what was found and what was expected.
    """
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    match = _DURATION_FORM.fullmatch(stripped)
    if match is None or not stripped:
        bare = re.fullmatch(_NUMBER, stripped) is not None
        hint = f" (a bare number has no unit: write {stripped}s for seconds)" if bare else ""
        raise ValueError(f"found {quoted(stripped)}, expected {_DURATION}{hint}")
    with decimal.localcontext(prec=60):
        parts = zip(match.groups(), _SECONDS_IN.values(), strict=True)
        seconds = float(sum(decimal.Decimal(number) * unit for number, unit in parts if number))
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"found {quoted(stripped)}, expected a duration of at most a hundred years")
    return seconds


def format_duration(seconds: float) -> str:
    """The duration as :func:`parse_duration` reads it back, without loss: ``1h30m``, ``250ms``, ``1.5s``.

    Raises ValueError for what is no duration: negative, infinite or NaN.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"found {seconds}, expected seconds that are finite and not negative")
    exact = decimal.Decimal(repr(float(seconds)))
    if exact != exact.to_integral_value():
        thousandths = exact * 1000
        if exact < 1 and thousandths == thousandths.to_integral_value():
            return f"{int(thousandths)}ms"
        return f"{exact:f}s"
    minutes, rest = divmod(int(exact), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64Mi`` (binary), ``1k`` (decimal) or ``4096`` (plain bytes).

    Suffixes are those of Kubernetes quantities.  Raises ValueError, whose text says what was found and
    what was expected.
    """
    stripped = text.strip()
    match = _SIZE_FORM.fullmatch(stripped)
    if match is None or match[2] not in _BYTES_IN:
        raise ValueError(f"found {quoted(stripped)}, expected {_SIZE}")
    with decimal.localcontext(prec=60):
        size = decimal.Decimal(match[1]) * _BYTES_IN[match[2]]
    if size != size.to_integral_value():
        raise ValueError(f"found {quoted(stripped)}, which is no whole number of bytes, expected {_SIZE}")
    if size > LARGEST_BYTES:
        raise ValueError(f"found {quoted(stripped)}, expected a size below 8Ei")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The size as :func:`parse_size` reads it back, without loss: in the largest binary unit that divides it.

    Raises ValueError where negative.
    """
    if size_bytes < 0:
        raise ValueError(f"found {size_bytes}, expected bytes that are not negative")
    for power, unit in reversed(tuple(enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1))):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return str(size_bytes)
