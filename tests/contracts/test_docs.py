"""Do the documents say what the code does?"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from probe.cli import group
from probe.facts.catalogue import CATALOGUE
from probe.settings import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("k8s/**/*.md")])
PICTURES = sorted(ROOT.glob("docs/**/*.svg"))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CAMEL_CASE = re.compile(r"(?:[A-Z][a-z]+){2,}")


def read(name: str) -> str:
    """The text of a document."""
    return (ROOT / name).read_text("utf-8")


def code(text: str) -> str:
    """What is written as code in a document: blocks, indented lines, and words between backticks."""
    without_blocks = _BLOCK.sub("", text)
    indented = [line for line in without_blocks.splitlines() if line.startswith("    ")]
    return "\n".join([*(match[2] for match in _BLOCK.finditer(text)), *indented, *_INLINE.findall(text)])


def block(text: str, language: str) -> str:
    """The one block of this language."""
    (found,) = (match[2] for match in _BLOCK.finditer(text) if match[1] == language)
    return found


def test_the_readme_names_every_command_and_no_other() -> None:
    """What the command line has, a reader finds, and nothing is promised beyond it."""
    named = set(re.findall(r"triton-probe +([a-z]+)", code(read("README.md"))))

    assert named == set(group.commands)


def test_every_reason_in_the_readme_is_in_the_catalogue() -> None:
    """A reason that was renamed, or never was, sends a reader astray."""
    named = {word for word in _INLINE.findall(read("README.md")) if _CAMEL_CASE.fullmatch(word)}

    assert named - set(CATALOGUE) == set()


def test_the_readme_lists_every_reason() -> None:
    """Under "Judged now": whoever judges a new reason adds it there."""
    _, _, after = read("README.md").partition("\nJudged now:\n")
    listed = _INLINE.findall(after.partition("\n\n")[0])

    assert sorted(listed) == sorted(CATALOGUE)


def test_the_readmes_configuration_is_one(tmp_path: Path) -> None:
    """It can be pasted into a file and is accepted whole."""
    file = tmp_path / "probe.yaml"
    file.write_text(block(read("README.md"), "yaml"), "utf-8")

    loaded = load(file, {}, {})

    assert loaded.settings.models.required == ("embedder", "search")


def test_the_first_check_of_the_guide_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check and the test that CONTRIBUTING.md shows are run as they are printed there."""
    check, test = (match[2] for match in _BLOCK.finditer(read("CONTRIBUTING.md")) if match[1] == "python")
    module = ModuleType("probe.checks.repository")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(check, module.__dict__)  # noqa: S102  (our own document)
    printed: dict[str, Any] = {}
    exec(test, printed)  # noqa: S102  (likewise)
    tests = [each for name, each in printed.items() if name.startswith("test_")]

    assert len(tests) == 2
    for each in tests:
        each()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    """A link to a file of this repository is to one that exists."""
    targets = [target for target in _LINK.findall(document.read_text("utf-8")) if "://" not in target]
    files = [target.partition("#")[0] for target in targets]

    assert [each for each in files if each and not (document.parent / each).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    """What a reader is told to make can be made."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake +([a-z-]+)", code(document.read_text("utf-8"))))

    assert named - targets == set()


def test_the_readme_says_how_to_try_and_how_to_test() -> None:
    """Both commands stand there as they are typed."""
    assert {"    make demo", "    make test"} <= set(read("README.md").splitlines())


def rooms_of_the_table() -> list[str]:
    """The rooms of the table in ARCHITECTURE.md, in its order, as import-linter would name them."""
    rows = re.findall(r"^\| `(probe/[a-z_]+)(?:/|\.py)` \|", read("ARCHITECTURE.md"), re.MULTILINE)
    return [row.replace("/", ".") for row in rows]


def test_every_room_has_its_row() -> None:
    """The table in ARCHITECTURE.md names each folder and module of the package once, and no other."""
    modules = {path.stem for path in (ROOT / "probe").glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in (ROOT / "probe").glob("*/__init__.py")}

    assert sorted(rooms_of_the_table()) == sorted(f"probe.{name}" for name in modules | folders)


def test_the_table_of_rooms_is_in_the_order_of_imports() -> None:
    """Its order is the one that import-linter holds, from the bottom up."""
    settings = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]
    (layers,) = (each["layers"] for each in settings["contracts"] if each["type"] == "layers")

    assert rooms_of_the_table() == layers[::-1]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_pictures_load_nothing_and_describe_themselves(picture: Path) -> None:
    """An SVG is well formed, has a title and a description, and needs nothing from anywhere else."""
    tree = ET.parse(picture)  # noqa: S314  (our own file)
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}

    assert {"title", "desc"} <= names
    assert names.isdisjoint({"script", "image", "foreignObject"})
    assert "@import" not in picture.read_text("utf-8")
