"""Whatever a manifest looks like: is exactly ours added, and does it come out again byte for byte?"""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.facts.wiring import ANNOTATION, CONTAINER, SHM_VOLUME
from probe.manifests.injecting import Fate, inject, take_out
from probe.manifests.streams import Stream
from probe.manifests.wishes import Existing, GateProbe, Native, Nvml, Wishes
from probe.manifests.workloads import Workload, workload
from tests.manifest_styles import deployments, written

WISHES = st.builds(
    Wishes,
    gates=st.lists(st.sampled_from(GateProbe), unique=True).map(tuple),
    existing=st.sampled_from(Existing),
    native=st.sampled_from(Native),
    shm=st.sampled_from([None, "2Gi"]),
    port=st.sampled_from([8003, 9003]),
    nvml=st.sampled_from(Nvml),
)
STYLED = deployments().flatmap(lambda value: st.tuples(st.just(value), written(value)))
PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)


def work_of(value: dict[str, Any]) -> Workload:
    """The workload of an object that is one."""
    work = workload(value)
    assert work is not None
    return work


def without_ours(value: dict[str, Any], before: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    """The injected object with everything taken out by its names, as somebody would who knows them."""
    value = copy.deepcopy(value)
    spec, old = value["spec"]["template"]["spec"], before["spec"]["template"]["spec"]
    metadata = value["metadata"]
    assert metadata["annotations"].pop(ANNOTATION)
    _as_before(metadata, before["metadata"], "annotations")
    for key, name in (("containers", CONTAINER), ("initContainers", CONTAINER), ("volumes", SHM_VOLUME)):
        if spec.get(key) is not None:
            spec[key] = [each for each in spec[key] if not isinstance(each, dict) or each.get("name") != name]
        _as_before(spec, old, key)
    if wishes.nvml is Nvml.CLASS:
        assert spec.pop("runtimeClassName") == "nvidia"
    if spec["shareProcessNamespace"] is True and old.get("shareProcessNamespace") is None:
        spec["shareProcessNamespace"] = None
        _as_before(spec, old, "shareProcessNamespace", empty=(None,))
    for each, was in zip(spec["containers"], old["containers"], strict=True):
        if each["name"] != "server":
            continue
        if each.get("volumeMounts") is not None:
            each["volumeMounts"] = [mount for mount in each["volumeMounts"] if mount["name"] != SHM_VOLUME]
        _as_before(each, was, "volumeMounts")
        for gate in wishes.gates:
            if not was.get(gate.key) or wishes.existing is Existing.REPLACE:
                assert each[gate.key]["httpGet"] == {"path": gate.timing.path, "port": wishes.port}
                each[gate.key] = {}
                _as_before(each, was, gate.key, always=True)
    return value


def _as_before(
    value: dict[str, Any],
    before: dict[str, Any],
    key: str,
    *,
    empty: tuple[Any, ...] = ([], {}),
    always: bool = False,
) -> None:
    """What is empty without ours is what it was before."""
    if key in value and (always or value[key] in empty):
        if key in before:
            value[key] = before[key]
        else:
            del value[key]


@PATIENT
@given(STYLED, WISHES)
def test_exactly_ours_is_added(styled: tuple[dict[str, Any], str], wishes: Wishes) -> None:
    """The result reads as the input, and the sidecar with what belongs to it besides."""
    value, text = styled
    assert yaml.safe_load(text) == value
    outcome = inject(text, work_of(value), wishes)

    assert outcome.fate is Fate.INJECTED
    after = yaml.safe_load(outcome.text)
    pod = after["spec"]["template"]["spec"]
    native = wishes.native is Native.ALWAYS
    assert [each["name"] for each in pod["initContainers" if native else "containers"]][-1] == CONTAINER
    assert without_ours(after, value, wishes) == value


@PATIENT
@given(STYLED, WISHES, WISHES)
def test_it_comes_out_again_byte_for_byte(
    styled: tuple[dict[str, Any], str], wishes: Wishes, others: Wishes
) -> None:
    """Removed, it is the input; twice is once; and with other options it is as if they had been the first."""
    value, text = styled
    work = work_of(value)
    once = inject(text, work, wishes).text

    assert take_out(once, work).text == text
    assert inject(once, work, wishes).text == once
    assert inject(once, work, others).text == inject(text, work, others).text


@PATIENT
@given(STYLED)
def test_nothing_of_the_input_is_rewritten(styled: tuple[dict[str, Any], str]) -> None:
    """Where no probe is replaced, things are only put in: every character but those of a null is still there."""
    value, text = styled
    after = iter(inject(text, work_of(value), Wishes()).text)

    assert all(each in after for each in text.replace("null", ""))


@PATIENT
@given(st.lists(STYLED, min_size=1, max_size=3), st.sampled_from(["ConfigMap", "Service", "Widget"]))
def test_other_documents_are_not_touched(styled: list[tuple[dict[str, Any], str]], kind: str) -> None:
    """In a stream, each document is edited by itself, and those of other kinds stay."""
    other = f"# {kind}\napiVersion: v1\nkind:   {kind}\nmetadata: {{name: x}}\ndata: {{a: |b}}\n".replace(
        "|b", "'b'"
    )
    parts = [each.removeprefix("---\r\n").removeprefix("---\n").rstrip("\r\n") for _, each in styled]
    text = "".join(f"{other}---\n{each}\n---\n" for each in parts)
    after, reports = Stream(text).edited(lambda part, work: inject(part, work, Wishes()))

    assert after.count(other) == len(parts)
    assert [each.fate for each in reports] == [Fate.INJECTED] * len(parts)
    assert Stream(after).edited(take_out)[0] == text
