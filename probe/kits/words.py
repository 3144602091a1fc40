"""Words of error messages: what was found, in one short line, and what was most likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60


def quoted(text: str) -> str:
    """The text in quotes, on one line, shortened where it is long; ``nothing`` where it is empty."""
    if not text:
        return "nothing"
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one most likely meant, in whatever case it was written, or None."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold()[:_LONGEST], folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
