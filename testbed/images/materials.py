"""What an image is built from: a base with a Python, and the wheels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from testbed.images.cache import CHECKOUT, UnobtainableError, digest, kept, told

SUITE, PYTHON = "trixie", "3.13"
"""Debian 13, which python:3.13-slim is made of, and its own Python."""
_PACKAGES = ("python3", "python3-venv", "ca-certificates")
_NOT_NEEDED = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/man/*",
)
_REQUIREMENTS = (CHECKOUT / "image" / "requirements.txt", CHECKOUT / "image" / "build-requirements.txt")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux2010")


def base() -> Path:
    """A tar archive of the base's root.  Raises UnobtainableError."""
    if shutil.which("debootstrap") is None:
        raise UnobtainableError("debootstrap is not on this machine; on Debian: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise UnobtainableError("a base for images needs root here; run the tests as root")
    return kept("base", digest([SUITE, platform.machine(), *_PACKAGES, *_NOT_NEEDED]), _make_base)


def wheels() -> Path:
    """A folder of the wheels that the image and its build need, each by its pinned hash.  Raises UnobtainableError."""
    return kept("wheels", digest([PYTHON, platform.machine()], _REQUIREMENTS), _make_wheels)


def _make_base(scratch: Path) -> Path:
    root, archive = scratch / "root", scratch / "base.tar"
    options = ["--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    told(["debootstrap", *options, SUITE, str(root)], f"debootstrap could not make a Debian {SUITE}")
    left_out = [f"--exclude={each}" for each in _NOT_NEEDED]
    subprocess.run(["tar", f"--directory={root}", *left_out, "-cf", archive, "."], check=True)
    return archive


def _make_wheels(scratch: Path) -> Path:
    folder = scratch / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", f"--python-version={PYTHON}", f"--dest={folder}"]
    command += [f"--platform={each}_{platform.machine()}" for each in _PLATFORMS]
    for each in _REQUIREMENTS:
        told([*command, f"--requirement={each}"], f"pip could not get what {each.name} pins")
    return folder
