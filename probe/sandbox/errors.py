"""What goes wrong in a sandbox, in one class: the message always says what to do."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox can not be had, or something in it did not happen in time."""
