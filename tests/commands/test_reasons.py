from __future__ import annotations

import json

import pytest

from probe.commands.reasons import reasons
from probe.facts.catalogue import CATALOGUE


def test_the_table_has_every_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, in the catalogue's order."""
    assert reasons(None, output_format="text") == 0

    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["REASON", "SEVERITY", "FAILS", "SAYS"]
    assert [line.split()[0] for line in lines] == list(CATALOGUE)
    for line, reason in zip(lines, CATALOGUE.values(), strict=True):
        assert line.endswith(reason.says)


def test_the_table_says_what_fails_after_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    """Gates with their holds, in words."""
    reasons(None, output_format="text")

    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "  ready after 3 looks, live after 30s and 3 looks  " in lines["TritonHung"]
    assert "  ready at once, live after 1m  " in lines["StubDead"]
    assert "  no gate  " in lines["PlacementImplicit"]


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_one_reason_is_told_in_detail(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Severity, gates, action in words, and how to change what it does."""
    assert reasons(name, output_format="text") == 0

    out = capsys.readouterr().out
    reason = CATALOGUE[name]
    assert out.startswith(f"{name} ({reason.severity})")
    assert f"action  {reason.action}: " in out
    assert f"shadow: [{name}]" in out
    assert all(str(gate) in out for gate, _ in reason.fails)


def test_an_unknown_reason_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error exits 2 and costs one look."""
    assert reasons("cpufalback", output_format="text") == 2
    assert capsys.readouterr() == (
        "",
        "triton-probe: no reason is named 'cpufalback', did you mean CpuFallback?\n",
    )


def test_a_reason_far_from_any_is_told_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a near one the list is named."""
    assert reasons("\n\x1b[31mxyzzy" * 100, output_format="text") == 2
    err = capsys.readouterr().err
    assert "lists them all" in err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_the_catalogue_is_also_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has every reason with its holds as numbers."""
    assert reasons(None, output_format="json") == 0

    found = json.loads(capsys.readouterr().out)
    assert [each["reason"] for each in found] == list(CATALOGUE)
    hung = next(each for each in found if each["reason"] == "TritonHung")
    assert hung["fails"]["live"] == {"after_seconds": 30.0, "after_looks": 3}


def test_one_reason_is_also_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON of one reason is one object."""
    assert reasons("StubDead", output_format="json") == 0
    assert json.loads(capsys.readouterr().out)["action"] == "RELOAD_MODEL"
