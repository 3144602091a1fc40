"""What is wrong with a manifest, and where."""

from __future__ import annotations


class ManifestError(Exception):
    """A text that can not be read or edited: what was found and what was expected, and its line from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what
