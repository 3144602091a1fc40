from __future__ import annotations

import shutil
import subprocess
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from probe.facts.status import Histogram, Snapshot, Tallies
from probe.surfaces import exposition, metrics
from probe.surfaces.metric_names import METRICS
from testbed.tools import missing
from tests.goldens import Golden
from tests.surfaces.snapshots import EVERYTHING, HOSTILE, finding, initializing, model, snapshot

SNAPSHOTS = {
    "everything": EVERYTHING,
    "hostile": HOSTILE,
    "initializing": initializing(),
    "empty": snapshot(),
}


def samples(seen: Snapshot, content_type: str = exposition.TEXT) -> dict[tuple[str, frozenset[Any]], float]:
    """Every sample by name and labels, as a foreign parser reads it; a double would be told by its count."""
    parse: Any = parse_openmetrics if content_type == exposition.OPENMETRICS else parse_text
    read = [
        ((each.name, frozenset(each.labels.items())), each.value)
        for family in parse(metrics.render(seen, content_type).decode())
        for each in family.samples
    ]
    assert len(read) == len(dict(read))
    return dict(read)


def sample(seen: Snapshot, name: str, **labelled: str) -> float | None:
    """One sample's value, None where it is absent."""
    return samples(seen).get((f"triton_probe_{name}", frozenset(labelled.items())))


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("metrics.txt", exposition.TEXT), ("metrics.openmetrics.txt", exposition.OPENMETRICS)],
)
def test_metrics_are_golden(name: str, content_type: str, golden: Golden) -> None:
    """Names, labels, help and order are a public contract, byte for byte."""
    golden(name, metrics.render(EVERYTHING, content_type))


@pytest.mark.parametrize("case", SNAPSHOTS)
def test_promtool_has_nothing_to_say(case: str) -> None:
    """Prometheus' own linter is silent, whatever models are called."""
    promtool = shutil.which("promtool") or missing("promtool is not installed (Debian package prometheus)")

    linted = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.render(SNAPSHOTS[case]),
        capture_output=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


@pytest.mark.parametrize("case", SNAPSHOTS)
def test_both_formats_say_the_same_to_a_foreign_parser(case: str) -> None:
    """Text and OpenMetrics parse without a double, and carry the same samples."""
    text = samples(SNAPSHOTS[case])
    openmetrics = samples(SNAPSHOTS[case], exposition.OPENMETRICS)

    assert {key: repr(value) for key, value in text.items()} == {
        key: repr(value) for key, value in openmetrics.items()
    }


def test_a_snapshot_that_shows_everything_uses_every_metric() -> None:
    """No metric is declared that nothing can ever fill."""
    body = metrics.render(EVERYTHING).decode()

    assert [each.name for each in METRICS if f"# TYPE {each.name} " not in body] == []


def test_labels_are_the_declared_ones() -> None:
    """Every sample carries exactly the labels that its metric declares."""
    declared = {each.name: set(each.labels) for each in METRICS}
    for name, labelled in samples(EVERYTHING):
        metric = name if name in declared else name.rpartition("_")[0]
        assert {key for key, _ in labelled} - {"le"} == declared[metric], name


def test_what_is_not_known_is_absent() -> None:
    """Unknown is no sample, never a zero."""
    assert sample(EVERYTHING, "model_requests_total", model="bert", version="3", outcome="success") is None
    assert sample(EVERYTHING, "source_up", source="processes") is None
    assert sample(EVERYTHING, "source_up", source="nvml") == 0.0
    assert sample(snapshot(), "container_memory_limit_bytes") is None


def test_a_state_set_is_one_series_a_state() -> None:
    """Exactly one state is 1 and the others are 0, so that none has to be guessed from absence."""
    states = {
        dict(labelled)["state"]: value
        for (name, labelled), value in samples(EVERYTHING).items()
        if name == "triton_probe_model_state" and dict(labelled)["model"] == "resnet"
    }

    assert states == {"ready": 1.0, "loading": 0.0, "unloading": 0.0, "unavailable": 0.0, "unknown": 0.0}


def test_findings_that_share_labels_are_one_series() -> None:
    """Two instances of one model that fail alike are one series with the value 1."""
    seen = snapshot(finding("StubDead", "bert"), finding("StubDead", "bert", message="another."))

    assert sample(seen, "finding", reason="StubDead", severity="critical", model="bert", gpu_uuid="") == 1.0


def test_counters_start_at_zero_before_their_first_event() -> None:
    """A rate over the first finding of a reason is seen, because its counter was there before."""
    assert sample(snapshot(), "findings_total", reason="StubDead") == 0.0
    assert sample(snapshot(), "gate_transitions_total", gate="ready") == 0.0


def test_a_forgotten_models_counters_go() -> None:
    """Exits of a model that nobody speaks of any more are no series."""
    assert sample(EVERYTHING, "stub_exits_total", model="resnet", cause="signal") == 1.0
    assert sample(EVERYTHING, "stub_exits_total", model="gone", cause="unload") is None


def test_gpu_memory_is_told_of_each_gpu_whose_figure_is_known() -> None:
    """One without a figure has no series."""
    single = model()
    spread = msgspec.structs.replace(
        single,
        placement=msgspec.structs.replace(
            single.placement, gpus=("a", "b", "c"), memory_bytes_by_gpu={"a": 1 << 20, "b": 3 << 29}
        ),
    )
    told = snapshot(models=(spread,))

    for uuid, used in (("a", 1 << 20), ("b", 3 << 29), ("c", None)):
        assert sample(told, "model_gpu_memory_bytes", model="resnet", version="1", gpu_uuid=uuid) == used


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    """The memory of stubs is absent where one stub's is not known."""
    whole = model()
    blind = msgspec.structs.replace(
        whole, stubs=(whole.stubs[0], msgspec.structs.replace(whole.stubs[1], rss_bytes=None))
    )

    assert (
        sample(snapshot(models=(whole,)), "model_stub_memory_bytes", model="resnet", version="1") == 400 << 20
    )
    assert sample(snapshot(models=(blind,)), "model_stub_memory_bytes", model="resnet", version="1") is None


@given(st.lists(st.floats(0, 1e6), max_size=30))
def test_histogram_buckets_are_cumulative(values: list[float]) -> None:
    """Buckets count everything at or below their bound, and the last one is the count."""
    observed = Histogram.empty((0.1, 1.0, 10.0))
    for each in values:
        observed = observed.observed(each)
    seen = snapshot(tallies=Tallies(delays={"StubDead": observed}))
    name = "detection_delay_seconds"

    for bound in ("0.1", "1.0", "10.0", "+Inf"):
        below = sum(each <= float(bound) for each in values)
        assert sample(seen, f"{name}_bucket", reason="StubDead", le=bound) == below
    assert sample(seen, f"{name}_count", reason="StubDead") == len(values)
    assert sample(seen, f"{name}_sum", reason="StubDead") == pytest.approx(sum(values))


@given(st.text(max_size=40))
def test_any_name_reads_back_as_it_was(name: str) -> None:
    """Whatever a model is called, a foreign parser reads that name back from OpenMetrics."""
    read = samples(snapshot(models=(model(name),)), exposition.OPENMETRICS)

    assert ("triton_probe_model_ready", frozenset({("model", name), ("version", "1")})) in read


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", exposition.TEXT),
        ("*/*", exposition.TEXT),
        ("text/plain", exposition.TEXT),
        ("application/openmetrics-text", exposition.OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.4,*/*;q=0.2",
            exposition.OPENMETRICS,
        ),
        ("text/html, application/openmetrics-text", exposition.OPENMETRICS),
        ("text/plain;version=1.0.0;escaping=values", exposition.TEXT),
        ("application/openmetrics-text;version=2.0.0;escaping=values", exposition.OPENMETRICS),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str, expected: str) -> None:
    """OpenMetrics is given to those that ask for it, text to everybody else, each in one version only."""
    assert exposition.accepted(accept) == expected


@given(st.text())
@example("application/openmetrics-text; version=one")
@example("text/plain; version=")
def test_any_accept_header_chooses_one_of_the_formats(accept: str) -> None:
    """What clients write into the header raises nothing and is never repeated to them."""
    for header in (accept, f"application/openmetrics-text; version={accept}", f"text/plain; {accept}"):
        assert exposition.accepted(header) in (exposition.TEXT, exposition.OPENMETRICS)


@pytest.mark.parametrize("name", ["gate_", "source_duration_seconds"])
def test_a_sample_that_was_never_declared_is_an_error(name: str) -> None:
    """A misspelt name, or a number where a histogram is declared, is found by its first use."""
    with pytest.raises(KeyError, match=name):
        exposition.Sheet().put(name, ("x",), 1)
