"""What this machine and the other say to each other: a line of JSON each way for each play."""

from __future__ import annotations

from typing import Any

import msgspec

PORT = "probe"
"""The name of the virtio port between the two."""


class Call(msgspec.Struct, frozen=True):
    """Play ``act`` (``module:function``) with these arguments by name."""

    act: str
    arguments: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True):
    """What the act returned, or why it did not (a traceback)."""

    told: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


HELLO = Answer()
"""Said once, when plays can be asked for."""
