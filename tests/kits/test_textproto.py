"""Does the scanner of protobuf's text format know where everything stands, and take what the real parser takes?"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.kits.textproto import DEEPEST, Field, Message, Scalar, Spot, TextProto, TextProtoError

_WORDS = st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
_SCALARS = st.one_of(
    _WORDS,
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text("abc #{}[]'\\\\n", max_size=6).map(lambda each: f'"{each}"' if "\\" not in each else '"\\n"'),
)
_BLANKS = st.sampled_from([" ", "\n", "\r\n", "\t", " # a comment { [\n", "\f"])


def _messages(depth: int) -> st.SearchStrategy[str]:
    return st.lists(_fields(depth), max_size=4).map("".join)


def _fields(depth: int) -> st.SearchStrategy[str]:
    forms = [
        st.builds(
            "{}{}:{}{}{}".format, _WORDS, _BLANKS, _BLANKS, _SCALARS, st.sampled_from([" ", ", ", ";\n"])
        ),
        st.builds("{}: [{}]{}".format, _WORDS, st.lists(_SCALARS, max_size=3).map(", ".join), _BLANKS),
    ]
    if depth:
        inner = st.deferred(lambda: _messages(depth - 1))
        forms += [
            st.builds("{}{{{}}}{}".format, _WORDS, inner, _BLANKS),
            st.builds("{} : <{}>;{}".format, _WORDS, inner, _BLANKS),
            st.builds("{} [{{{}}}, {{ }}]\n".format, _WORDS, inner),
        ]
    return st.one_of(forms)


def scanned(text: str) -> tuple[Field, ...]:
    """The fields of a text."""
    return TextProto(text).root.fields


def _every(message: Message) -> list[Field]:
    below = [
        each
        for field in message.fields
        for value in field.values
        if isinstance(value, Message)
        for each in _every(value)
    ]
    return [*message.fields, *below]


def test_fields_know_their_names_their_values_and_where_they_stand() -> None:
    """Offsets cut the text at the field's first and behind its last character, separator included."""
    text = '# first\nname: "m" ;\n\n  kind : - 5, x { y: [1, KIND_GPU] }'
    name, kind, message = scanned(text)

    assert (name.name, name.values) == ("name", (Scalar('"m"', 14),))
    assert text[name.start : name.end] == 'name: "m" ;'
    assert text[kind.start : kind.end] == "kind : - 5,"
    assert isinstance(message.values[0], Message)
    assert [each.text for each in message.values[0].fields[0].values if isinstance(each, Scalar)] == [
        "1",
        "KIND_GPU",
    ]


def test_spots_are_counted_from_one() -> None:
    """Lines by their newlines, columns in characters."""
    text = "a: 1\r\n  b: 2\n"
    document = TextProto(text)

    assert [document.spot(each.start) for each in document.root.fields] == [Spot(1, 1), Spot(2, 3)]
    assert document.spot(len(text)) == Spot(3, 1)


def test_messages_are_found_by_their_path_in_the_order_of_a_repeated_field() -> None:
    """However the list is written: at once, field by field, or in the other brackets."""
    text = "a { b [ {c: 1}, {c: 2} ] } a: < b { c: 3 } > z { b { c: 4 } } a: 5"
    found = [next(each.named("c")).values[0] for each in TextProto(text).root.messages("a", "b")]

    assert [each.text for each in found if isinstance(each, Scalar)] == ["1", "2", "3"]


def test_strings_that_follow_each_other_are_one_value() -> None:
    """As the format has it, whatever their quotes and what stands between them."""
    (field,) = scanned("a: 'x' # y\n \"z\" ")

    assert [each.text for each in field.values if isinstance(each, Scalar)] == ["'x' # y\n \"z\""]


def test_names_in_brackets_are_names() -> None:
    """Extensions, and the type of an Any."""
    assert [each.name for each in scanned("[a.b]: 1 [c.d/e-f.G] { h: 2 }")] == ["[a.b]", "[c.d/e-f.G]"]


@pytest.mark.parametrize(
    ("text", "spot", "told"),
    [
        ("a: 1\n}", Spot(2, 1), "found '}', expected a field's name"),
        ("a", Spot(1, 2), "found the end of the file, expected ':' or '{' after the field's name 'a'"),
        ("a 5", Spot(1, 3), "found '5', expected ':' or '{'"),
        ("a: ", Spot(1, 4), "found the end of the file, expected a value"),
        ("a: -\n'x'", Spot(2, 1), "expected a number"),
        ("a {\n  b: 1\n", Spot(3, 1), "found the end of the file, expected a field's name or '}'"),
        ("a < b: 1 }", Spot(1, 10), "found '}', expected a field's name or '>'"),
        ("a: [1 2]", Spot(1, 7), "found '2', expected ',' or ']'"),
        ("[a:", Spot(1, 3), "expected a name in brackets"),
        ('a: "unended\n"', Spot(1, 4), "found '\"unended', expected a value"),
        ('a: "\\q"', Spot(1, 4), "expected a value"),
        ("a: ${b}", Spot(1, 4), "found '${b}', expected a value"),
        ("\x00", Spot(1, 1), "expected a field's name"),
        ("a: 1 \xa0", Spot(1, 6), "expected a field's name"),
        ("// a", Spot(1, 1), "found '/', expected a field's name"),
    ],
)
def test_what_is_not_the_format_is_told_with_its_place(text: str, spot: Spot, told: str) -> None:
    """Line, column, what was found, what was expected."""
    with pytest.raises(TextProtoError) as raised:
        TextProto(text)

    assert told in str(raised.value)
    assert raised.value.spot == spot


def test_nesting_has_an_end() -> None:
    """What is nested too deep is refused, before any stack is exhausted."""
    TextProto("a {" * DEEPEST + "}" * DEEPEST)
    with pytest.raises(TextProtoError, match=f"nested deeper than {DEEPEST}"):
        TextProto("a {" * 5000)


@given(_messages(3))
def test_every_field_of_a_text_is_cut_out_of_it_whole(text: str) -> None:
    """A field's own span, scanned alone, is that field; spans follow each other and never overlap."""
    fields = scanned(text)

    for one, other in pairwise(fields):
        assert one.end <= other.start
    for field in _every(TextProto(text).root):
        (alone,) = scanned(text[field.start : field.end])
        assert alone.name == field.name
        assert len(alone.values) == len(field.values)


@given(st.text(max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    """It is scanned, or refused at a place within it."""
    try:
        TextProto(text)
    except TextProtoError as error:
        assert 1 <= error.spot.line <= text.count("\n") + 1  # noqa: PT017 - most texts are refused
