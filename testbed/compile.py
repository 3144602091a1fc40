"""Builds the C doubles: once for each state of their source, into ``.cache/doubles``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "doubles"
_FLAGS = ("-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread")
_SHARED = ("-shared", "-fPIC")


class CompileError(Exception):
    """The double could not be built; the message carries the compiler's own words."""


def build_shared_library(
    source: Path, soname: str, *, libraries: tuple[str, ...] = (), defines: tuple[str, ...] = ()
) -> Path:
    """Compile one C file into a shared library and return its path, whose last part is ``soname``.

    The library lies alone in its folder, so that the folder can go into ``LD_LIBRARY_PATH``.  The folder is
    named for what went in (the source, the headers beside it, flags), so a changed source is another library
    and processes that still use the old one are not disturbed.  ``libraries`` are linked with ``-l``, and
    ``defines`` (``NAME=VALUE``) given with ``-D``.  Raises :class:`CompileError`.
    """
    flags = (*_SHARED, f"-Wl,-soname,{soname}", *(f"-D{each}" for each in defines))
    return _built(source, soname, flags, tuple(f"-l{each}" for each in libraries))


def build_program(source: Path) -> Path:
    """Compile one C file into a program and return its path; once for each state of the source, as above.

    Raises :class:`CompileError`.
    """
    return _built(source, source.stem, (), ())


def _built(source: Path, name: str, flags: tuple[str, ...], libraries: tuple[str, ...]) -> Path:
    folder = _CACHE / f"{source.stem}-{_digest(source, (*flags, *libraries))}"
    built = folder / name
    if built.exists():
        return built
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CompileError("no C compiler here: install one (Debian: apt-get install gcc libc6-dev)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        fresh = Path(scratch) / name
        command = [compiler, *_FLAGS, *flags, "-o", str(fresh), str(source), *libraries]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CompileError(f"{source.name} does not compile:\n{result.stderr}")
        os.replace(fresh, built)  # noqa: PTH105 - parallel builders end with one whole file, whoever is last
    return built


def _digest(source: Path, options: tuple[str, ...]) -> str:
    state = hashlib.sha256()
    for each in (source, *sorted(source.parent.glob("*.h"))):
        state.update(each.name.encode() + b"\0" + each.read_bytes() + b"\0")
    state.update(repr((_FLAGS, options)).encode())
    return state.hexdigest()[:16]
