"""``audit``: what is wrong with a model repository, told from its files, without a server.

It reads what Triton would read, and says which model would run elsewhere than it is meant to, would not
be loaded, or would not fit.  With ``--fix`` it writes down the placements that nobody wrote.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Collection, Sequence

import click
import msgspec

from probe.checks.audit.backends import backend_of
from probe.checks.audit.roster import findings
from probe.checks.audit.terms import Terms, instances, wish
from probe.facts.audits import RULES, AuditFinding
from probe.facts.repository import RepositoryModel, Unreadable
from probe.kits.words import nearest
from probe.sources.repository.fixing import FixError, propose, write
from probe.sources.repository.reading import read_repositories
from probe.surfaces.audits import (
    AuditedModel,
    AuditReport,
    FixedFile,
    as_annotations,
    as_json,
    as_text,
)
from probe.surfaces.plain import one_line

CLEAN, FOUND, UNREADABLE = 0, 1, 2


class Fixing(msgspec.Struct, frozen=True):
    """What ``--fix`` may do: write, or only show what it would write."""

    preview: bool = False


def audit(
    paths: Sequence[str],
    terms: Terms,
    *,
    config_name: str = "",
    excluded: Collection[str] = (),
    fixing: Fixing | None = None,
    output_format: str = "text",
) -> int:
    """Print what is wrong; 0 nothing, 1 something, 2 where something could not be read (or written)."""
    reading = read_repositories(paths, config_name)
    found = findings(reading, terms, excluded)
    fixed: list[FixedFile] = []
    failed: list[Unreadable] = []
    if fixing is not None:
        fixed, failed = _fix(found, fixing)
        if fixed and not fixing.preview:
            reading = read_repositories(paths, config_name)
            found = findings(reading, terms, excluded)
    report = AuditReport(
        tuple(_audited(each, terms) for of in reading.deployments for each in of.models),
        found,
        (*reading.unreadable, *failed),
        tuple(fixed),
    )
    _show(report, output_format)
    return UNREADABLE if report.unreadable else FOUND if found else CLEAN


def show_rules() -> None:
    """Print every rule with its severity."""
    width = max(len(name) for name in RULES)
    for rule in RULES.values():
        click.echo(f"{rule.name.ljust(width)}  {rule.severity.value.ljust(8)}  {rule.says}")


def unknown_rule(name: str) -> str:
    """What to say of a rule that there is not; empty where there is."""
    if name in RULES:
        return ""
    close = nearest(name, RULES)
    return f"no rule is named {name[:80]!r}, " + (
        f"did you mean {close}?" if close else "--rules lists them all"
    )


def _fix(found: Sequence[AuditFinding], fixing: Fixing) -> tuple[list[FixedFile], list[Unreadable]]:
    fixed: list[FixedFile] = []
    failed: list[Unreadable] = []
    done: set[str] = set()
    for each in found:
        target = os.path.realpath(each.path)
        if not each.fix or target in done:
            continue
        done.add(target)
        try:
            edit = propose(each.path, each.fix)
            if fixing.preview:
                fixed.append(FixedFile(each.path, each.fix, _diff(each.path, edit.before, edit.after)))
            else:
                write(edit)
                fixed.append(FixedFile(each.path, each.fix))
        except FixError as error:
            failed.append(Unreadable(each.path, f"--fix: {error}"))
    return fixed, failed


def _diff(path: str, before: bytes, after: bytes) -> str:
    """As ``patch -p0`` and ``git apply -p0`` take it: lines end with a newline, and with nothing else."""
    old, new = (
        list(io.StringIO(each.decode("utf-8", "surrogateescape"), newline="\n")) for each in (before, after)
    )
    # A tab ends a name with blanks in it.
    name = f"{one_line(path)}\t" if " " in path else one_line(path)
    lines = difflib.unified_diff(old, new, name, name)
    return "".join(
        each if each.endswith("\n") else f"{each}\n\\ No newline at end of file\n" for each in lines
    )


def _audited(model: RepositoryModel, terms: Terms) -> AuditedModel:
    known = model.readable
    ensemble = known and model.said.ensemble
    return AuditedModel(
        name=model.name,
        file=model.config_file,
        variant=model.variant,
        backend=(backend_of(model) or None) if known else None,
        expected=wish(model, terms).expected.value,
        explicit=bool(model.said.groups) if known and not ensemble else None,
        instances=instances(model, terms) if known else None,
    )


def _show(report: AuditReport, output_format: str) -> None:
    if output_format == "json":
        click.echo(as_json(report))
    elif output_format == "github":
        for line in as_annotations(report, os.environ.get("GITHUB_WORKSPACE") or "."):
            click.echo(line)
    elif sys.stdout.isatty():
        from probe.surfaces import terminal  # noqa: PLC0415  (rich is imported only to draw)

        terminal.show_audit(terminal.console(), report)
    else:
        for line in as_text(report):
            click.echo(line.encode("utf-8", "surrogateescape"))
