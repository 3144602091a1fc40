"""The ledger of GPUs: what the driver reported, by GPU and code."""

from __future__ import annotations

from tests.worlds import World


def test_xids_are_counted_by_gpu_and_code() -> None:
    """Each with when it came first and last; another GPU has its own."""
    world = World().xid(31).later(5.0).xid(31).xid(79, "GPU-b")
    told = world.book.gpus.of("GPU-a")
    assert told.keys() == {31}
    assert told[31].count == 2
    assert told[31].last.mono - told[31].first.mono == 6.0  # a word of the world takes a second
    assert world.book.gpus.of("GPU-b")[79].count == 1
    assert world.book.gpus.of("GPU-c") == {}
