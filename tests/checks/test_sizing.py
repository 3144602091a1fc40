"""Is the proposal one that holds, without waste, and does it say what it rests on?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.container.manifest import quantity
from probe.checks.sizing.memory import SHM_LEAST_BYTES, memory_lines, peak_bytes, shm_line
from probe.checks.sizing.processors import cpu_lines, gpu_line
from probe.checks.sizing.quantities import rounded_bytes, span
from probe.facts.container import ContainerReading, CpuUse, Limit, MemoryUse, ShmUse
from probe.facts.sizing import ModelPeak, SizeLine
from probe.kits.quantities import parse_size
from probe.ledgers.container_peaks import ContainerPeaks
from probe.ledgers.levels import Level, Tops
from tests.worlds import GIB, MIB, at

SIZES = st.integers(300 * MIB, 4 << 40)
ANY_SIZE = st.integers(0, 4 << 40)


def level(serving: float | None = None, load: float | None = None) -> Level:
    """One that came up to this in one minute of requests, and while a model was loading."""
    return Level(load=load, busy=Tops() if serving is None else Tops().with_slot(serving))


def reading(
    memory: int | None = None,
    cpu: float | None = None,
    shm: int | None = None,
    *,
    limited: bool = True,
    node: int | None = None,
) -> ContainerReading:
    """The limits that are set now."""
    return ContainerReading(
        at(0),
        memory=MemoryUse(Limit(memory, "memory.max") if limited else None),
        cpu=CpuUse(Limit(cpu, "cpu.max") if limited else None),
        shm=None if shm is None else ShmUse(shm, 0),
        node_memory_bytes=node,
    )


def memory(peaks: ContainerPeaks, now: ContainerReading | None = None) -> dict[str, SizeLine]:
    """The lines on memory."""
    return {each.what: each for each in memory_lines(peaks, now)}


def amount(line: SizeLine | None) -> int:
    """The bytes of a line's value."""
    assert line is not None
    assert line.value is not None
    return parse_size(line.value)


def cores(line: SizeLine) -> float:
    """The cores of a line's value, or of what to write where one is demanded."""
    text = line.value or line.if_demanded or ""
    return int(text[:-1]) / 1000 if text.endswith("m") else int(text)


# Memory


def test_of_memory_that_was_never_read_nothing_is_proposed() -> None:
    """Also where the kernel's peak alone is known."""
    assert memory(ContainerPeaks(earlier_bytes=GIB)) == {}
    assert peak_bytes(ContainerPeaks(earlier_bytes=GIB)) is None


@given(SIZES, SIZES, st.none() | SIZES)
def test_memory_holds_the_highest_of_all_with_moderate_headroom(
    serving: int, load: int, earlier: int | None
) -> None:
    """Never below what was seen, loads too, and never twice as much; the request is the limit."""
    lines = memory(ContainerPeaks(memory=level(serving, load), earlier_bytes=earlier))
    highest = max(serving, load, earlier or 0)
    assert 1.25 * highest <= amount(lines["limits.memory"]) <= 1.35 * highest + MIB
    assert lines["requests.memory"].value == lines["limits.memory"].value
    assert not lines["limits.memory"].at_least


@given(ANY_SIZE, ANY_SIZE)
def test_more_is_never_answered_with_less(one: int, other: int) -> None:
    """Monotone in what was seen."""
    low, high = sorted((one, other))
    assert amount(memory(ContainerPeaks(memory=level(low)))["limits.memory"]) <= amount(
        memory(ContainerPeaks(memory=level(high)))["limits.memory"]
    )


def test_the_lines_say_what_serving_took_and_what_a_load_took() -> None:
    """The limit follows the load, and the reader sees both."""
    peaks = ContainerPeaks(memory=level(GIB, 2 * GIB), witness_bytes=5 * GIB)
    lines = memory(peaks, reading(8 * GIB))
    assert lines["limits.memory"].value == "2560Mi"
    assert lines["limits.memory"].figure == (
        "Its working set came up to 2.0 GiB (2.0 GiB while a model was loading); with all file cache to 5.0 GiB."
    )
    assert "load of a model too" in lines["limits.memory"].reason
    assert "What lies in /dev/shm is in this figure." in lines["limits.memory"].reason
    assert lines["limits.memory"].now == "8.0 GiB"
    assert lines["requests.memory"].figure == "Serving alone came up to 1.0 GiB."
    assert memory(ContainerPeaks(memory=level(None, GIB)))["requests.memory"].figure == "No serving was seen."


def test_what_was_before_the_first_look_is_named() -> None:
    """It is an estimate, and says of what."""
    line = memory(ContainerPeaks(memory=level(GIB), earlier_bytes=2 * GIB))["limits.memory"]
    assert line.value == "2560Mi"
    assert "before the probe looked to 2.0 GiB, by the kernel's peak less the file cache then" in line.figure


@pytest.mark.parametrize(
    ("now", "expected"), [(reading(None), "none"), (reading(limited=False), None), (None, None)]
)
def test_no_limit_and_an_unreadable_one_are_different(
    now: ContainerReading | None, expected: str | None
) -> None:
    """What is set now is told as it is."""
    assert memory(ContainerPeaks(memory=level(GIB)), now)["limits.memory"].now == expected


@pytest.mark.parametrize(
    ("peaks", "now", "value", "why"),
    [
        # Killed at its own limit: the looks missed what it took.
        (
            ContainerPeaks(memory=level(GIB), witness_bytes=2 * GIB, oom_kills=1),
            reading(2 * GIB),
            "3Gi",
            "killed a process here",
        ),
        # Killed for want of memory on the node: the limit says nothing.
        (
            ContainerPeaks(memory=level(GIB), witness_bytes=GIB, oom_kills=3),
            reading(48 * GIB),
            "1536Mi",
            "killed 3 processes here",
        ),
        # The kernel keeps no peak: it may have been the limit.
        (ContainerPeaks(memory=level(GIB), oom_kills=1), reading(2 * GIB), "3Gi", "killed a process here"),
        # A limit above the node's memory held nothing down.
        (
            ContainerPeaks(memory=level(GIB), oom_kills=1),
            reading(64 * GIB, node=32 * GIB),
            "1536Mi",
            "killed a process here",
        ),
        (ContainerPeaks(memory=level(GIB), oom_kills=3), None, "1536Mi", "killed 3 processes here"),
        (ContainerPeaks(memory=level(GIB)), reading(GIB), "1536Mi", "The limit of 1.0 GiB was reached."),
    ],
)
def test_what_a_limit_held_down_is_a_guess(
    peaks: ContainerPeaks, now: ContainerReading | None, value: str, why: str
) -> None:
    """More than was seen, and it says so."""
    line = memory(peaks, now)["limits.memory"]
    assert (line.value, line.at_least) == (value, True)
    assert why in line.reason
    assert "is a guess" in line.reason


def test_the_limit_of_all_pods_together_is_none_of_its_own() -> None:
    """A BestEffort container is told to have none, as MemoryUnlimited tells it."""
    limit = Limit(8 * GIB, "/sys/fs/cgroup/kubepods.slice/memory.max")
    now = ContainerReading(at(0), memory=MemoryUse(limit), node_memory_bytes=9 * GIB)
    line = memory(ContainerPeaks(memory=level(7.9 * GIB)), now)["limits.memory"]
    assert (line.now, line.at_least) == ("none", False)


def test_more_than_the_node_has_is_said() -> None:
    """It is proposed all the same: that is what was taken."""
    line = memory(ContainerPeaks(memory=level(7 * GIB)), reading(node=8 * GIB))["limits.memory"]
    assert "The node has 8.0 GiB." in line.reason
    assert (
        "node has"
        not in memory(ContainerPeaks(memory=level(GIB)), reading(node=8 * GIB))["limits.memory"].reason
    )


# /dev/shm


def shm(
    peak: float | None, regions: int = 2, growth: int = 2 * MIB, now: ContainerReading | None = None
) -> SizeLine | None:
    """The line on /dev/shm, or none."""
    return next(iter(shm_line(ContainerPeaks(shm=level(peak)), now, regions, growth)), None)


def test_without_stubs_and_use_no_volume_is_proposed() -> None:
    """Nor where its use can not be seen."""
    assert shm(0, regions=0, growth=0) is None
    assert shm(None) is None
    assert shm(0) is not None


@given(SIZES, st.integers(0, 1000), st.sampled_from([MIB, 64 * MIB]))
def test_shm_holds_its_use_and_never_twice_as_much(peak: int, regions: int, step: int) -> None:
    """With a step of each region where that leaves it within bounds."""
    value = amount(shm(peak, regions, regions * step))
    assert peak <= value <= 2 * peak
    assert value >= min(1.25 * peak + regions * step, 2 * peak - MIB)


def test_shm_of_little_is_what_every_runtime_gives() -> None:
    """A few regions of 1 MiB."""
    line = shm(3 * MIB, now=reading(shm=256 * MIB))
    assert amount(line) == SHM_LEAST_BYTES
    assert line is not None
    assert line.now == "256 MiB"
    assert "charged to the memory of the container" in line.reason


def test_shm_is_never_proposed_so_small_that_it_would_be_too_small() -> None:
    """Steps that are larger than all that was in use."""
    line = next(iter(shm_line(ContainerPeaks(shm=level(4 * MIB)), None, 4, 256 * MIB, 260 * MIB)))
    assert 260 * MIB <= amount(line) <= 1.1 * 260 * MIB
    assert "Once each has grown, they need 260 MiB in all." in line.reason
    assert "Once each" not in shm_reason(64 * MIB, 66 * MIB)


def shm_reason(peak: int, needed: int) -> str:
    """Why this size, with steps of 2 MiB."""
    return next(iter(shm_line(ContainerPeaks(shm=level(peak)), None, 2, 2 * MIB, needed))).reason


def test_a_full_shm_is_a_guess() -> None:
    """Nobody saw what the regions would have taken."""
    line = shm(126 * MIB, 2, 2 * MIB, reading(shm=128 * MIB))
    assert line is not None
    assert line.at_least
    assert 126 * 1.5 * MIB <= amount(line) <= 252 * MIB


# CPU


def cpu(peaks: ContainerPeaks, now: ContainerReading | None = None) -> dict[str, SizeLine]:
    """The lines on CPU."""
    return {each.what: each for each in cpu_lines(peaks, now)}


def test_of_cpu_that_was_never_seen_nothing_is_proposed() -> None:
    """And of one that was seen in loads alone no request."""
    assert cpu(ContainerPeaks()) == {}
    lines = cpu(ContainerPeaks(cores=level(None, 4.0)))
    assert list(lines) == ["limits.cpu"]
    assert cores(lines["limits.cpu"]) == 5.0


@given(st.floats(0.1, 512), st.floats(0, 512))
def test_the_request_follows_serving_and_no_load(serving: float, load: float) -> None:
    """Never below, never twice as much; a limit is not proposed, and the one to write is above all."""
    lines = cpu(ContainerPeaks(cores=level(serving, load)))
    assert 1.25 * serving <= cores(lines["requests.cpu"]) + 1e-9
    assert cores(lines["requests.cpu"]) <= 2 * serving
    assert lines["limits.cpu"].value is None
    assert cores(lines["limits.cpu"]) >= max(serving, load)


def test_a_load_that_reached_the_limit_makes_no_guess_of_serving() -> None:
    """Frameworks compile on every core that they get."""
    lines = cpu(ContainerPeaks(cores=level(1.0, 4.0)), reading(cpu=4.0))
    assert (lines["requests.cpu"].value, lines["requests.cpu"].at_least) == ("1300m", False)
    assert lines["limits.cpu"].at_least


def test_a_triton_at_rest_asks_for_a_little() -> None:
    """A tenth of a core."""
    assert cpu(ContainerPeaks(cores=level(0.0)))["requests.cpu"].value == "100m"


def test_the_line_names_spikes_and_loads_that_it_does_not_follow() -> None:
    """Two minutes of forty."""
    tops = Tops()
    for each in [1.0] * 38 + [6.0, 5.0]:
        tops = tops.with_slot(each)
    line = cpu(ContainerPeaks(cores=Level(load=4.0, busy=tops)))["requests.cpu"]
    assert line.value == "1300m"
    assert line.figure == (
        "Serving came up to 1.0 cores, loading to 4.0 cores, spikes of at most two minutes to 6.0 cores."
    )


@pytest.mark.parametrize(
    ("peaks", "why"),
    [
        (ContainerPeaks(cores=level(1.0), throttled_looks=10, rated_looks=100), "in 10 of 100 looks"),
        (ContainerPeaks(cores=level(2.0)), "CPU limit of 2.0 cores was reached"),
    ],
)
def test_cpu_that_a_limit_held_down_is_a_guess(peaks: ContainerPeaks, why: str) -> None:
    """More than was seen, and it says so."""
    lines = cpu(peaks, reading(cpu=2.0))
    assert lines["requests.cpu"].at_least
    assert why in lines["requests.cpu"].reason
    assert lines["limits.cpu"].now == "2.0 cores"


@pytest.mark.parametrize(
    ("now", "expected"), [(reading(cpu=None), "none"), (reading(limited=False), None), (None, None)]
)
def test_no_cpu_limit_and_an_unreadable_one_are_different(
    now: ContainerReading | None, expected: str | None
) -> None:
    """What is set now is told as it is; a few throttled looks are no measure."""
    lines = cpu(ContainerPeaks(cores=level(1.0), throttled_looks=1, rated_looks=100), now)
    assert (lines["limits.cpu"].now, lines["requests.cpu"].at_least) == (expected, False)


# GPUs


def gpus(
    given_now: int | None = None,
    held: dict[str, int] | None = None,
    *models: ModelPeak,
    divided: bool = False,
) -> SizeLine | None:
    """The line on GPUs, or none."""
    return next(iter(gpu_line(given_now, held or {}, models, divided=divided)), None)


def test_without_a_gpu_none_is_asked_for() -> None:
    """No line."""
    assert gpus() is None


def test_gpus_are_as_many_as_triton_has_and_say_who_holds_what() -> None:
    """The largest first, and not all of a thousand."""
    models = [ModelPeak(f"m{i}", "1", gpu_memory_bytes={"GPU-a": (5 - i) * GIB}) for i in range(5)]
    line = gpus(2, {"GPU-a": 16 * GIB, "GPU-b": GIB}, *models)
    assert line is not None
    assert line.value == "2"
    assert line.figure == (
        "Triton held up to 16.0 GiB on GPU-a (m0/1 5.0 GiB, m1/1 4.0 GiB, m2/1 3.0 GiB and 2 more); "
        "up to 1.0 GiB on GPU-b."
    )
    assert line.reason.endswith("Each has to have 20.0 GiB for Triton alone: the most on one + 25%.")


def test_gpus_whose_memory_can_not_be_told_are_counted_all_the_same() -> None:
    """By what Triton was given."""
    line = gpus(1)
    assert line is not None
    assert (line.value, line.figure) == ("1", "What Triton holds on them can not be told here.")
    assert line.reason.endswith("They are given whole.")


def test_a_mig_device_is_no_gpu_to_ask_for() -> None:
    """Its profile is not known here."""
    line = gpus(1, {"MIG-a": GIB}, divided=True)
    assert line is not None
    assert line.value is None
    assert "by their profile" in line.reason


# Quantities


@given(st.floats(0, 1 << 50))
def test_a_rounded_size_is_a_quantity_of_kubernetes_that_holds_it(figure: float) -> None:
    """A sixteenth more at most, or one MiB."""
    rounded = rounded_bytes(figure)
    assert parse_size(quantity(rounded)) == rounded
    assert figure <= rounded <= figure * 1.0626 + MIB


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (75, "1 min 15 s"), (7260, "2 h 1 min")],
)
def test_spans_are_for_people(seconds: float, text: str) -> None:
    """Two units at most."""
    assert span(seconds) == text
