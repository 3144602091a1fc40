"""Collect what ``tests/gpu/run`` needs where nothing can be fetched: Python 3.12 and torch are expected there.

``python tests/gpu/collect.py [FOLDER]`` fills ``.cache/gpu-suite`` (or FOLDER) with wheels of what the probe and
its tests import, and with one archive of the real Triton, laid out as ``probe/sandbox/wheel.py`` does it.  What
the suite does not use is left out: a machine may take only 64 MiB, this checkout included.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from probe.sandbox.wheel import PYTRITON_VERSION

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "gpu-suite"
LIMIT_BYTES = 58 << 20
PYTHON = "3.12"

_TEST_TOOLS = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
# torch brings a numpy of its own; the others serve parts of tritonclient that nothing here uses.
_LEFT_OUT = ("numpy-", "ml_dtypes-", "python_rapidjson-", "urllib3-")
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17)),
    "manylinux2014_x86_64",
)
_SITE = f"lib/python{PYTHON}/site-packages"
# Of the server's wheel: what the stub of this Python and the server itself load.
_PARTS = re.compile(
    r"nvidia_pytriton\.libs/(?!libpython)"
    r"|pytriton/tritonserver/bin/"
    r"|numpy(\.libs)?/(?!(.*/)?tests/)"
)
_BACKEND = {
    "pytriton/tritonserver/backends/python/libtriton_python.so": "libtriton_python.so",
    "pytriton/tritonserver/backends/python/triton_python_backend_utils.py": "triton_python_backend_utils.py",
    f"pytriton/tritonserver/python_backend_stubs/{PYTHON}/triton_python_backend_stub": "triton_python_backend_stub",
}


def main(folder: Path) -> int:
    """Fill the folder; 1 where it grew too large."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for each in wheels.iterdir():
        each.unlink()
    _download(wheels, "-c", str(ROOT / "constraints.txt"), *_requirements())
    for each in list(wheels.iterdir()):
        if each.name.startswith(_LEFT_OUT):
            each.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        _download(Path(scratch), "--no-deps", f"nvidia-pytriton=={PYTRITON_VERSION}", "numpy<2")
        _pack(Path(scratch), folder / "triton.tar.xz")
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB of {LIMIT_BYTES / 2**20:.0f}")  # noqa: T201
    return int(size > LIMIT_BYTES)


def _requirements() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from project["dependencies"]
    for each in project["optional-dependencies"]["dev"]:
        if re.split(r"[<>=\[]", each)[0] in _TEST_TOOLS:
            yield each


def _download(into: Path, *wanted: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [word for each in _PLATFORMS for word in ("--platform", each)]
    subprocess.run([*command, "--dest", str(into), *wanted], check=True)


def _pack(wheels: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:xz", preset=4) as packed:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as opened:
                for entry in opened.infolist():
                    if (target := _target(entry.filename)) is not None:
                        _add(packed, opened, entry, target)


def _target(name: str) -> str | None:
    if name in _BACKEND:
        return f"backends/python/{_BACKEND[name]}"
    return f"{_SITE}/{name}" if _PARTS.match(name) and not name.endswith("/") else None


def _add(packed: tarfile.TarFile, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: str) -> None:
    told = tarfile.TarInfo(target)
    told.size = entry.file_size
    told.mode = 0o755 if "/bin/" in target or target.endswith("_stub") or ".so" in target else 0o644
    with opened.open(entry) as content:
        packed.addfile(told, content)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER))
