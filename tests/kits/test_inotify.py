"""The inotify queue against this machine's kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.kits import inotify
from probe.kits.inotify import Event, Inotify


@pytest.fixture
def queue() -> Iterator[Inotify]:
    """A queue that is closed at the end."""
    made = Inotify()
    yield made
    made.close()


def readable(queue: Inotify) -> bool:
    """Whether the descriptor says that there is something to read."""
    return bool(select.select([queue.descriptor], [], [], 0)[0])


def test_a_write_to_a_watched_file_is_told(queue: Inotify, tmp_path: Path) -> None:
    """The descriptor becomes readable, and one read brings the event and empties the queue."""
    file = tmp_path / "f"
    file.write_text("1")
    watch = queue.add(bytes(file), inotify.MODIFIED)
    assert not readable(queue)
    with file.open("r+") as opened:
        opened.write("2")
    assert readable(queue)
    assert queue.read() == [Event(watch, inotify.MODIFIED)]
    assert not readable(queue)
    assert queue.read() == []


def test_what_happens_in_a_watched_folder_is_told_by_name(queue: Inotify, tmp_path: Path) -> None:
    """Names of any length come back without the zeros that the kernel fills them up with."""
    watch = queue.add(bytes(tmp_path), inotify.CREATED | inotify.DELETED)
    names = [b"a", b"b" * 15, b"c" * 16, b"d" * 255]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / "a").unlink()
    told = [Event(watch, inotify.CREATED, name) for name in names]
    assert queue.read() == [*told, Event(watch, inotify.DELETED, b"a")]


def test_a_file_that_is_deleted_ends_its_watch(queue: Inotify, tmp_path: Path) -> None:
    """The kernel says so, and a removal of that watch afterwards is no error."""
    file = tmp_path / "f"
    file.touch()
    watch = queue.add(bytes(file), inotify.MODIFIED | inotify.DELETED_SELF)
    file.unlink()
    assert [each.mask for each in queue.read()] == [inotify.DELETED_SELF, inotify.ENDED]
    queue.remove(watch)


def test_a_watch_that_is_removed_tells_only_that_it_ended(queue: Inotify, tmp_path: Path) -> None:
    """Whatever happens to the file from then on."""
    file = tmp_path / "f"
    file.touch()
    watch = queue.add(bytes(file), inotify.MODIFIED)
    queue.remove(watch)
    file.write_text("2")
    assert queue.read() == [Event(watch, inotify.ENDED)]


def test_a_file_that_is_not_there_is_an_error_with_its_name(queue: Inotify, tmp_path: Path) -> None:
    """As with ``open``."""
    with pytest.raises(FileNotFoundError) as failed:
        queue.add(bytes(tmp_path / "none"), inotify.MODIFIED)
    assert failed.value.filename == bytes(tmp_path / "none")


def test_no_queue_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node on which other programs use up the instances says EMFILE."""

    class Refusing:
        """A libc that gives no queue."""

        def inotify_init1(self, flags: int) -> int:
            assert flags & os.O_NONBLOCK
            ctypes.set_errno(errno.EMFILE)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    with pytest.raises(OSError, match="Too many open files") as refused:
        Inotify()
    assert refused.value.errno == errno.EMFILE


def test_closing_twice_is_the_same_as_once() -> None:
    """And the descriptor is given back."""
    queue = Inotify()
    descriptor = queue.descriptor
    queue.close()
    queue.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
