"""Fixtures of the image's tests: it runs with everything taken away that a manifest can take."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from probe.sandbox.programs import Program
from testbed.pods.containers import RESTRICTED, Container
from testbed.pods.pod import PROBE
from testbed.pods.podman import Podman
from testbed.tools import PATIENCE, until

TAKEN_AWAY = ("--network=none", "--read-only", "--read-only-tmpfs=false")
ROOT_IN_WRITING = ("--network=none",)

_ASK = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://127.0.0.1:8003" + sys.argv[1], timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode(), end="")
"""


class Run(msgspec.Struct, frozen=True):
    """A container of the image: its program, and what it wrote."""

    container: Container
    program: Program
    log: Path

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a ``GET`` from inside; status 0 where nobody answers."""
        told = self.container.execute("python3", "-c", _ASK, path).stdout
        code, _, body = told.partition(" ")
        return int(code or 0), body

    def python(self, script: str) -> Any:  # noqa: ANN401  (what the script prints)
        """Run a script inside: what it prints, which is JSON."""
        told = self.container.execute("python3", "-c", script)
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    def ended(self) -> tuple[int, str]:
        """Wait for its end: the exit status, and what it wrote."""
        return self.program.wait(PATIENCE), self.log.read_text()


RunImage = Callable[..., Run]
_numbers = itertools.count()


@contextlib.contextmanager
def running(
    podman: Podman, image: str, *arguments: str, flags: tuple[str, ...] = TAKEN_AWAY
) -> Iterator[Run]:
    """Run the image with these arguments, as uid and gid 1000 and without capabilities."""
    name = f"image-{next(_numbers)}"
    folder = podman.folder / name
    given = [f"--cgroup-parent={podman.cgroup}/image", *PROBE.flags(), *RESTRICTED.flags(), *flags]
    container = Container(podman, name, folder, given, image=image)
    log = podman.folder / f"{name}.log"
    with log.open("wb") as output:
        program = container.popen(arguments, stdout=output, stderr=output)
    try:
        yield Run(container, program, log)
    finally:
        container.close()


@pytest.fixture
def run_image(podman: Podman, image: str) -> Iterator[RunImage]:
    """Run the image with arguments and ``flags``; its containers end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments, **options: opened.enter_context(
            running(podman, image, *arguments, **options)
        )


@pytest.fixture(scope="module")
def served(podman: Podman, image: str) -> Iterator[Run]:
    """A daemon that answers, for tests that leave it as it was."""
    with running(podman, image) as run:
        until(lambda: run.ask("/healthz")[0] == 200)
        yield run
