"""The one error of this room."""

from __future__ import annotations

import re

_LONGEST = 500


class SettingsError(ValueError):
    """A configuration that can not be used.

    Its text is one line: the file and line, environment variable or flag; the key; what was found, and
    what was expected.
    """

    def __init__(self, where: str, what: str) -> None:
        """``where`` as :class:`probe.settings.documents.Place` names it, ``what`` with the key in front."""
        line = re.sub(r"[\s\x00-\x1f\x7f]+", " ", f"{where}: {what}")
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…")
