"""One fault, once: polls the gate all the time, strikes, and reads what the daemon made of it and when."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from bench.deployment import Deployment
from bench.faults.cases import Fault, Restore
from bench.faults.stage import Flow, Moment, Stage, moment
from bench.harness import BenchError
from probe.sandbox.daemon import CLOSED, OPEN

_CALM = 0.3
_TIMEOUT = 10.0
_RECOVERY = 30.0
_EVENTS_EVERY = 0.25
_HOLDS = 1.0
_REASON = re.compile(r"^\[-\](?P<reason>\w+) ", re.MULTILINE)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault; seconds since it, None for what did not happen.

    ``finding``: until the daemon raised a finding that names it, by the daemon's own clock, which is this
    machine's.  ``closed``: until a client had the first 503 in its hands.  ``reasons``: those of the first
    503 or, where the gate stays open, of the findings.  ``held``: the gate was still closed a second later,
    with the fault still there.  ``recovered``: from the end of a fault that ends by itself.  ``triton``: what
    Triton said as soon as the daemon had spoken.
    """

    finding: float | None
    closed: float | None
    reasons: tuple[str, ...]
    named: bool
    held: bool
    triton: str
    live_failed: bool
    recovered: float | None = None


class _Answer(msgspec.Struct, frozen=True):
    at: float
    body: str


def once(deployment: Deployment, fault: Fault) -> Outcome:
    """Strike once, and make all well again.  Raises BenchError or SandboxError where that fails."""
    deployment.wait_known(1)
    stage = Stage(deployment)
    recovered = None
    connection = http.client.HTTPConnection("127.0.0.1", deployment.daemon.port, timeout=_TIMEOUT)
    with contextlib.closing(connection), Flow(deployment, fault.per_second):
        early = _first(connection, CLOSED, fault.pace.value, time.perf_counter() + _CALM)
        if early is not None:
            raise BenchError(f"/readyz closed before the fault: {early.body}")
        struck = fault.strike(stage)
        until = struck.mono + fault.patience
        closed = None
        if fault.closes:
            closed = _first(connection, CLOSED, fault.pace.value, until)
        else:
            _await_finding(deployment, fault, struck, until)
        triton = stage.triton_says()
        held = _still_closed(deployment, moment().mono + _HOLDS) if closed else not fault.closes
        if fault.restore is Restore.CONTINUE:
            recovered = _continued(stage, connection, fault)
        raised = tuple(_raised(deployment, fault, struck))
        live_failed = _live_failed(deployment, struck)
    _restore(stage, fault)
    reasons = tuple(_REASON.findall(closed.body)) if closed else tuple(reason for reason, _ in raised)
    return Outcome(
        finding=min((seconds for _, seconds in raised), default=None),
        closed=closed.at - struck.mono if closed else None,
        reasons=tuple(dict.fromkeys(reasons)),
        named=any(each in fault.reasons for each in reasons),
        held=held,
        triton=triton,
        live_failed=live_failed,
        recovered=recovered,
    )


def _first(connection: http.client.HTTPConnection, code: int, period: float, until: float) -> _Answer | None:
    """Poll ``/readyz`` until it answers this code; ``until`` is ``perf_counter``'s."""
    due = time.perf_counter()
    while time.perf_counter() < until:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        if response.status == code:
            return _Answer(time.perf_counter(), body.decode(errors="replace"))
        due = max(due + period, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    return None


def _still_closed(deployment: Deployment, until: float) -> bool:
    time.sleep(max(0.0, until - time.perf_counter()))
    return deployment.daemon.ask("/readyz").code == CLOSED


def _await_finding(deployment: Deployment, fault: Fault, struck: Moment, until: float) -> None:
    while time.perf_counter() < until and next(_raised(deployment, fault, struck), None) is None:
        time.sleep(_EVENTS_EVERY)


def _raised(deployment: Deployment, fault: Fault, struck: Moment) -> Iterator[tuple[str, float]]:
    """Reason and delay of each finding that names the fault, oldest first."""
    for event in reversed(deployment.daemon.events()):
        if event["kind"] == "finding_raised" and event["reason"] in fault.reasons:
            delay = _seconds(event) - struck.wall
            if delay >= 0:
                yield event["reason"], delay


def _live_failed(deployment: Deployment, struck: Moment) -> bool:
    return any(
        each["kind"] == "gate_failed" and each["gate"] == "live" and _seconds(each) >= struck.wall
        for each in deployment.daemon.events()
    )


def _seconds(event: dict[str, Any]) -> float:
    return datetime.datetime.fromisoformat(event["at"]).timestamp()


def _continued(stage: Stage, connection: http.client.HTTPConnection, fault: Fault) -> float:
    began = moment()
    stage.deployment.triton.kill(signal.SIGCONT)
    answer = _first(connection, OPEN, fault.pace.value, began.mono + _RECOVERY)
    if answer is None:
        raise BenchError(f"/readyz did not open within {_RECOVERY:g} s of the end of the fault")
    return answer.at - began.mono


def _restore(stage: Stage, fault: Fault) -> None:
    stage.end_load()
    match fault.restore:
        case Restore.RELOAD:
            stage.reload()
        case Restore.FRESH:
            stage.freshen()
        case Restore.CONTINUE:
            pass
