"""The bench of OOM kills kills, and says when and why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import oom
from bench.deployment import deployed
from bench.harness import BenchError, Measured, Result
from probe.sandbox.wheel import TritonInstallation


@pytest.fixture
def cage() -> Iterator[oom.Cage]:
    """A real cgroup with a memory controller, as far as this machine grants one."""
    try:
        with oom.caged() as made:
            yield made
    except BenchError as refused:
        pytest.skip(str(refused))


def by_name(measured: list[Measured]) -> dict[str, Result]:
    """Results by what they are."""
    return {each.name: each for each in measured if isinstance(each, Result)}


def test_a_stub_is_killed_for_want_of_memory_and_named(
    pods_work: None, triton_installation: TritonInstallation, cage: oom.Cage
) -> None:
    """One kill by the kernel, one death with its cause, and the time between them."""
    with deployed() as made:
        oom.prepare(made, cage)
        results = by_name(oom.measure(made, cage, 1))
        assert cage.kills() == 1
    assert 0 < results["OOM kill to StubDead"].figure < 20_000
    assert results["OOM kill to StubDead"].budget == 250.0
    assert results["deaths not laid to want of memory, of 1"].met
    assert results["OOM kill to the victim's exit, which is the kernel's"].figure > 0


def test_a_cgroup_of_the_bench_is_gone_afterwards(cage: oom.Cage) -> None:
    """It counts nothing at first, and closing it removes it."""
    cage.limit(64)
    assert cage.kills() == 0
    assert cage.directory.is_dir()
