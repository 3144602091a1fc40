"""A root for containers out of the host's own programs: nothing is built, copied or fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import probe
from probe.sandbox.wheel import TritonInstallation

_PROGRAMS = ("usr", "etc")
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
CHECKOUT = Path(probe.__file__).resolve().parents[1]
"""The tree of the probe that runs here."""


def empty_root(folder: Path) -> Path:
    """Make a root in which only the host's links into ``/usr`` stand, and a ``/tmp`` for everybody."""
    folder.mkdir(mode=0o755)
    for name in _MERGED:
        here = Path("/") / name
        if here.is_symlink():
            (folder / name).symlink_to(here.readlink())
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    return folder


def python_folders() -> tuple[Path, ...]:
    """What the probe is made of: this interpreter, its virtual environment, this checkout."""
    return (Path(sys.base_prefix), Path(sys.prefix), CHECKOUT)


def triton_folders(installation: TritonInstallation) -> tuple[Path, ...]:
    """What the sandboxed Triton is made of, this interpreter's libpython with it."""
    libraries = installation.environment["LD_LIBRARY_PATH"].split(":")
    return (installation.backends.parent, Path(sys.base_prefix), *(Path(each) for each in libraries))


def volumes(folders: Iterable[Path]) -> Iterator[str]:
    """Podman's options that show these folders and the host's programs, read-only, at their own paths."""
    system = [Path("/") / name for name in _PROGRAMS]
    system += [Path("/") / name for name in _MERGED if (Path("/") / name).is_dir()]
    shown: list[Path] = []
    for each in sorted({*(path for path in system if not path.is_symlink()), *folders}):
        if not any(each.is_relative_to(above) for above in shown):
            shown.append(each)
            yield f"--volume={each}:{each}:ro"


def variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Podman's options that set these variables."""
    return (f"--env={name}={value}" for name, value in environment.items())
