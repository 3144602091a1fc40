"""The kernel's events on files and folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from probe.kits import inotify
from probe.kits.inotify import Inotify
from testbed.tools import until


def test_events_come_with_their_watch_their_mask_and_their_name(tmp_path: Path) -> None:
    """A name of any bytes; what happened in one read, in its order."""
    queue = Inotify.open()
    try:
        watch = queue.add(os.fsencode(tmp_path), inotify.CREATE | inotify.DELETE)
        assert queue.read() == []
        name = b"region \xff"
        path = os.fsencode(tmp_path) + b"/" + name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        Path(os.fsdecode(path)).unlink()
        assert queue.read() == [(watch, inotify.CREATE, name), (watch, inotify.DELETE, name)]
        assert queue.read() == []
    finally:
        queue.close()


def test_a_watch_that_ended_says_so_and_tells_nothing_more(tmp_path: Path) -> None:
    """By our own will, twice without harm, or because the folder went."""
    queue = Inotify.open()
    try:
        watch = queue.add(os.fsencode(tmp_path), inotify.CREATE)
        queue.remove(watch)
        queue.remove(watch)
        (tmp_path / "a").touch()
        assert queue.read() == [(watch, inotify.IGNORED, b"")]
        folder = tmp_path / "folder"
        folder.mkdir()
        second = queue.add(os.fsencode(folder), inotify.CREATE)
        folder.rmdir()
        assert queue.read() == [(second, inotify.IGNORED, b"")]
    finally:
        queue.close()


@pytest.mark.parametrize(
    ("name", "flags", "code"),
    [
        ("missing", 0, errno.ENOENT),
        ("file", inotify.ONLY_FOLDER, errno.ENOTDIR),
        ("link", inotify.ONLY_FOLDER | inotify.NO_FOLLOW, errno.ENOTDIR),
    ],
)
def test_what_can_not_be_watched_is_an_error_of_the_kernels(
    tmp_path: Path, name: str, flags: int, code: int
) -> None:
    """With its own code."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    queue = Inotify.open()
    try:
        with pytest.raises(OSError) as failed:  # noqa: PT011  (the code is the expectation)
            queue.add(os.fsencode(tmp_path / name), inotify.CREATE | flags)
        assert failed.value.errno == code
    finally:
        queue.close()


def test_a_flood_is_read_in_pieces_and_loses_nothing_unsaid(tmp_path: Path) -> None:
    """Events are read by a bounded buffer, and the rest is there at the next read."""
    queue = Inotify.open()
    try:
        queue.add(os.fsencode(tmp_path), inotify.CREATE)
        for number in range(5000):
            (tmp_path / f"{number:032d}").touch()
        found: list[bytes] = []

        def complete() -> bool:
            found.extend(name for _, _, name in queue.read())
            return len(found) >= 5000

        assert not complete()
        until(complete)
        assert found == [b"%032d" % number for number in range(5000)]
    finally:
        queue.close()


def test_closing_twice_is_the_same_as_once() -> None:
    """A closed queue watches nothing."""
    queue = Inotify.open()
    queue.close()
    queue.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.add(b"/", inotify.CREATE)
