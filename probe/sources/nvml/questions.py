"""Calls about one GPU, where one that fails must not take the others with it."""

from __future__ import annotations

from typing import Any

NOT_SUPPORTED = 3
NO_PERMISSION = 4
INSUFFICIENT_SIZE = 7
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16

_ABSENT = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND})
"""What an older driver or a GPU without the feature answers; no failure."""


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
    """Asks about one GPU.  What it does not have is None; what fails is None and remembered."""

    def __init__(self, nvml: Any, normal: frozenset[int] = frozenset()) -> None:  # noqa: ANN401 - untyped
        self.nvml = nvml
        self._normal = _ABSENT | normal
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

    def ask_list(self, function: str, handle: Any, *, absent: list[Any] | None) -> list[Any] | None:  # noqa: ANN401
        """Return a process list by the newest version of a function that this driver has.

        ``absent`` where it has none; None where the list could not be had.  The binding sizes its array
        by a first call, so a list that grew since then is asked for once more.
        """
        if self.code == GPU_IS_LOST:
            return None
        for version in ("_v3", "_v2"):
            for _ in range(2):
                try:
                    return list(getattr(self.nvml, function + version)(handle))
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
