"""Is YAML read as Kubernetes reads it, and is what is none told with its line?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.manifests.data import data
from probe.manifests.drafts import Draft
from probe.manifests.errors import ManifestError
from probe.manifests.nodes import Mapping, Sequence
from probe.manifests.reading import DEEPEST, parse, pieces
from probe.manifests.streams import Stream

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: []\n"


@given(st.text(alphabet="a-.# %\n\r\"'|:", max_size=60))
def test_pieces_are_the_text(text: str) -> None:
    """Whatever the text is, nothing is lost between them, and each begins on the line that it says."""
    found = pieces(text)

    assert "".join(each.text for each in found) == text
    assert all(each.text for each in found)
    for index, each in enumerate(found):
        assert each.line == 1 + "".join(one.text for one in found[:index]).count("\n")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a: 1\n", 1),
        ("---\na: 1\n---\nb: 1\n", 2),
        ("a: 1\n...\nb: 1\n", 2),
        ("%YAML 1.1\n# why\n---\na: 1\n---\nb: 1\n", 2),
        ("a: |\n  --- not one\n  ---\n", 1),
        ("a: 1\n---\r\nb: 1\n--- # third\nc: 1", 3),
        ("--- {a: 1}\n--- {b: 2}\n", 2),
    ],
)
def test_documents_are_told_apart(text: str, count: int) -> None:
    """By lines that begin with three dashes or dots; directives go with the document below them."""
    found = [parse(each.text) for each in pieces(text)]

    assert len([each for each in found if each is not None]) == count


def test_every_node_knows_its_place() -> None:
    """Positions count characters, also behind those that take several bytes; comments are not part of a node."""
    text = "a: 'é😀'  # why\nb:\n- |+\n  x\n\n- [1, 2] # c\n# z\n"
    root = parse(text)
    assert isinstance(root, Mapping)
    listed = root.get("b")
    assert isinstance(listed, Sequence)

    assert [text[key.start : value.end] for key, value in root.pairs] == [
        "a: 'é😀'",
        "b:\n- |+\n  x\n\n- [1, 2]",
    ]
    assert [text[each.start : each.end] for each in listed.items] == ["|+\n  x\n", "[1, 2]"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: [1\nb: 2\n", 2, "is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "is not YAML"),
        ("a: 'x\n", 1, "is not YAML"),
        ("a: *b\n", 1, "found the alias *b, expected its anchor before it"),
        ("a: 1\nb: \x07\n", 2, "is not YAML"),
        ("a: {{ .Values.a }}\n", 1, "found '{{', expected YAML; a Helm template has to be rendered first"),
        ("a: 1\n{{- if .b }}\nc: 1\n{{- end }}\n", 2, "a Helm template has to be rendered first"),
        ("a: '{{ x }}'\nb: 1\nc: 1\nd: [\n", 4, "is not YAML: while parsing"),
        ("# {{ fine }}\na: [\n", 2, "is not YAML"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), 1, "is nested deeper than 100 levels"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, line: int, what: str) -> None:
    """And a Helm template is told for what it is, also where it happens to be YAML."""
    with pytest.raises(ManifestError) as caught:
        parse(text)

    assert caught.value.line == line
    assert what in caught.value.what


def test_lines_are_those_of_the_stream() -> None:
    """Not of the document."""
    with pytest.raises(ManifestError) as caught:
        Stream(f"{POD}---\n{POD}---\na: [\n")

    assert caught.value.line == 13


def test_templates_in_texts_are_texts() -> None:
    """Quoted, in a block scalar, or in the middle of a word they are not Helm's business."""
    assert parse("a: '{{ x }}'\nb: |\n  {{ y }}\nc: --x={{z}}\n") is not None


def test_a_key_that_is_there_twice_is_an_error() -> None:
    """In an object that runs pods; which one counts, no two readers agree."""
    with pytest.raises(ManifestError) as caught:
        Stream(f"# first\n---\n{POD}spec: {{}}\n")

    assert caught.value.line == 8
    assert caught.value.what == "found the key 'spec' twice, expected once"
    Stream("apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'yes'", "yes"),
        ("!!str 7", "7"),
        ("7", 7),
        ("-1.5e3", -1500.0),
        ("010", 8),
        ("0x1F", 31),
        ("1Gi", "1Gi"),
    ],
)
def test_words_are_read_as_kubernetes_reads_them(text: str, value: object) -> None:
    """YAML 1.1 for what is true and false, and for numbers in other bases."""
    assert Draft(f"a: {text}\n").read(("a",)) == value


def test_aliases_and_merge_keys_are_followed() -> None:
    """What a mapping says itself goes before what is merged into it."""
    draft = Draft("b: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\nd: *b\ne: {<<: [*b, {z: 4}]}\n")

    assert draft.read(("c",)) == {"x": 1, "y": 3}
    assert draft.read(("d", "y")) == 2
    assert draft.read(("e",)) == {"x": 1, "y": 2, "z": 4}


def test_a_bomb_of_aliases_is_an_error_and_no_hang() -> None:
    """Ten levels that each name the one before ten times; and an anchor within itself."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    for text in ("\n".join(lines), "a: &a [*a]\n"):
        root = parse(text)
        assert root is not None
        with pytest.raises(ManifestError, match="aliases that make more than"):
            data(root, root, text)


def test_a_bomb_in_a_document_of_another_kind_passes() -> None:
    """It is not read, and goes through as it is."""
    lines = [
        "kind: ConfigMap",
        "a0: &a0 [x, x]",
        *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)),
    ]

    assert Stream("\n".join(lines)).edited(lambda *_: pytest.fail("nothing to edit"))[0] == "\n".join(lines)
