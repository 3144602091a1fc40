"""Is the proposal YAML that can be pasted, whatever models are called, and does each line say where it comes from?"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
import yaml

from probe.facts.sizing import ContainerPeak, ModelPeak, SizeLine, SizingStatus
from probe.surfaces.sizes import as_yaml
from tests.goldens import Golden, golden
from tests.surfaces.snapshots import HOSTILE_NAMES

__all__ = ["golden"]

MIB, GIB = 1 << 20, 1 << 30
GPU = "GPU-8f0e1c2d-0000-4000-8000-000000000001"

FULL = SizingStatus(
    since=datetime.datetime(2026, 9, 21, 14, 13, 20, tzinfo=datetime.UTC),
    watched_seconds=4440.0,
    minutes=74,
    busy_minutes=71,
    enough=True,
    why_not=(),
    headroom=0.25,
    container=ContainerPeak(memory_bytes=2 * GIB, memory_life_bytes=2 * GIB),
    models=(
        ModelPeak(
            "embedder",
            "1",
            memory_bytes=900 * MIB,
            memory_load_bytes=1200 * MIB,
            cpu_cores=1.25,
            shm_bytes=4 * MIB,
            gpu_memory_bytes={GPU: 3 * GIB},
        ),
        ModelPeak("reranker", "2", memory_bytes=300 * MIB),
        ModelPeak("unseen", "1"),
    ),
    proposal=(
        SizeLine("requests.cpu", "2", "Serving came up to 1.6 cores.", "Serving + 25%."),
        SizeLine(
            "limits.cpu",
            None,
            "At its highest it took 4.0 cores.",
            "None: it would.",
            now="none",
            if_demanded="5",
        ),
        SizeLine(
            "requests.memory", "2560Mi", "Serving alone came up to 1.0 GiB.", "As the limit all the same."
        ),
        SizeLine(
            "limits.memory",
            "2560Mi",
            "Its working set came up to 2.0 GiB.",
            "The highest of all + 25%.",
            now="48.0 GiB",
        ),
        SizeLine(
            "limits.nvidia.com/gpu", "1", f"Triton held up to 4.0 GiB on {GPU}.", "As many as now.", now="1"
        ),
        SizeLine("shm.sizeLimit", "64Mi", "Up to 3 MiB of it were in use.", "That + 25%.", now="64 MiB"),
    ),
)
LITTLE = msgspec.structs.replace(
    FULL,
    watched_seconds=54.0,
    minutes=1,
    busy_minutes=1,
    enough=False,
    why_not=("It has watched Triton serve for 54 s: 10 min at least.", "Nobody asked reranker/2. " * 6),
    container=ContainerPeak(memory_bytes=GIB, memory_life_bytes=2 * GIB),
    proposal=tuple(msgspec.structs.replace(each, at_least=True) for each in FULL.proposal),
)


def parsed(sizing: SizingStatus) -> Any:  # noqa: ANN401  (any YAML)
    """What a reader of YAML makes of it."""
    return yaml.safe_load(as_yaml(sizing))


@pytest.mark.parametrize(("name", "sizing"), [("enough", FULL), ("little", LITTLE)])
def test_the_text_is_the_golden_one(golden: Golden, name: str, sizing: SizingStatus) -> None:
    """Byte for byte, as people keep it beside a manifest."""
    golden(f"size/{name}.yaml", f"{as_yaml(sizing)}\n".encode())


@pytest.mark.parametrize("sizing", [FULL, LITTLE])
def test_it_is_resources_mounts_and_volumes(sizing: SizingStatus) -> None:
    """Each where Kubernetes has it; whole numbers are text, as quantities are written."""
    assert parsed(sizing) == {
        "resources": {
            "requests": {"cpu": "2", "memory": "2560Mi"},
            "limits": {"memory": "2560Mi", "nvidia.com/gpu": "1"},
        },
        "volumeMounts": [{"name": "triton-shm", "mountPath": "/dev/shm"}],
        "volumes": [{"name": "triton-shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }


def test_nothing_to_propose_is_comments_alone() -> None:
    """And says why."""
    nothing = SizingStatus(
        None, 0.0, 0, 0, False, ("Triton has not been seen.",), 0.25, ContainerPeak(), (), ()
    )
    assert parsed(nothing) is None
    assert "# - Triton has not been seen." in as_yaml(nothing)
    assert "TOO LITTLE WATCHED TO TELL" in as_yaml(nothing)


@pytest.mark.parametrize(
    "kept", [("limits.cpu",), ("limits.cpu", "requests.memory"), ("shm.sizeLimit",), ("limits.memory",)]
)
def test_what_has_no_value_is_no_key(kept: tuple[str, ...]) -> None:
    """A key without a value would be null, which means something else."""
    some = msgspec.structs.replace(FULL, proposal=tuple(each for each in FULL.proposal if each.what in kept))
    found = parsed(some) or {}
    assert None not in found.values()
    assert None not in found.get("resources", {}).values()


def test_a_volume_without_a_size_is_none() -> None:
    """And so is a GPU that has no count."""
    bare = tuple(
        msgspec.structs.replace(each, value=None)
        for each in FULL.proposal
        if each.what.startswith(("shm", "limits.n"))
    )
    assert parsed(msgspec.structs.replace(FULL, proposal=bare)) is None


def test_no_name_of_a_model_ends_a_comment() -> None:
    """Names are whatever a repository holds; they change no value."""
    models = tuple(
        ModelPeak(each, each[:9], memory_bytes=MIB, gpu_memory_bytes={each: MIB}) for each in HOSTILE_NAMES
    )
    hostile = msgspec.structs.replace(LITTLE, models=models, why_not=HOSTILE_NAMES)
    assert parsed(hostile) == parsed(FULL)
    comments = [line for line in as_yaml(hostile).splitlines() if "alert(1)" in line]
    assert comments
    assert all(line.startswith("#") for line in comments)


def test_of_a_thousand_models_the_largest_are_listed() -> None:
    """The rest is counted."""
    models = tuple(ModelPeak(f"m{index:03d}", "1", memory_bytes=index * MIB) for index in range(30))
    text = as_yaml(msgspec.structs.replace(FULL, models=models))
    assert "m029/1" in text
    assert "m009/1" not in text
    assert text.endswith("# and 10 more")
