"""The one edit of `audit --fix`: a line more, and every other byte as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import InstanceKind
from probe.sources.repository import fixing
from probe.sources.repository.configs import ConfigError, parse
from probe.sources.repository.fixing import Edit, FixError, propose, write

LINE = "instance_group [ { count: 1 kind: KIND_GPU } ]"


def fixed(path: Path, raw: bytes) -> bytes:
    """What becomes of a file of these bytes."""
    path.write_bytes(raw)
    write(propose(str(path), LINE))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"<line>\n"),
        (b'name: "m"\n', b'name: "m"\n<line>\n'),
        (b'name: "m"', b'name: "m"\n<line>'),
        (b'name: "m"\r\n', b'name: "m"\r\n<line>\r\n'),
        (b'name: "m"\r\n# the end', b'name: "m"\r\n# the end\r\n<line>'),
        (b"# caf\xe9\n\n\n", b"# caf\xe9\n\n\n<line>\n"),
        (b'name: "m"; shiny { new: 1 },\n\t', b'name: "m"; shiny { new: 1 },\n\t\n<line>'),
        (b"instance_group [ ]\n", b"instance_group [ ]\n<line>\n"),
    ],
)
def test_a_line_is_added_and_nothing_else_changes(tmp_path: Path, before: bytes, after: bytes) -> None:
    """Behind the last line, with the file's own line ends; comments, odd bytes and odd fields stay."""
    assert fixed(tmp_path / "config.pbtxt", before) == after.replace(b"<line>", LINE.encode())


_PARTS = st.sampled_from(
    (
        b'name: "m"',
        b"# a comment",
        b"max_batch_size: 8",
        b"",
        b"   ",
        b'input [ { name: "x" # here\n dims: [ -1 ] } ]',
        b'parameters { key: "a" value { string_value: "b # no comment" } }',
        b"unheard_of: 5",
        b"\tbackend: 'caf\xe9' ;",
    )
)


@given(st.lists(_PARTS, unique=True), st.sampled_from((b"\n", b"\r\n")), st.booleans())
def test_a_fixed_file_says_the_same_and_the_group(parts: list[bytes], end: bytes, ended: bool) -> None:  # noqa: FBT001
    """Its bytes begin with the old ones, its message differs by the group alone, and it is fixed only once."""
    raw = end.join(parts) + (end if ended else b"")
    try:
        before = parse(raw)
    except ConfigError:
        return  # nothing but unheard-of fields
    after = fixing._appended(raw, LINE)
    told = parse(after)

    assert after.startswith(raw)
    assert after.replace(LINE.encode(), b"").strip() == raw.strip()
    assert [each.kind for each in told.groups] == [InstanceKind.GPU]
    assert (told.name, told.backend, told.parameters, told.unknown) == (
        before.name,
        before.backend,
        before.parameters,
        before.unknown,
    )


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"name: ${name}", "expected a value"),
        (b"instance_group { count: 1 }", "would not read the same"),
        (b"\xef\xbb\xbf", "byte order mark"),
    ],
)
def test_what_can_not_be_edited_safely_is_left(tmp_path: Path, raw: bytes, told: str) -> None:
    """A file that is no configuration, and one that has a group already."""
    path = tmp_path / "config.pbtxt"
    path.write_bytes(raw)

    with pytest.raises(FixError, match=told):
        propose(str(path), LINE)
    assert path.read_bytes() == raw


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As any other that can not be read."""
    with pytest.raises(FixError, match="no such file"):
        propose(str(tmp_path / "none"), LINE)


def test_a_link_stays_and_its_target_keeps_its_mode(tmp_path: Path) -> None:
    """And nothing is left beside it."""
    target = tmp_path / "real.pbtxt"
    target.write_bytes(b'name: "m"\n')
    target.chmod(0o640)
    link = tmp_path / "folder" / "config.pbtxt"
    link.parent.mkdir()
    link.symlink_to(target)
    write(propose(str(link), LINE))

    assert link.is_symlink()
    assert target.read_bytes().endswith(f"{LINE}\n".encode())
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "real.pbtxt"]


def test_a_file_that_changed_meanwhile_is_left(tmp_path: Path) -> None:
    """Somebody's work is worth more than a line."""
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b'name: "m"\n')
    edit = propose(str(path), LINE)
    path.write_bytes(b'name: "other"\n')

    with pytest.raises(FixError, match="changed by somebody else"):
        write(edit)
    assert path.read_bytes() == b'name: "other"\n'


def test_a_write_that_fails_leaves_the_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file takes the old one's place at once, or is taken away."""
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FixError, match="can not be written: no space left on device"):
        write(Edit(str(path), b"", b"x"))
    assert [each.name for each in tmp_path.iterdir()] == ["config.pbtxt"]
    assert path.read_bytes() == b""
