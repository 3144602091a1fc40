"""The real kustomize, whichever is at hand: inside kubectl, on the PATH, or where ``tools/setup.sh`` puts one."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from testbed.tools import missing

_OWN = Path(__file__).parents[2] / ".cache" / "tools" / "kustomize"
_SECONDS = 120.0
_RECENT = re.compile(r"^Kustomize Version: v(4\.[5-9]|[5-9])", re.MULTILINE)
"""What kubectl says of itself from release 1.24 on."""


class RenderError(Exception):
    """Kustomize rendered nothing; the message is what it said."""


class Kustomize:
    """One kustomize: the command that renders a folder."""

    def __init__(self, *command: str) -> None:
        self.command = command

    def text(self, folder: Path) -> str:
        """What it makes of a folder, as YAML.  Raises RenderError; a warning counts as one."""
        done = subprocess.run(
            [*self.command, str(folder)], capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        if done.returncode or done.stderr:
            raise RenderError(done.stderr or f"exit status {done.returncode}")
        return done.stdout

    def objects(self, folder: Path) -> list[dict[str, Any]]:
        """What it makes of a folder, in its order.  Raises RenderError."""
        return [each for each in yaml.load_all(self.text(folder), yaml.CSafeLoader) if each is not None]


@functools.cache
def all_kustomizes() -> tuple[Kustomize, ...]:
    """Every kustomize of this machine, of whatever release; skips the running test where there is none."""
    found = []
    kubectl = shutil.which("kubectl")
    if kubectl is not None and _RECENT.search(_says(kubectl, "version", "--client")):
        found.append(Kustomize(kubectl, "kustomize"))
    found += [Kustomize(path, "build") for path in (shutil.which("kustomize"), shutil.which(_OWN)) if path]
    if not found:
        missing("kustomize, or kubectl 1.24 or later; `tools/setup.sh test` fetches one")
    return tuple(found)


def _says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS).stdout
