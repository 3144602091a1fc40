"""Taking out what ``inject`` put in, in the opposite order; what somebody put in its place since is theirs."""

from __future__ import annotations

from typing import Any

from probe.facts.wiring import ANNOTATION, CONTAINER, RUNTIME_CLASS, SHM_VOLUME
from probe.manifests.drafts import Draft, Path
from probe.manifests.errors import ManifestError
from probe.manifests.pods import mapping, name_of
from probe.manifests.records import ANNOTATIONS, SHM, Record
from probe.manifests.wishes import GateProbe
from probe.manifests.workloads import Workload

PREDICTORS = {"model": "predictor.model", "triton": "predictor.triton"}
"""How a record names what an InferenceService writes in the place of a container."""


def remove(draft: Draft, work: Workload, record: Record) -> None:
    """The object as it was before.  Raises ManifestError where somebody took Triton's container away since."""
    _field(draft, record, (*ANNOTATIONS, ANNOTATION), parent=True)
    gates = [each for each in reversed(GateProbe) if each.key in (*record.made, *record.null, *record.was)]
    if gates or SHM in record.made:
        triton = _triton(draft, work, record.container)
        for gate in gates:
            if _asks_us(draft.read((*triton, gate.key)), gate):
                _field(draft, record, (*triton, gate.key))
        if SHM in record.made:
            _item(draft, record, (*triton, "volumeMounts"))
            _item(draft, record, (*work.pod, "volumes"))
    for key, ours in (("runtimeClassName", RUNTIME_CLASS), ("shareProcessNamespace", True)):
        path: Path = (*work.pod, key)
        if key in (*record.made, *record.null) and draft.read(path) == ours:
            _field(draft, record, path)
    for key in ("containers", "initContainers"):
        _item(draft, record, (*work.pod, key))


def _asks_us(probe: Any, gate: GateProbe) -> bool:  # noqa: ANN401  (any YAML)
    """Whether a probe is the one that inject wrote, whatever its figures are by now, and not somebody's own."""
    return mapping(mapping(probe).get("httpGet")).get("path") == gate.timing.path


def sidecar_place(draft: Draft, work: Workload) -> Path | None:
    """Where a container of the sidecar's name is."""
    for key in ("containers", "initContainers"):
        index = _index(draft, (*work.pod, key), CONTAINER)
        if index is not None:
            return (*work.pod, key, index)
    return None


def _triton(draft: Draft, work: Workload, name: str) -> Path:
    for key, title in PREDICTORS.items():
        if name == title:
            return (*work.pod, key)
    index = _index(draft, (*work.pod, "containers"), name)
    if index is None:
        raise ManifestError(
            draft.line((*work.pod, "containers")),
            f"found no container {name or 'without a name'}, which the annotation {ANNOTATION} names, expected it to "
            "stand here still",
        )
    return (*work.pod, "containers", index)


def _field(draft: Draft, record: Record, path: Path, *, parent: bool = False) -> None:
    """A field as it was: not there, empty, or with the text that it had; ``parent`` where its mapping may go too."""
    key = str(path[-1])
    if not draft.has(path):
        return
    if parent:
        above = path[:-1]
        alone = len(draft.read(above)) == 1
        if alone and above[-1] in (*record.made, *record.null):
            _field(draft, record, above)
        else:
            draft.drop(path)
    elif key in record.null:
        draft.unfill(path, record.null[key])
    elif key in record.was:
        draft.restore_pair(path, record.was[key])
    else:
        draft.drop(path)


def _item(draft: Draft, record: Record, path: Path) -> None:
    """A list without our item, and without itself where we made it and nobody else used it."""
    index = _index(draft, path, CONTAINER if str(path[-1]).lower().endswith("containers") else SHM_VOLUME)
    if index is None:
        return
    if len(draft.read(path)) == 1 and path[-1] in (*record.made, *record.null):
        _field(draft, record, path)
    else:
        draft.drop((*path, index))


def _index(draft: Draft, path: Path, name: str) -> int | None:
    found = draft.read(path)
    for index, each in enumerate(found if isinstance(found, list) else []):
        if isinstance(each, dict) and name_of(each) == name:
            return index
    return None
