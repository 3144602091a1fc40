"""Where bases, wheels and images are kept, by the digest of what they were made of."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import probe

CHECKOUT = Path(probe.__file__).resolve().parents[1]
_FOLDER = CHECKOUT / ".cache" / "images"
_KEPT = 2
"""Of a kind: the one in use, and the one that a run beside this one may be about to read."""


class ImageError(Exception):
    """The image could not be built; the message carries the builder's own words."""


class UnobtainableError(ImageError):
    """This machine lacks a tool, or what has to be fetched is out of reach; the message says which."""


def digest(words: Iterable[str], files: Iterable[Path] = ()) -> str:
    """The digest of these words, and of these files by name and content."""
    state = hashlib.sha256()
    for word in words:
        state.update(word.encode() + b"\0")
    for file in files:
        state.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def kept(kind: str, key: str, make: Callable[[Path], Path]) -> Path:
    """The file or folder of this key, made once, also by two at the same time.

    ``make`` gets an empty folder, and returns what is to be kept out of it.
    """
    _FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = _FOLDER / f"{kind}-{key}"
    with _lock(kind):
        if not wanted.exists():
            scratch = Path(tempfile.mkdtemp(prefix="making-", dir=_FOLDER))
            try:
                make(scratch).rename(wanted)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            _forget(kind)
        wanted.touch()
    return wanted


def told(command: list[str], what: str) -> None:
    """Run a program that fetches; raises UnobtainableError with its last words where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnobtainableError(f"{what}: {error}") from error
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()
        raise UnobtainableError(f"{what}:\n" + "\n".join(words[-10:]))


def _forget(kind: str) -> None:
    of_kind = sorted(_FOLDER.glob(f"{kind}-*"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in of_kind[_KEPT:]:
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


@contextlib.contextmanager
def _lock(kind: str) -> Iterator[None]:
    with (_FOLDER / f"lock.{kind}").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
