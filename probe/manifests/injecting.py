"""Putting the sidecar into one object: what is decided, and in which order it is written."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from probe.facts import wiring
from probe.manifests.advice import Advice
from probe.manifests.drafts import Draft
from probe.manifests.errors import ManifestError
from probe.manifests.placing import Placing
from probe.manifests.pods import mapping
from probe.manifests.records import NVML, record_of
from probe.manifests.removing import remove, sidecar_place
from probe.manifests.sidecar import without_nvml
from probe.manifests.triton import Found, asked_runtime, containers, holder_of, tritons
from probe.manifests.wishes import Wishes
from probe.manifests.workloads import Workload


class Fate(enum.Enum):
    """What became of an object."""

    INJECTED = "injected"
    REMOVED = "removed"
    LEFT = "left"
    """Nothing of it runs Triton."""
    UNCLEAR = "unclear"
    """It could not be told which container runs Triton, or the sidecar or its port is there by another's hand."""


class Outcome(msgspec.Struct, frozen=True):
    """An object's new text, and what to tell of it: changes, and advice with the line that it is about."""

    text: str
    fate: Fate
    told: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()


def inject(text: str, work: Workload, wishes: Wishes, runtimes: frozenset[str] = frozenset()) -> Outcome:
    """The object with the sidecar, as if it had none yet.  Raises ManifestError; nothing is done by halves.

    ``runtimes`` are the serving runtimes of Triton in the same run: what they carry, an InferenceService does not.
    """
    draft = Draft(text)
    there = draft.read()
    before = None
    place = sidecar_place(draft, work)
    record = record_of(draft)
    if record is not None:
        before = draft.read(place) if place is not None else None
        if before is not None and NVML in record.made:
            before = without_nvml(before)
        remove(draft, work, record)
    elif place is not None:
        return Outcome(text, Fate.UNCLEAR, (_by_another(),))
    bare = draft.text
    said = draft.read()
    found = tritons(said, work, wishes.container, runtimes)
    if len(found) != 1:
        return _unclear(text, said, work, wishes, found)
    if holder := holder_of(wishes.port, mapping(draft.read(work.pod)), found[0]):
        told = f"port {wishes.port} is that of the container {holder}: choose another with --port"
        return Outcome(text, Fate.UNCLEAR, (told,))
    placing = Placing(draft, work, wishes, found[0])
    if asked_runtime(found[0], work) in runtimes:
        placing.share()
    else:
        placing.everything(before)
    if placing.scribe.record.made or placing.scribe.record.null or placing.written:
        placing.scribe.sign()
    _check_undone(draft, work, bare)
    # What says the same already stays as it is: somebody may have put comments into it, or another order.
    after = text if draft.read() == there else draft.text
    return Outcome(after, Fate.INJECTED, tuple(placing.told), tuple(placing.advice))


def take_out(text: str, work: Workload) -> Outcome:
    """The object as it was before.  Raises ManifestError."""
    draft = Draft(text)
    record = record_of(draft)
    if record is None:
        there = sidecar_place(draft, work) is not None
        return Outcome(text, Fate.UNCLEAR if there else Fate.LEFT, (_by_another(),) if there else ())
    remove(draft, work, record)
    return Outcome(draft.text, Fate.REMOVED, ("took out what inject had put in",))


def _check_undone(draft: Draft, work: Workload, bare: str) -> None:
    """What can not be taken out byte for byte is not put in."""
    copy = Draft(draft.text)
    record = record_of(copy)
    if record is not None:
        remove(copy, work, record)
    if copy.text != bare:
        raise ManifestError(draft.line(work.pod), "is written in a way that inject could not undo exactly")


def _by_another() -> str:
    return (
        f"has a container {wiring.CONTAINER} that inject did not write (no annotation {wiring.ANNOTATION}): "
        "left as it is"
    )


def _unclear(text: str, said: Any, work: Workload, wishes: Wishes, found: list[Found]) -> Outcome:  # noqa: ANN401
    if found:
        names = ", ".join(f"{each.name or '(no name)'} ({each.how})" for each in found)
        return Outcome(
            text, Fate.UNCLEAR, (f"several containers may run Triton: {names}; choose with --container",)
        )
    names = ", ".join(each.name or "(no name)" for each in containers(said, work)) or "none"
    wanted = "" if wishes.container is None else f" of the name {wishes.container}"
    return Outcome(text, Fate.LEFT, (f"has no container{wanted} that runs Triton; found: {names}",))
