"""Writes what the image installs: every wheel by name, version and hash, for each Python and architecture.

    python tools/image_requirements.py

pip resolves the dependencies of pyproject.toml under constraints.txt, once for each pair, and tells in its report
which wheels it would take; nothing is installed and no address is written down.  What only Triton's client and
rich's extras would use stays out: :data:`LEFT_OUT`.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "image" / "requirements.txt"
BUILD = ROOT / "image" / "build-requirements.txt"

PYTHONS = ("3.11", "3.12", "3.13")
"""Those of pyproject's classifiers: what BASE may have."""
MACHINES = ("x86_64", "aarch64")
_PLATFORMS = ("manylinux_2_28", "manylinux2014", "manylinux_2_17")
"""glibc 2.28 is older than that of any base with Python 3.11."""

LEFT_OUT = {
    "markdown-it-py": "rich's Markdown, which is not used",
    "mdurl": "for markdown-it-py",
    "ml-dtypes": "for tensors of tritonclient",
    "numpy": "for tensors of tritonclient, of which only the generated messages are imported",
    "packaging": "for tritonclient's own __init__, which is never run",
    "pygments": "rich's highlighting of code, which is not used",
    "python-rapidjson": "for tritonclient's own __init__",
    "urllib3": "for tritonclient's HTTP client",
}
"""By normalised name: what dependencies ask for, and why it is not in the image."""

_HEADING = {
    RUN: "What the image installs",
    BUILD: "What the image's build needs to make the probe's own wheel",
}


class Wheel:
    """One wheel that pip would take."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name = str(item["metadata"]["name"])
        self.version = str(item["metadata"]["version"])
        self.file = str(item["download_info"]["url"]).rpartition("/")[2].partition("#")[0]
        self.sha256 = str(item["download_info"]["archive_info"]["hashes"]["sha256"])

    @property
    def key(self) -> str:
        """The name as names are compared."""
        return self.name.lower().replace("_", "-").replace(".", "-")


def resolved(wanted: Sequence[str], python: str, machine: str) -> list[Wheel]:
    """What pip would install of these requirements for this Python and architecture."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--target", scratch, "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python]
        command += [f"--platform={each}_{machine}" for each in _PLATFORMS]
        subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *wanted], check=True)
        return [Wheel(each) for each in json.loads(report.read_text())["install"]]


def written(file: Path, wheels: Sequence[Wheel]) -> str:
    """The text of a requirements file: each wheel's name, and its hash at the same place below."""
    lines = [
        f"# {_HEADING[file]}, on Python {', '.join(PYTHONS)} and linux {', '.join(MACHINES)}.",
        "# Made by `make image-requirements` from pyproject.toml and constraints.txt. Each list of hashes has the",
        "# names of its wheels above it, in the same order.",
    ]
    for key, found in itertools.groupby(
        sorted(wheels, key=lambda each: (each.key, each.file)), lambda each: each.key
    ):
        if key in LEFT_OUT and file == RUN:
            continue
        by_file = {each.file: each for each in found}
        each = next(iter(by_file.values()))
        lines += [f"# {name}" for name in by_file]
        hashes = [f"    --hash=sha256:{one.sha256}" for one in by_file.values()]
        lines.append(" \\\n".join([f"{each.name}=={each.version}", *hashes]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for file, wanted in (
        (RUN, project["project"]["dependencies"]),
        (BUILD, project["build-system"]["requires"]),
    ):
        pairs = itertools.product(PYTHONS, MACHINES)
        file.write_text(written(file, [wheel for pair in pairs for wheel in resolved(wanted, *pair)]))


if __name__ == "__main__":
    main()
