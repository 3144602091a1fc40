"""Builds the image, once for each state of what goes into it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import probe
from testbed.images import materials
from testbed.images.cache import CHECKOUT, ImageError, digest, kept
from testbed.pods.podman import Podman

NAME = f"localhost/triton-probe:{probe.__version__}"
BASE = "localhost/base"
_INPUTS = ("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml")
_FOLDERS = ("image", "probe")
_SECONDS = 300.0
# pip in the build finds the wheels by a configuration that is mounted: the Dockerfile knows nothing of it.
_PIP = "[global]\nno-index = true\nfind-links = /wheels\n"


def archive() -> Path:
    """The built image, as ``podman load`` reads it.

    Raises UnobtainableError where it can not be built here, ImageError where the build fails.
    """
    base, wheels = materials.base(), materials.wheels()
    return kept(
        "image", digest([base.name, wheels.name], _files()), lambda scratch: _make(scratch, base, wheels)
    )


def load(podman: Podman) -> str:
    """Give podman the image, and return its name there."""
    answer = podman.call("load", "--quiet", f"--input={archive()}")
    _expect(answer, "podman load failed")
    return NAME


def _files() -> list[Path]:
    found = [CHECKOUT / each for each in _INPUTS]
    for folder in _FOLDERS:
        found += sorted(each for each in (CHECKOUT / folder).rglob("*") if each.is_file())
    # How it is built is an input too.
    return [Path(__file__), *(each for each in found if "__pycache__" not in each.parts)]


def _make(scratch: Path, base: Path, wheels: Path) -> Path:
    settings, made = scratch / "pip.conf", scratch / "image.tar"
    settings.write_text(_PIP)
    podman = Podman()
    try:
        search = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        _expect(podman.call("import", "--quiet", "--change", search, str(base), BASE), "podman import failed")
        built = podman.call(
            "build",
            "--format=docker",
            "--layers=false",
            "--network=none",
            f"--build-arg=BASE={BASE}",
            f"--volume={wheels}:/wheels:ro",
            f"--volume={settings}:/etc/pip.conf:ro",
            f"--tag={NAME}",
            str(CHECKOUT),
            seconds=_SECONDS,
        )
        _expect(built, "the Dockerfile does not build")
        _expect(podman.call("save", "--quiet", f"--output={made}", NAME), "podman save failed")
    finally:
        podman.close()
    return made


def _expect(answer: subprocess.CompletedProcess[str], what: str) -> None:
    if answer.returncode:
        raise ImageError(f"{what}:\n{(answer.stdout + answer.stderr)[-3000:]}")
