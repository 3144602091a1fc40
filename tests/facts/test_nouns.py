"""Do the nouns say what they are: names, moments, options, exits, counts?"""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.findings import CONTAINER, SERVER, Action, Finding, Severity, Subject, SubjectKind
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.models import InstanceGroup, InstanceKind, ModelVersion
from probe.facts.processes import Exit, ProcessId, ProcessState
from probe.facts.status import Histogram
from probe.facts.triton import Inquiry, TritonReading
from tests.worlds import START, config, ensemble, process, server, stub


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (SERVER, "server"),
        (CONTAINER, "container"),
        (Subject(SubjectKind.MODEL, model="m"), "m"),
        (Subject(SubjectKind.MODEL, model="m", version="2"), "m/2"),
        (Subject(SubjectKind.INSTANCE, model="m", version="2", instance="m_0_1"), "m/2 m_0_1"),
        (Subject(SubjectKind.INSTANCE, model="m", instance="m_0_1"), "m m_0_1"),
        (Subject(SubjectKind.GPU, gpu_uuid="GPU-a"), "GPU-a"),
        (Subject(SubjectKind.PROBE, source="nvml"), "nvml"),
        (Subject(SubjectKind.PROBE), "probe"),
    ],
)
def test_a_subject_has_a_name_for_one_line(subject: Subject, name: str) -> None:
    """As gate bodies print it."""
    assert str(subject) == name


def test_a_subject_leaves_empty_names_out_of_its_json() -> None:
    """``kind`` and what it has."""
    assert msgspec.json.encode(Subject(SubjectKind.MODEL, model="m")) == b'{"kind":"model","model":"m"}'


def test_a_finding_is_one_line() -> None:
    """Reason, subject, message."""
    moment = START.as_datetime()
    finding = Finding(
        "StubDead", Severity.CRITICAL, SERVER, (Gate.READY,), "It died.", "", Action.NONE, {}, moment, moment
    )
    assert finding.line() == "StubDead server: It died."


def test_a_moment_moves_on_both_clocks_and_is_shown_in_utc() -> None:
    """Ordered by the clock that never steps."""
    moment = Instant(10.0, 0.0)
    assert moment.shifted(2.5) == Instant(12.5, 2.5)
    assert moment.shifted(-1) < moment
    assert moment.as_datetime() == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def test_a_version_is_named_with_its_model() -> None:
    """Bare where Triton named none."""
    assert str(ModelVersion("m", "3")) == "m/3"
    assert str(ModelVersion("m", "")) == "m"


@pytest.mark.parametrize(
    ("count", "gpus", "expected"), [(1, (), 1), (3, (), 3), (2, (0,), 2), (2, (0, 1), 4)]
)
def test_a_group_makes_one_instance_a_count_and_a_gpu(
    count: int, gpus: tuple[int, ...], expected: int
) -> None:
    """Without GPUs as many as it counts."""
    assert InstanceGroup("g", InstanceKind.GPU, count, gpus).instances == expected


def test_a_configuration_tells_its_parameters_and_whether_it_is_an_ensemble() -> None:
    """None for a parameter that it has not."""
    own = config("m", parameters={"triton_probe.device": "gpu", "x": ""})
    assert own.parameter("triton_probe.device") == "gpu"
    assert own.parameter("x") == ""
    assert own.parameter("y") is None
    assert not own.ensemble
    assert ensemble("e", "m").ensemble


@pytest.mark.parametrize(
    ("state", "gone"),
    [(each, each in (ProcessState.ZOMBIE, ProcessState.DEAD)) for each in ProcessState],
)
def test_a_zombie_is_gone(state: ProcessState, *, gone: bool) -> None:
    """It only waits for its parent to look."""
    assert process(1, state=state).gone is gone


def test_a_stub_is_its_whole_tree() -> None:
    """Its own pid and those below."""
    assert stub(5, "m_0_0", workers=(6, 7)).pids == {5, 6, 7}


@pytest.mark.parametrize(
    ("options", "last", "every"),
    [
        ((), None, ()),
        (("--load-model=a",), "a", ("a",)),
        (("--load-model", "a"), "a", ("a",)),
        (("--load-model=a", "--load-model", "b"), "b", ("a", "b")),
        (("--load-model=a=b",), "a=b", ("a=b",)),
        (("--load-model",), None, ()),
        (("--load-models=a", "--xload-model=b"), None, ()),
    ],
)
def test_an_option_is_read_in_both_spellings(
    options: tuple[str, ...], last: str | None, every: tuple[str, ...]
) -> None:
    """The last one counts where it is repeated, all where it may be."""
    assert server(*options).option("load-model") == last
    assert server(*options).options("load-model") == every


@pytest.mark.parametrize(
    ("status", "signal", "code"),
    [
        (None, None, None),
        (0, None, 0),
        (9, 9, None),
        (11 | 0x80, 11, None),
        (3 << 8, None, 3),
        (255 << 8, None, 255),
    ],
)
def test_a_wait_status_is_a_signal_or_a_code_or_unknown(
    status: int | None, signal: int | None, code: int | None
) -> None:
    """A core dump's bit is no part of the signal."""
    event = Exit(ProcessId(1, 1), START, status)
    assert (event.signal, event.code) == (signal, code)


def test_an_inquiry_is_empty_or_asks_something() -> None:
    """Triton is not called for nothing."""
    one = (ModelVersion("m", "1"),)
    assert not Inquiry()
    assert all((Inquiry(index=True), Inquiry(configs=one), Inquiry(readiness=one)))


def test_a_poll_without_an_end_ended_when_it_began() -> None:
    """For readings made at once."""
    assert TritonReading(START).ended == START
    assert TritonReading(START, answered=START.shifted(1)).ended == START.shifted(1)


def test_a_histogram_counts_each_value_in_its_first_bound() -> None:
    """A bound includes itself; what is beyond all is counted last."""
    counted = Histogram.empty((0.1, 1.0))
    assert counted.counts == (0, 0, 0)
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        counted = counted.observed(value)
    assert counted.counts == (2, 2, 1)
    assert counted.total == pytest.approx(8.65)


@given(
    bounds=st.lists(st.floats(0, 100), min_size=1, max_size=5, unique=True).map(sorted),
    values=st.lists(st.floats(0, 200), max_size=20),
)
def test_a_histogram_loses_nothing(bounds: list[float], values: list[float]) -> None:
    """Every value is in one slot, and below or at its bound."""
    counted = Histogram.empty(tuple(bounds))
    for value in values:
        counted = counted.observed(value)
    assert sum(counted.counts) == len(values)
    for index, bound in enumerate(bounds):
        assert sum(counted.counts[: index + 1]) == sum(value <= bound for value in values)
