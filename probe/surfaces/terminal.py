"""The status for a terminal: a table of models with where they run, then each finding with its remedy.

``rich`` draws; it is imported only by commands that print for people, never by the daemon.
"""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from probe.facts.findings import Finding, Severity
from probe.facts.gates import Gate
from probe.facts.placement import Expected, Verdict
from probe.facts.status import ModelStatus, Status
from probe.surfaces.audits import AuditReport, heading, place
from probe.surfaces.plain import encodable, one_line

_PLAIN_WIDTH = 160
"""Columns where there is no terminal to ask: wide enough that a table is not broken in a log."""

_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def console(file: IO[str] | None = None) -> Console:
    """A console that colours where there is a terminal and is plain where there is none."""
    target = file if file is not None else sys.stdout
    width = None if target.isatty() else _PLAIN_WIDTH
    return Console(file=target, width=width, highlight=False, soft_wrap=False)


def text(content: str, style: str = "") -> Text:
    """Text from outside: never markup, never a control sequence."""
    return Text(encodable(one_line(content)), style=style)


def show_status(out: Console, status: Status) -> None:
    """Everything: the server, its models, the evidence, the findings."""
    show_server(out, status)
    if status.models:
        out.print(models_table(status.models))
    evidence = status.evidence
    out.print(text(f"Evidence of placement: {evidence.mode.value}. {evidence.why}", "dim"))
    out.print()
    show_findings(out, status.findings)


def show_server(out: Console, status: Status) -> None:
    """One line on the server and one on its gates."""
    triton = status.triton
    name = f"Triton {triton.version}" if triton.version else "Triton"
    pid = f", pid {triton.pid}" if triton.pid is not None else ""
    reached = {True: "reachable", False: "not reachable", None: "not asked"}[triton.reachable]
    out.print(
        text(f"{name}{pid}: {reached}; says live={_word(triton.live)} ready={_word(triton.ready)}", "bold")
    )
    line = Text("Gates: ")
    for gate in Gate:
        if (told := status.gates.get(gate)) is not None:
            line.append(f"{gate.value} ").append(
                "ok  " if told.ok else "FAILS  ", "green" if told.ok else "bold red"
            )
    out.print(line)


def models_table(models: tuple[ModelStatus, ...]) -> Table:
    """Where each model is declared, expected and found."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("MODEL", "STATE", "RUNS ON", "EXPECTED", "DECLARED", "INSTANCES", "GPU MEMORY", "GPUS"):
        table.add_column(name, no_wrap=name != "GPUS", overflow="fold")
    for model in models:
        placement, instances = model.placement, model.instances
        declared = placement.declared or "?"
        alive = "-" if instances.expected is None else f"{_known(instances.alive)}/{instances.expected}"
        short = (
            instances.expected is not None
            and instances.alive is not None
            and instances.alive < instances.expected
        )
        table.add_row(
            text(f"{model.name}/{model.version}" if model.version else model.name),
            text(model.state, "" if model.ready else "yellow"),
            text(placement.verdict.value, _verdict_style(placement.verdict, placement.expected)),
            text(placement.expected.value),
            text(declared if placement.explicit is not False else f"{declared} (implicit)"),
            text(alive, "bold red" if short else ""),
            text(_mib(placement.gpu_memory_bytes)),
            text(" ".join(placement.gpus) or "-"),
        )
    return table


def show_findings(out: Console, findings: tuple[Finding, ...]) -> None:
    """Each finding: what, of whom, which gates, the sentence, the cure."""
    if not findings:
        out.print(text("No findings.", "green"))
    for finding in findings:
        show_finding(out, finding)


def show_finding(out: Console, finding: Finding) -> None:
    """One finding."""
    head = text(finding.severity.value.upper(), _STYLES[finding.severity])
    head.append_text(text(f"  {finding.reason}  {finding.subject}", "bold"))
    gates = (*finding.gates, *finding.pending)
    if gates:
        head.append_text(text(f"  fails {', '.join(gate.value for gate in gates)}", "dim"))
    out.print(head)
    _indented(out, text(finding.message))
    _indented(out, text(f"Do: {finding.remedy}", "green"))
    out.print()


def show_audit(out: Console, report: AuditReport) -> None:
    """What was fixed, what is wrong, what could not be read."""
    for done in report.fixed:
        for line in (
            done.diff.removesuffix("\n").split("\n") if done.diff else [f"{done.path}: added  {done.line}"]
        ):
            out.print(text(line, "red" if line.startswith("-") else "green" if line.startswith("+") else ""))
        out.print()
    for finding in report.findings:
        out.print(text(heading(finding), _STYLES[finding.severity]))
        _indented(out, text(finding.message))
        _indented(out, text(f"Do: {finding.remedy}", "green"))
        out.print()
    for trouble in report.unreadable:
        where = place(trouble.path, trouble.line, trouble.column)
        out.print(text(f"{where}: UNREADABLE", "bold red"))
        _indented(out, text(trouble.message))
        out.print()
    clean = not report.findings and not report.unreadable
    out.print(text(report.summary, "green" if clean else "bold"))


def _indented(out: Console, content: Text) -> None:
    if out.is_terminal:
        out.print(Padding(content, (0, 0, 0, 4)))
    else:
        # In a log or a pipe a sentence stays on one line, for grep.
        out.print(Text("    ").append_text(content), soft_wrap=True)


def _verdict_style(verdict: Verdict, expected: Expected) -> str:
    if verdict is Verdict.UNKNOWN:
        return "yellow"
    return "bold red" if expected is Expected.GPU and verdict is Verdict.CPU else "green"


def _word(told: bool | None) -> str:  # noqa: FBT001  (a fact of three values, not a switch)
    return "unknown" if told is None else str(told).lower()


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f} MiB"
