"""Is what images are made of kept by what it was made of, and made once?"""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.images import cache
from testbed.images.cache import UnobtainableError, digest, kept, told


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr(cache, "_FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


def made(scratch: Path) -> Path:
    """Something to be kept."""
    (scratch / "left").write_text("over")
    (scratch / "thing").write_text("made")
    return scratch / "thing"


def test_a_thing_is_made_once_and_nothing_else_is_left(folder: Path) -> None:
    """What its making left lying about goes with its folder."""
    first = kept("thing", "1", made)

    def again(_: Path) -> Path:
        raise AssertionError("it was made twice")

    assert kept("thing", "1", again) == first
    assert first.read_text() == "made"
    assert {each.name for each in folder.iterdir()} == {"lock.thing", "thing-1"}


def test_what_could_not_be_made_is_tried_again(folder: Path) -> None:
    """A failure leaves nothing behind that looks like the thing."""

    def failing(scratch: Path) -> Path:
        made(scratch)
        raise UnobtainableError("no network")

    with pytest.raises(UnobtainableError):
        kept("thing", "1", failing)
    assert {each.name for each in folder.iterdir()} == {"lock.thing"}
    assert kept("thing", "1", made).read_text() == "made"


def test_old_things_of_a_kind_go(folder: Path) -> None:
    """The newest stay, and other kinds are not touched."""
    kept("other", "1", made)
    for key in ("1", "2", "3"):
        kept("thing", key, made)
    assert len(list(folder.glob("thing-*"))) == 2
    assert (folder / "thing-3").exists()
    assert (folder / "other-1").exists()


def test_another_content_is_another_key(tmp_path: Path) -> None:
    """As is another word, or the same content under another name."""
    file = tmp_path / "a"
    file.write_text("one")
    first = digest(["word"], [file])
    assert digest(["word"], [file]) == first
    assert digest(["other"], [file]) != first
    file.write_text("two")
    assert digest(["word"], [file]) != first


def test_a_program_that_fails_is_told_in_its_own_words() -> None:
    """A tool that is not there as well as one that could not fetch."""
    with pytest.raises(UnobtainableError, match=r"fetching:\nno route"):
        told(["sh", "-c", "echo no route >&2; exit 1"], "fetching")
    with pytest.raises(UnobtainableError, match=r"fetching: .*No such file"):
        told(["no-such-program"], "fetching")
