"""``reasons``: what a finding can say, what it fails, and what there is to do."""

from __future__ import annotations

import json
import textwrap

import click

from probe.facts.catalogue import CATALOGUE, Reason
from probe.facts.findings import Action
from probe.facts.gates import Hold
from probe.kits.words import nearest
from probe.settings import format_hold

_ACTIONS = {
    Action.NONE: "nothing that a machine could do; the finding's remedy says what may help",
    Action.WAIT: "it should pass by itself",
    Action.CHECK_CONFIG: "change the configuration that the finding's remedy names",
    Action.RELOAD_MODEL: "unload and load the model",
    Action.RESTART_CONTAINER: "restart Triton's container",
    Action.RESCHEDULE_POD: "delete the pod, so that a new one gets its devices anew",
    Action.CHECK_NODE: "take the node out of service and look at its GPU",
}


def reasons(name: str | None, *, output_format: str) -> int:
    """Print the catalogue, or one reason of it; 2 where there is no such reason."""
    if name is None:
        every = list(CATALOGUE.values())
        click.echo(_as_json([_plain(each) for each in every]) if output_format == "json" else _table(every))
        return 0
    reason = CATALOGUE.get(name)
    if reason is None:
        close = nearest(name, CATALOGUE)
        hint = f"did you mean {close}?" if close else "`triton-probe reasons` lists them all"
        click.echo(f"triton-probe: no reason is named {name[:80]!r}, {hint}", err=True)
        return 2
    click.echo(_as_json(_plain(reason)) if output_format == "json" else _detail(reason))
    return 0


def _table(every: list[Reason]) -> str:
    rows = [("REASON", "SEVERITY", "FAILS", "SAYS")]
    rows += ((reason.name, str(reason.severity), _fails(reason), reason.says) for reason in every)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]))
        for row in rows
    )


def _detail(reason: Reason) -> str:
    lines = [
        f"{reason.name} ({reason.severity})",
        *textwrap.wrap(reason.says, 100, initial_indent="  ", subsequent_indent="  "),
        "",
        f"  fails   {_fails(reason)}",
        f"  action  {reason.action}: {_ACTIONS[reason.action]}",
        "",
        f"  To watch it without failing a gate:  shadow: [{reason.name}]",
    ]
    if reason.fails:
        gate = reason.fails[0][0]
        lines.append(f"  To change what it fails and when:    gates: {{{reason.name}: {{{gate}: 30s}}}}")
    return "\n".join(lines)


def _fails(reason: Reason) -> str:
    return ", ".join(f"{gate} {_after(hold)}" for gate, hold in reason.fails) or "no gate"


def _after(hold: Hold) -> str:
    return f"after {format_hold(hold)}" if hold.seconds or hold.looks else "at once"


def _plain(reason: Reason) -> dict[str, object]:
    return {
        "reason": reason.name,
        "says": reason.says,
        "severity": str(reason.severity),
        "action": str(reason.action),
        "fails": {
            str(gate): {"after_seconds": hold.seconds, "after_looks": hold.looks}
            for gate, hold in reason.fails
        },
    }


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2)
