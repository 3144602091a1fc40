"""Blocking work that may hang for ever, on real threads and the real clock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from probe.kits.errands import Errand, OutstandingError

SOON = 60.0


@pytest.fixture
def errand() -> Iterator[Errand]:
    """An errand that ends with the test."""
    made = Errand("look-at-it")
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging work waits for; opened when the test ends."""
    opened = threading.Event()
    yield opened
    opened.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most a few seconds."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        await asyncio.sleep(0.005)


async def test_work_is_done_on_one_thread_of_its_own(errand: Errand) -> None:
    """Named, so that a stack dump tells who hangs; idle in between."""
    first, second = [await errand.run(threading.current_thread, SOON) for _ in range(2)]
    assert first is second is not threading.current_thread()
    assert first.name == "look-at-it"
    assert first.daemon
    assert errand.busy_seconds is None


async def test_what_the_work_raises_reaches_who_asked(errand: Errand) -> None:
    """A TimeoutError of its own too, which is no deadline; and the thread goes on."""

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ZeroDivisionError):
        await errand.run(lambda: fail(ZeroDivisionError()), SOON)
    with pytest.raises(TimeoutError, match="mine") as caught:
        await errand.run(lambda: fail(TimeoutError("mine")), SOON)
    assert not isinstance(caught.value, OutstandingError)
    assert await errand.run(lambda: 7, SOON) == 7


async def test_nobody_waits_beyond_the_deadline(errand: Errand, gate: threading.Event) -> None:
    """The loop goes on at once, and is told for how long."""
    with pytest.raises(OutstandingError, match=r"look-at-it has not come back for 0\.1 s") as caught:
        await errand.run(gate.wait, 0.1)
    assert not gate.is_set()
    assert caught.value.seconds == pytest.approx(0.1)


async def test_a_hung_piece_fails_all_further_ones_at_once_and_starts_no_thread(
    errand: Errand, gate: threading.Event
) -> None:
    """They say the age of the hung one; nothing queues up behind it."""
    with pytest.raises(OutstandingError):
        await errand.run(gate.wait, 0.05)
    ran: list[int] = []
    for _ in range(20):
        began = time.monotonic()
        with pytest.raises(OutstandingError) as caught:
            await errand.run(lambda: ran.append(1), SOON)
        assert time.monotonic() - began < SOON / 2
        assert caught.value.seconds >= 0.05
    assert [each.name for each in threading.enumerate()].count(errand.name) == 1
    gate.set()
    await until(lambda: errand.busy_seconds is None)
    assert ran == []


async def test_the_thread_works_again_when_the_hung_piece_came_back(
    errand: Errand, gate: threading.Event
) -> None:
    """Its late answer is nobody's."""
    with pytest.raises(OutstandingError):
        await errand.run(gate.wait, 0.05)
    gate.set()
    await until(lambda: errand.busy_seconds is None)
    assert await errand.run(lambda: "fresh", SOON) == "fresh"


async def test_who_gave_up_waiting_leaves_the_piece_running(errand: Errand, gate: threading.Event) -> None:
    """A cancelled waiter does not free the thread: the work is still on it."""
    waiting = asyncio.create_task(errand.run(gate.wait, SOON))
    await until(lambda: errand.busy_seconds is not None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(OutstandingError):
        await errand.run(lambda: None, SOON)
    gate.set()
    await until(lambda: errand.busy_seconds is None)


async def test_close_waits_for_nobody_and_the_thread_ends(errand: Errand) -> None:
    """After its current piece."""
    thread = await errand.run(threading.current_thread, SOON)
    errand.close()
    await until(lambda: not thread.is_alive())


def test_a_piece_that_outlives_its_loop_has_nobody_to_tell(errand: Errand, gate: threading.Event) -> None:
    """It ends without a word: the loop is closed."""

    async def leave() -> threading.Thread:
        thread = await errand.run(threading.current_thread, SOON)
        with pytest.raises(OutstandingError):
            await errand.run(gate.wait, 0.01)
        return thread

    thread = asyncio.run(leave())
    gate.set()
    errand.close()
    thread.join(SOON)
    assert not thread.is_alive()


def test_the_interpreter_ends_while_a_piece_hangs() -> None:
    """Else the daemon could not leave while a file of /proc never answers."""
    code = """
import asyncio, threading
from probe.kits.errands import Errand, OutstandingError

async def main():
    try:
        await Errand("hang").run(threading.Event().wait, 0.05)
    except OutstandingError:
        print("told")

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True)
    assert ended.stdout == b"told\n"
    assert ended.stderr == b""
