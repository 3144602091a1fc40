"""An audit's report: text for people, one JSON object, or annotations of a GitHub workflow."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator

import msgspec

from probe.facts.audits import RULES, AuditFinding
from probe.facts.findings import Severity
from probe.facts.repository import Unreadable
from probe.surfaces.plain import encodable, one_line, to_json

SCHEMA = 1

_COMMANDS = {Severity.CRITICAL: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


class AuditedModel(msgspec.Struct, frozen=True):
    """One model under one of its configurations, as the JSON shows it; None is not known."""

    name: str
    file: str | None
    variant: str
    backend: str | None
    expected: str
    explicit: bool | None
    instances: int | None


class FixedFile(msgspec.Struct, frozen=True):
    """A line that was added to a file; ``diff`` where it was only shown what would be."""

    path: str
    line: str
    diff: str = ""


class AuditReport(msgspec.Struct, frozen=True):
    """All that an audit found."""

    models: tuple[AuditedModel, ...]
    findings: tuple[AuditFinding, ...]
    unreadable: tuple[Unreadable, ...]
    fixed: tuple[FixedFile, ...] = ()

    @property
    def summary(self) -> str:
        """One line: how many of what."""
        count = len({(each.name, each.file) for each in self.models if not each.variant})
        by = [(sum(each.severity is of for each in self.findings), of) for of in _COMMANDS]
        parts = [f"{times} {of.value}" for times, of in by if times]
        told = f"{len(self.findings)} findings ({', '.join(parts)})" if parts else "no findings"
        if len(self.findings) == 1:
            told = told.replace("findings", "finding")
        unread = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"{count} model{'' if count == 1 else 's'}: {told}{unread}."


def as_json(report: AuditReport) -> bytes:
    """One object: ``schema``, ``models``, ``findings``, ``unreadable``, ``fixed``."""
    return to_json({"schema": SCHEMA, **msgspec.to_builtins(report)})


def as_text(report: AuditReport) -> Iterator[str]:
    """Plain lines, each finding's sentences on one line each, for grep.

    Those of a diff keep bytes that are no UTF-8 as lone surrogates, for ``patch``.
    """
    for done in report.fixed:
        yield from _fixed(done)
    for finding in report.findings:
        yield heading(finding)
        yield f"    {_line(finding.message)}"
        yield f"    Do: {_line(finding.remedy)}"
        yield ""
    for trouble in report.unreadable:
        yield f"{place(trouble.path, trouble.line, trouble.column)}: UNREADABLE  {_line(trouble.message)}"
        yield ""
    yield report.summary


def heading(finding: AuditFinding) -> str:
    """Where, how bad, which rule, which model."""
    where = place(finding.path, finding.line)
    return f"{where}: {finding.severity.value.upper()}  {finding.rule}  {_line(finding.model)}".rstrip()


def place(path: str, line: int | None, column: int | None = None) -> str:
    """``path:line:column``, as editors take it."""
    return ":".join([_line(path), *(str(each) for each in (line, column) if each is not None)])


def as_annotations(report: AuditReport, root: str) -> Iterator[str]:
    """One workflow command each; GitHub wants paths relative to ``root``, the checkout."""
    for finding in report.findings:
        title = f"{finding.rule}: {RULES[finding.rule].says}"
        message = f"{finding.message}\nDo: {finding.remedy}"
        where = {"file": _within(finding.path, root), "line": finding.line}
        yield _command(_COMMANDS[finding.severity], {**where, "title": title}, message)
    for trouble in report.unreadable:
        at = {"file": _within(trouble.path, root), "line": trouble.line, "col": trouble.column}
        yield _command("error", {**at, "title": "Unreadable"}, trouble.message)


def _command(name: str, properties: dict[str, str | int | None], message: str) -> str:
    told = ",".join(
        f"{key}={_property(str(value))}" for key, value in properties.items() if value is not None
    )
    return f"::{name} {told}::{_data(message)}"


def _data(text: str) -> str:
    """As the runner's toolkit escapes a message."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return encodable(one_line(escaped))


def _property(text: str) -> str:
    """Likewise a property, which a comma or a colon would end."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _within(path: str, root: str) -> str:
    relative = os.path.relpath(path, root)
    return path if relative.startswith("..") else relative


def _fixed(done: FixedFile) -> Iterator[str]:
    if done.diff:
        yield from (_patch(each) for each in done.diff.removesuffix("\n").split("\n"))
    else:
        yield f"{_line(done.path)}: added  {done.line}"
    yield ""


def _patch(text: str) -> str:
    """A line of a diff as it is, but for what could steer a terminal; it ends with CR where its file's does."""
    end = "\r" if text.endswith("\r") else ""
    return "".join(each if _harmless(each) else one_line(each) for each in text.removesuffix(end)) + end


def _harmless(character: str) -> bool:
    return character in "\t\v\f" or unicodedata.category(character) not in ("Cc", "Cf")


def _line(text: str) -> str:
    return encodable(one_line(text))
