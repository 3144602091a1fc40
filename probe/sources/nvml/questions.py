"""Calls about one GPU, where one that fails must not take the others with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
TIMEOUT = 10
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16

ABSENT_SECONDS = 600.0
"""How long a question that a GPU does not know is not asked again; a new session asks it at once."""

_ABSENT = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND})
"""What an older driver or a GPU without the feature answers; no failure."""
GRAVE = frozenset({GPU_IS_LOST, RESET_REQUIRED})
"""What is true of the whole GPU, whichever question brought it to light."""
_NOTHING_WRONG: Mapping[int, Any] = {}


def code_of(error: BaseException | None) -> int | None:
    """NVML's code behind an exception of the binding, None where it is no answer of NVML.

    The binding raises NVMLError with a value, but NVMLLibraryMismatchError, which is no NVMLError, where
    the driver lacks a function's newest version; an older binding lacks the name itself.
    """
    if isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError":
        return FUNCTION_NOT_FOUND
    if isinstance(error, ImportError):
        return LIBRARY_NOT_FOUND
    value = getattr(error, "value", None)
    return value if isinstance(value, int) else None


class Questions:
    """Asks about one GPU.  What it does not have is None; what fails is None and remembered.

    ``normal`` are codes that are no failure here; ``absent`` says until when (monotonic seconds) each
    optional question rests, and is kept from one look to the next.
    """

    def __init__(
        self,
        nvml: Any,  # noqa: ANN401 - untyped
        normal: frozenset[int] = frozenset(),
        absent: dict[str, float] | None = None,
    ) -> None:
        self.nvml = nvml
        self._normal = _ABSENT | normal
        self._absent = {} if absent is None else absent
        self.failure: Exception | None = None

    @property
    def code(self) -> int | None:
        """NVML's code of the failure."""
        return code_of(self.failure)

    @property
    def word(self) -> str | None:
        """The failure as NVML's header spells it, without the prefix: ``GPU_IS_LOST``."""
        if self.failure is None:
            return None
        code = self.code
        if code is None:
            return type(self.failure).__name__
        for name, value in vars(self.nvml).items():
            if name.startswith("NVML_ERROR_") and value == code:
                return str(name).removeprefix("NVML_ERROR_")
        return f"CODE_{code}"

    def ask(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - the binding is untyped
        """Return what the binding's function answers, or None."""
        if self.code == GPU_IS_LOST:
            return None  # each further call would sit out the driver's own timeouts
        try:
            return getattr(self.nvml, function)(*arguments)
        except Exception as error:  # noqa: BLE001 - the binding raises more than NVMLError
            if code_of(error) not in self._normal:
                self.note(error)
            return None

    def ask_optional(
        self,
        function: str,
        *arguments: Any,  # noqa: ANN401 - likewise
        variant: str = "",
        meaning: Mapping[int, Any] = _NOTHING_WRONG,
    ) -> Any:  # noqa: ANN401 - likewise
        """Ask what not every GPU, driver or binding can answer; ``meaning`` tells which codes are answers.

        ``variant`` tells questions by one function apart, of which a GPU may know one and not the other.

        A failure takes nothing but its own answer, unless it says that the GPU is lost or needs a reset: a
        refusal for good would otherwise be told as the GPU's error, and cost a new session each minute.
        """
        question = function + variant
        if self.code == GPU_IS_LOST or time.monotonic() < self._absent.get(question, 0.0):
            return None
        try:
            return getattr(self.nvml, function)(*arguments)
        except Exception as error:  # noqa: BLE001 - likewise
            code = code_of(error)
            if code is not None and code in meaning:
                return meaning[code]
            if code in _ABSENT:
                self._absent[question] = time.monotonic() + ABSENT_SECONDS
            if code in GRAVE:
                self.note(error)
            return None

    def ask_list(
        self,
        functions: tuple[str, ...],
        handle: Any,  # noqa: ANN401 - likewise
        *,
        absent: list[Any] | None,
    ) -> list[Any] | None:
        """Return a process list by the first of these functions that this driver and this binding have.

        ``absent`` where they have none; None where the list could not be had.  The binding sizes its array
        by a first call, so a list that grew since then is asked for once more.
        """
        if self.code == GPU_IS_LOST:
            return None
        for function in functions:
            for _ in range(2):
                try:
                    return list(getattr(self.nvml, function)(handle))
                except Exception as error:  # noqa: BLE001 - likewise
                    code = code_of(error)
                    if code == INSUFFICIENT_SIZE:
                        continue
                    if code == FUNCTION_NOT_FOUND:
                        break
                    if code == NOT_SUPPORTED:
                        return absent
                    self.note(error)
                    return None
            else:
                return None
        return absent

    def note(self, failure: Exception | None) -> None:
        """Remember the first failure; a lost GPU, then a needed reset, tell more than any other."""
        if self.failure is None or _weight(failure) > _weight(self.failure):
            self.failure = failure


def _weight(failure: Exception | None) -> int:
    return {None: 0, GPU_IS_LOST: 2, RESET_REQUIRED: 1}.get(code_of(failure), 0)
