"""Which ``config.pbtxt`` a reader has to change, and the lines to put there."""

from __future__ import annotations

from collections.abc import Iterable

from probe.checks.observation import Observation
from probe.facts.models import InstanceKind, ModelConfig
from probe.ledgers.models import ModelRecord


def config_file(seen: Observation, record: ModelRecord) -> str:
    """The file of the model, in the repository that it was loaded from where a stub tells that."""
    stubs = seen.book.stubs.of(record.key)
    suffix = f"/{record.key.name}/{record.key.version}/"
    for stub in stubs:
        repository, found, _ = stub.stub.arguments.model_path.rpartition(suffix)
        if found:
            return f"{repository}/{record.key.name}/config.pbtxt"
    server = seen.book.server.server
    repositories = server.options("model-repository") if server is not None else ()
    root = repositories[0].rstrip("/") if repositories else "<model repository>"
    return f"{root}/{record.key.name}/config.pbtxt"


def group_line(kind: InstanceKind | str, count: int, gpus: Iterable[int] = ()) -> str:
    """An ``instance_group`` to paste."""
    listed = ", ".join(map(str, gpus))
    where = f" gpus: [ {listed} ]" if listed else ""
    return f"instance_group [ {{ count: {count} kind: KIND_{str(kind).upper()}{where} }} ]"


def count_of(config: ModelConfig) -> int:
    """How many instances a group in place of all its groups would have."""
    return max(1, sum(group.count for group in config.groups))
