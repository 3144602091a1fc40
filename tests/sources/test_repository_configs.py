"""What one config.pbtxt says, read with Triton's own schema, and where it says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import InstanceKind
from probe.facts.repository import (
    UnknownName,
    VersionPolicy,
    WrittenAccelerator,
    WrittenGroup,
    WrittenParameter,
    WrittenStep,
)
from probe.sources.repository.configs import ConfigError, parse
from tests.repositories import FULL, PIECES, mutants


def test_everything_that_an_audit_asks_for_is_read_with_its_line() -> None:
    """Groups however they are listed, accelerators by device, parameters, the version policy."""
    told = parse(FULL.encode())

    assert (told.name, told.name_line, told.platform, told.backend) == ("ranker", 2, "onnxruntime_onnx", "")
    assert told.groups == (
        WrittenGroup("first", InstanceKind.GPU, 2, (0, 1), 7, 10),
        WrittenGroup("", InstanceKind.AUTO, 1, (), 13, 13),
        WrittenGroup("", InstanceKind.CPU, 0, (), 15, 15, passive=True),
    )
    assert told.accelerators == (
        WrittenAccelerator("tensorrt", InstanceKind.GPU, 18),
        WrittenAccelerator("cuda", InstanceKind.GPU, 18),
        WrittenAccelerator("openvino", InstanceKind.CPU, 19),
    )
    assert told.parameters == (
        WrittenParameter("a", "b", 23),
        WrittenParameter("triton_probe.device", "gpu", 22),
    )
    assert told.policy == VersionPolicy(None, (1, 3), 24)
    assert (told.ensemble, told.steps, told.unknown) == (False, (), ())


def test_an_ensembles_steps_are_read() -> None:
    """With the version that each asks for; -1 is the latest."""
    told = parse(
        b'ensemble_scheduling {\n step [ { model_name: "a" model_version: -1 },\n'
        b' { model_name: "b" model_version: 3 } ] }'
    )

    assert told.ensemble
    assert told.steps == (WrittenStep("a", None, 2), WrittenStep("b", 3, 3))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", VersionPolicy(1, None, 0)),
        ("version_policy { }", VersionPolicy(None, None, 1)),
        ("version_policy { all { } }", VersionPolicy(None, None, 1)),
        ("version_policy { latest { num_versions: 2 } }", VersionPolicy(2, None, 1)),
    ],
)
def test_the_version_policy_is_what_triton_makes_of_it(text: str, policy: VersionPolicy) -> None:
    """The latest one only where nothing is written."""
    assert parse(text.encode()).policy == policy


def test_an_empty_file_says_nothing_and_is_a_configuration() -> None:
    """As Triton takes it: everything is completed."""
    assert parse(b"").groups == ()
    assert parse(b"# nothing yet\n").name == ""


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ('name: "m"\nshiny { new: [ 1 ] },\n', UnknownName("shiny", "", "", 2, 1)),
        ('name: "m"\n instancegroup { }', UnknownName("instancegroup", "", "instance_group", 2, 2)),
        (
            'name: "m"\ninstance_group [ { count: 1, rank: 2; kind: KIND_CPU } ]',
            UnknownName("instance_group.rank", "", "", 2, 30),
        ),
        (
            'name: "m"\ninstance_group [ { kind: KIND_CPPU } ]',
            UnknownName("instance_group.kind", "KIND_CPPU", "KIND_CPU", 2, 20),
        ),
        ('name: "m" [a.b]: 1', UnknownName("[a.b]", "", "", 1, 11)),
    ],
)
def test_names_of_other_releases_are_told_and_do_not_hide_the_rest(text: str, unknown: UnknownName) -> None:
    """The field is left out, what was meant is guessed, and everything else is read."""
    told = parse(text.encode())

    assert told.unknown == (unknown,)
    assert told.name == "m"


def test_bytes_that_are_no_utf8_are_read_as_triton_reads_them() -> None:
    """Seen in 24.10: in a comment and in a string alike."""
    assert parse(b'# caf\xe9\nname: "m"\nbackend: "caf\xe9"').backend == "caf?"


@pytest.mark.parametrize(
    ("raw", "line", "column", "told"),
    [
        (b'name: "m"\nmax_batch_size: ${n}\n', 2, 17, "expected a value (this looks like a template"),
        (b'\xef\xbb\xbfname: "m"', 1, 1, "found a byte order mark"),
        (b"max_batch_size: 1.0", 1, 17, "integer"),
        (b"max_batch_size: 3000000000", 1, 17, "out of range"),
        (b"max_batch_size: 1\nmax_batch_size: 2", 2, 17, "max_batch_size"),
        (b'name: "m"\nname: 5', 2, 7, "string"),
        (b"max_batch_size: " + b"9" * 5000, 1, 17, "Couldn't parse integer: 9"),
        (b"item { id: 1 }\nitem { id: 2 }", 1, 1, "found no field but 'item'"),
        (b"The quick brown fox", 1, 5, "found 'quick', expected"),
        (b"\x7fELF\x02\x01\x01\x00", 1, 1, "expected a field's name"),
        (b"{" * 5000, 1, 1, "expected a field's name"),
        (b"input {" * 5000, 1, 455, "nested deeper"),
    ],
)
def test_what_is_no_configuration_is_told_with_its_place(
    raw: bytes, line: int, column: int, told: str
) -> None:
    """Line, column, and what was expected there."""
    with pytest.raises(ConfigError) as raised:
        parse(raw)

    assert told in str(raised.value)
    assert (raised.value.line, raised.value.column) == (line, column)


def test_mutated_files_are_read_or_refused_and_crash_nothing() -> None:
    """Ten thousand of them; neither outcome is so rare that the test would say nothing."""
    read = refused = 0
    for raw in mutants(10_000, 4):
        try:
            parse(raw)
            read += 1
        except ConfigError as error:
            assert 1 <= error.line <= raw.count(b"\n") + 1  # noqa: PT017 - which are refused is not known
            refused += 1

    assert read > 500
    assert refused > 500


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b" ".join))
def test_words_in_any_order_crash_nothing(raw: bytes) -> None:
    """The words of real files, shuffled."""
    try:
        parse(raw)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - likewise
