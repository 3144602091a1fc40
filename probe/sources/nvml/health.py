"""How a GPU is: what the driver wants done about it, its memory's errors, and what slows its clocks."""

from __future__ import annotations

from typing import Any

from probe.sources.nvml.questions import Questions

_RECOVERY_ACTION = 230  # the field; drivers before 565 do not know it
_RECOVERY_WORDS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)

_CLOCK_FUNCTIONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
"""One question by its name since R535, and by the one before, which CUDA 14 drops."""
_CLOCK_WORDS = (
    "idle",
    "applications_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal",
    "hw_thermal",
    "hw_power_brake",
    "display_clocks",
    "board_limit",
    "reliability",
)

_UNCORRECTED = 1
_VOLATILE, _AGGREGATE = 0, 1


def recovery_action(handle: Any, asked: Questions) -> str | None:  # noqa: ANN401 - the binding is untyped
    """What NVML's field 230 says must be done, in words; None where the driver has no such field."""
    fields = asked.ask("nvmlDeviceGetFieldValues", handle, [_RECOVERY_ACTION])
    if not fields or fields[0].nvmlReturn != 0:
        return None  # each field has a return code of its own
    action = fields[0].value.uiVal
    return _RECOVERY_WORDS[action] if action < len(_RECOVERY_WORDS) else f"action_{action}"


def clock_reasons(handle: Any, asked: Questions) -> list[str] | None:  # noqa: ANN401 - likewise
    """Why the clocks are lower than they could be, in words; bits that no header names as ``bit_N``."""
    for function in _CLOCK_FUNCTIONS:
        mask = asked.ask_optional(function, handle)
        if mask is not None:
            return [_clock_word(bit) for bit in range(int(mask).bit_length()) if mask >> bit & 1]
    return None


def memory_errors(handle: Any, asked: Questions) -> dict[str, Any]:  # noqa: ANN401 - likewise
    """Uncorrected errors of the memory, and its rows (before Ampere: pages) that wait or failed."""
    return {
        "ecc_uncorrected": _uncorrected(handle, asked, _VOLATILE),
        "ecc_uncorrected_ever": _uncorrected(handle, asked, _AGGREGATE),
        **_rows(handle, asked),
    }


def _uncorrected(handle: Any, asked: Questions, counter: int) -> int | None:  # noqa: ANN401 - likewise
    count: int | None = asked.ask_optional(
        "nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, counter, variant=f" {counter}"
    )
    return count


def _rows(handle: Any, asked: Questions) -> dict[str, bool | None]:  # noqa: ANN401 - likewise
    rows = asked.ask_optional("nvmlDeviceGetRemappedRows", handle)
    if rows is not None:
        return {"rows_pending": bool(rows[2]), "rows_failed": bool(rows[3])}
    pages = asked.ask_optional("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return {"rows_pending": None if pages is None else bool(pages), "rows_failed": None}


def _clock_word(bit: int) -> str:
    return _CLOCK_WORDS[bit] if bit < len(_CLOCK_WORDS) else f"bit_{bit}"
