"""What ``inject`` made in an object, kept in an annotation of it: without it nobody could tell ours from yours."""

from __future__ import annotations

from typing import Any

import msgspec

from probe.facts.wiring import ANNOTATION
from probe.manifests.drafts import Draft, Path
from probe.manifests.errors import ManifestError

ANNOTATIONS: Path = ("metadata", "annotations")
NVML = "nvml"
"""Among what was made: the sidecar's variables for NVML."""
SHM = "shm"
"""Among what was made: the volume for /dev/shm, and its mount."""


class Record(msgspec.Struct, omit_defaults=True):
    """What was made, by the names of fields of Triton's container, the pod, or the object.

    ``container`` is Triton's, empty where it has no name; ``made`` are fields that were not there (and
    :data:`NVML`, :data:`SHM`), ``null`` fields that were there and empty, and ``was`` those that had another value,
    with their text.
    """

    container: str = ""
    made: list[str] = []
    null: dict[str, str] = {}
    was: dict[str, str] = {}

    def written(self) -> str:
        """As the annotation says it."""
        return msgspec.json.encode(self).decode()


def record_of(draft: Draft) -> Record | None:
    """The object's record, None where ``inject`` made nothing in it.  Raises ManifestError."""
    said: Any = draft.read((*ANNOTATIONS, ANNOTATION))
    if said is None:
        return None
    try:
        return msgspec.json.decode(str(said), type=Record)
    except msgspec.DecodeError as error:
        raise ManifestError(
            draft.line((*ANNOTATIONS, ANNOTATION)),
            f"the annotation {ANNOTATION} can not be read ({error}), expected what inject wrote there",
        ) from None


class Scribe:
    """Puts things into a draft and notes how each can be taken out again."""

    def __init__(self, draft: Draft, container: str) -> None:
        self._draft = draft
        self.record = Record(container, [], {}, {})

    def item(self, path: Path, value: dict[str, Any]) -> None:
        """An item at the end of the list at the path, which is made where there is none."""
        node = self._draft.node(path)
        key = str(path[-1])
        if node is None:
            self._draft.add_pair(path[:-1], key, [value])
            self.record.made.append(key)
        elif self._draft.read(path) is None:
            self.record.null[key] = self._draft.fill(path, [value])
        else:
            self._draft.add_item(path, value)

    def field(self, path: Path, value: Any) -> None:  # noqa: ANN401  (any value of a manifest)
        """A field with this value, in place of what it had."""
        key = str(path[-1])
        if not self._draft.has(path):
            self._draft.add_pair(path[:-1], key, value)
            self.record.made.append(key)
        elif self._draft.read(path) is None:
            self.record.null[key] = self._draft.fill(path, value)
        else:
            self.record.was[key] = self._draft.replace_pair(path, value)

    def sign(self) -> None:
        """Write the record itself, last."""
        draft, record = self._draft, self.record
        if not draft.has(("metadata",)):
            raise ManifestError(draft.line(()), "has no metadata, expected a Kubernetes object with a name")
        node = draft.node(ANNOTATIONS)
        if node is None:
            record.made.append("annotations")
            draft.add_pair(ANNOTATIONS[:-1], "annotations", {ANNOTATION: record.written()})
        elif draft.read(ANNOTATIONS) is None:
            record.null["annotations"] = draft.text[node.start : node.end]
            draft.fill(ANNOTATIONS, {ANNOTATION: record.written()})
        else:
            draft.add_pair(ANNOTATIONS, ANNOTATION, record.written())
