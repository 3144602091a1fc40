"""Does the image install what the probe needs, in the versions that were proven, for each base it may have?"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from tools import image_requirements as tool

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_BLOCK = re.compile(
    r"((?:^# \S+\.whl\n)+)^(\S+)==(\S+) \\\n((?:^    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
_PROVIDED = {"probe", "triton_python_backend_utils"}
"""Ours, and what Triton gives to its stubs."""


class Pinned(msgspec.Struct, frozen=True):
    """One requirement of a file: its wheels by file name, and as many hashes."""

    name: str
    version: str
    wheels: tuple[str, ...]
    hashes: tuple[str, ...]


def pinned(file: Path) -> dict[str, Pinned]:
    """What a file pins, by name; nothing in it is anything else."""
    text = file.read_text()
    rest = _BLOCK.sub("", text)
    assert all(line.startswith("# ") for line in rest.splitlines()), rest
    found: dict[str, Pinned] = {}
    for names, name, version, hashes in _BLOCK.findall(text):
        wheels = tuple(line.removeprefix("# ") for line in names.splitlines())
        digests = tuple(re.findall(r"sha256:(\w+)", hashes))
        found[canonicalize_name(name)] = Pinned(name, version, wheels, digests)
    return found


def constrained() -> dict[str, str]:
    """The versions that this project was last proven with, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def imported() -> set[str]:
    """Every top-level module that the probe imports anywhere, at the latest moment too."""
    found: set[str] = set()
    for file in (ROOT / "probe").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found.update(each.name.partition(".")[0] for each in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - _PROVIDED - sys.stdlib_module_names


def tags(python: str, machine: str) -> set[Tag]:
    """What a base with this Python and a glibc of 2.28 can install."""
    major, minor = (int(each) for each in python.split("."))
    platforms = [f"manylinux_2_{each}_{machine}" for each in range(28, 16, -1)] + [f"manylinux2014_{machine}"]
    version = (major, minor)
    return {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}


def needs(pins: dict[str, Pinned], wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Who asks for what among these requirements, and what they ask for in turn."""
    pending = [("pyproject.toml", Requirement(each)) for each in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        asker, requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        yield asker, name
        if name not in pins or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        for text in importlib.metadata.requires(name) or ():
            further = Requirement(text)
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": each}) for each in extras):
                pending.append((name, further))


@pytest.mark.parametrize("file", [tool.RUN, tool.BUILD], ids=lambda file: file.name)
def test_every_version_is_the_proven_one(file: Path) -> None:
    """What the tests ran with is what the image has; refreshed together."""
    known = constrained()
    assert {name: each.version for name, each in pinned(file).items()} == {
        name: known[name] for name in pinned(file)
    }


@pytest.mark.parametrize("file", [tool.RUN, tool.BUILD], ids=lambda file: file.name)
def test_every_base_finds_a_wheel_whose_hash_is_known(file: Path) -> None:
    """On each Python that pyproject.toml names, and both architectures; one hash for each wheel."""
    for each in pinned(file).values():
        assert len(set(each.hashes)) == len(each.wheels)
        for wheel in each.wheels:
            name, version, _, _ = parse_wheel_filename(wheel)
            assert (name, str(version)) == (canonicalize_name(each.name), each.version)
        offered = {tag for wheel in each.wheels for tag in parse_wheel_filename(wheel)[3]}
        for python in tool.PYTHONS:
            for machine in tool.MACHINES:
                assert offered & tags(python, machine), f"{each.name}: none for {python} on {machine}"


def test_the_pythons_are_those_that_the_project_names() -> None:
    """A classifier more is a base more."""
    named = [each.rpartition(" ")[2] for each in PROJECT["project"]["classifiers"] if "Python :: 3." in each]
    assert list(tool.PYTHONS) == named


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        (tool.RUN, PROJECT["project"]["dependencies"]),
        (tool.BUILD, PROJECT["build-system"]["requires"]),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_nothing_is_missing_that_was_not_left_out_on_purpose(file: Path, wanted: list[str]) -> None:
    """Dependencies are not resolved in the build, so the whole list is in the file, and no more."""
    pins = pinned(file)
    asked = set(needs(pins, wanted))
    left_out = set(tool.LEFT_OUT) if file == tool.RUN else set()
    assert {pair for pair in asked if pair[1] not in pins} == {pair for pair in asked if pair[1] in left_out}
    assert set(pins) == {name for _, name in asked} - left_out


def test_everything_that_is_imported_is_installed() -> None:
    """Also what only one command imports, when it is called."""
    owners = importlib.metadata.packages_distributions()
    pins = pinned(tool.RUN)
    strangers = {
        each for each in imported() if not {canonicalize_name(one) for one in owners[each]} & set(pins)
    }
    assert strangers == set()


def test_no_address_is_written_down() -> None:
    """Whoever builds takes wheels from wherever they take them; the hashes say that they are these."""
    for file in (tool.RUN, tool.BUILD, ROOT / "Dockerfile"):
        assert "://" not in file.read_text()
    first_pip, ask = (ROOT / "Dockerfile").read_text().split("-m pip", 1)[0], "\nARG PIP_INDEX_URL\n"
    assert ask in first_pip  # unknown to the build, docker would ignore it
