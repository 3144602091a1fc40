"""The status as one plain web page: rendered here, loading nothing, everything from outside escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from probe.facts.findings import Finding
from probe.facts.status import ModelStatus, Status
from probe.surfaces.plain import encodable

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; margin: 0 0 2em; }
th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; border-bottom: 1px solid #8884; }
td { overflow-wrap: anywhere; }
.ok { color: #2a8a3e; } .critical, .failing { color: #d1242f; } .warning { color: #b07000; }
"""


def render(status: Status) -> str:
    """Write the whole page."""
    triton = status.triton
    version = triton.version or "of unknown version"
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>triton-probe</title><style>{_STYLE}</style></head><body>",
            f"<h1>triton-probe {_text(status.probe.version)}</h1>",
            f"<p>Triton {_text(version)}, epoch {triton.epoch}</p>",
            f"<p>Evidence of placement: {_text(status.evidence.mode)} ({_text(status.evidence.why)})</p>",
            _table(("gate", "state", "since", "failed by"), _gates(status)),
            "<h2>Findings</h2>",
            _table(
                ("severity", "reason", "about", "what is seen", "what to do", "since"),
                (_finding(each) for each in status.findings),
            ),
            "<h2>Models</h2>",
            _table(
                ("model", "version", "state", "ready", "runs on", "expected", "alive", "requests", "failed"),
                (_model(each) for each in status.models),
            ),
            '<p><a href="/status?pretty">/status</a> <a href="/events">/events</a>',
            '<a href="/metrics">/metrics</a></p></body></html>',
        )
    )


def _gates(status: Status) -> Iterable[tuple[str, ...]]:
    for gate, held in status.gates.items():
        state = '<span class="ok">open</span>' if held.ok else '<span class="failing">failing</span>'
        reasons = ", ".join(dict.fromkeys(each.reason for each in held.findings if gate in each.gates))
        yield f"{gate}z", state, f"{held.since:%Y-%m-%d %H:%M:%S} UTC", _text(reasons)


def _finding(finding: Finding) -> tuple[str, ...]:
    return (
        f'<span class="{finding.severity}">{finding.severity}</span>',
        _text(finding.reason),
        _text(str(finding.subject)),
        _text(finding.message),
        _text(finding.remedy),
        f"{finding.since:%Y-%m-%d %H:%M:%S} UTC",
    )


def _model(model: ModelStatus) -> tuple[str, ...]:
    instances, traffic = model.instances, model.traffic
    alive = "" if instances.expected is None else f"{_known(instances.alive)} of {instances.expected}"
    ready = {True: "yes", False: "no", None: "?"}[model.ready]
    return (
        _text(model.name),
        _text(model.version),
        _text(model.state),
        ready,
        _text(model.placement.verdict),
        _text(model.placement.expected),
        alive,
        _known(traffic.success_total),
        _known(traffic.failure_total),
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
    none = f'<tr><td colspan="{len(heads)}">none</td></tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body or none}</tbody></table>"


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _text(value: str) -> str:
    return html.escape(encodable(value))
