"""Is the catalogue the contract's table, and does some check raise what it says is judged?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import checks
from probe.engine import budget
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Action
from probe.facts.gates import AT_ONCE, Gate, Hold
from probe.kits.words import nearest

LIVE, READY, STARTUP = Gate.LIVE, Gate.READY, Gate.STARTUP
S5, S30, LOOKS3 = Hold(seconds=5), Hold(seconds=30), Hold(looks=3)
S60, S120 = Hold(seconds=60), Hold(seconds=120)

TABLE: dict[str, tuple[str, dict[Gate, Hold]]] = {
    "Initializing": ("info", {READY: AT_ONCE, STARTUP: AT_ONCE}),
    "TritonStarting": ("info", {READY: AT_ONCE, STARTUP: AT_ONCE}),
    "TritonDown": ("critical", {READY: AT_ONCE, LIVE: S60}),
    "TritonHung": ("critical", {READY: LOOKS3, LIVE: Hold(seconds=30, looks=3)}),
    "ControlPlaneBlocked": ("warning", {}),
    "ProtocolRestricted": ("critical", {READY: AT_ONCE}),
    "TlsMismatch": ("critical", {READY: AT_ONCE}),
    "ModelLoading": ("info", {STARTUP: AT_ONCE, READY: AT_ONCE}),
    "ModelLoadFailed": ("critical", {READY: AT_ONCE}),
    "ModelMissing": ("critical", {READY: AT_ONCE}),
    "ModelNotReady": ("critical", {READY: AT_ONCE}),
    "ModelStuckLoading": ("warning", {}),
    "ModelStuckUnloading": ("warning", {}),
    "EnsembleStepUnready": ("critical", {READY: AT_ONCE}),
    "StubDead": ("critical", {READY: AT_ONCE, LIVE: S60}),
    "StubFrozen": ("critical", {READY: S5, LIVE: S60}),
    "WorkerDead": ("critical", {READY: AT_ONCE, LIVE: S60}),
    "InstancesMissing": ("critical", {READY: S5}),
    "StubOrphaned": ("warning", {}),
    "ModelStalled": ("critical", {READY: S30, LIVE: S120}),
    "ModelFailing": ("critical", {READY: S30, LIVE: S120}),
    "CanaryFailed": ("critical", {READY: Hold(looks=2)}),
    "InferenceSlow": ("warning", {}),
    "CpuFallback": ("critical", {READY: AT_ONCE}),
    "GpuNotUsed": ("critical", {READY: LOOKS3}),
    "WrongGpu": ("critical", {READY: LOOKS3}),
    "PlacementSkewed": ("warning", {}),
    "PlacementImplicit": ("warning", {}),
    "PlacementUnknown": ("info", {}),
    "PolicyInvalid": ("warning", {}),
    "GpuLost": ("critical", {READY: AT_ONCE}),
    "GpuResetRequired": ("critical", {READY: AT_ONCE}),
    # By class: the claim of an application Xid carries its own severity and spares the gate.
    "GpuXid": ("critical", {READY: AT_ONCE}),
    "GpuEcc": ("warning", {}),
    "GpuThrottled": ("warning", {}),
    "GpuMemoryPressure": ("warning", {}),
    "NvmlUnavailable": ("warning", {}),
    "NvmlHung": ("warning", {}),
    "NvmlAccessLost": ("warning", {}),
    "NvmlVersionMismatch": ("warning", {}),
    "BestEffortPod": ("warning", {}),
    "MemoryUnlimited": ("warning", {}),
    "CpuUnlimited": ("info", {}),
    "MemoryPressure": ("warning", {}),
    "CpuThrottled": ("warning", {}),
    "PidsPressure": ("warning", {}),
    "OomKilled": ("critical", {}),
    "ShmPressure": ("warning", {}),
    "ShmTooSmall": ("warning", {}),
    "ShmLeaked": ("warning", {}),
    "ObservationStale": ("warning", {}),
    "ProcessesNotShared": ("warning", {}),
    "ProcessAccessDenied": ("warning", {}),
    "RestartBudgetSpent": ("critical", {READY: AT_ONCE}),
}
"""The contract's section 2, written by hand: reason, severity, what it fails after how long.

``PolicyInvalid`` is an addition to it.
"""


def test_the_catalogue_has_the_contracts_reasons_in_their_order() -> None:
    """Nothing more, nothing less."""
    assert list(CATALOGUE) == list(TABLE)
    assert [each.name for each in CATALOGUE.values()] == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_reason_has_the_contracts_severity_gates_and_holds(name: str) -> None:
    """A gate that a reason does not name is never failed by it."""
    severity, fails = TABLE[name]
    reason = CATALOGUE[name]
    assert reason.severity == severity
    assert {gate: reason.hold(gate) for gate in Gate if reason.hold(gate) is not None} == fails
    assert len(reason.fails) == len(fails)


@pytest.mark.parametrize("name", TABLE)
def test_a_reason_says_a_sentence(name: str) -> None:
    """For ``triton-probe reasons`` and the documents made of it."""
    assert re.fullmatch(r"([A-Z/]|gRPC ).*\.", CATALOGUE[name].says)
    assert name[0].isupper()
    assert name.isalnum()


def test_what_fails_live_says_that_a_restart_or_a_reload_cures_it() -> None:
    """``/livez`` asks whether restarting the Triton container would cure what is wrong."""
    curing = {Action.RESTART_CONTAINER, Action.RELOAD_MODEL}
    assert {each.action for each in CATALOGUE.values() if each.hold(LIVE) is not None} <= curing


def test_only_what_a_start_passes_through_fails_startup() -> None:
    """A startupProbe that fails for another cause would restart what restarts do not cure."""
    named = [name for name, each in CATALOGUE.items() if each.hold(STARTUP) is not None]
    assert named == ["Initializing", "TritonStarting", "ModelLoading"]


def test_each_reason_is_one_that_some_check_mentions() -> None:
    """None is declared that nobody judges, and no check speaks of one that is not declared.

    One rests on what the gates did, which is the engine's to know.
    """
    sources = [each.read_text() for each in Path(checks.__path__[0]).rglob("*.py")]
    sources.append(Path(budget.__file__).read_text())
    mentioned = {word for source in sources for word in re.findall(r'"([A-Z][A-Za-z]+)"', source)}
    assert mentioned >= CATALOGUE.keys()
    assert "ObservationStale" in mentioned
    claimed = {name for source in sources for name in re.findall(r'(?:Claim\(|reason=)\s*"(\w+)"', source)}
    assert claimed <= CATALOGUE.keys()
    assert len(claimed) > 10


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("stubdead", "StubDead"),
        ("StubDeath", "StubDead"),
        ("CPUFallback", "CpuFallback"),
        ("TritonDwon", "TritonDown"),
        ("NvmlUnavailabel", "NvmlUnavailable"),
        ("zzz", None),
        ("", None),
    ],
)
def test_a_misspelt_reason_leads_to_the_one_that_was_meant(written: str, meant: str | None) -> None:
    """Whatever its case; nothing near is nothing."""
    assert nearest(written, CATALOGUE) == meant


@given(name=st.sampled_from(sorted(TABLE)), upper=st.booleans())
def test_every_reason_is_its_own_nearest(name: str, *, upper: bool) -> None:
    """In any case."""
    assert nearest(name.upper() if upper else name.lower(), CATALOGUE) == name
