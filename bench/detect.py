"""How long after a process is killed does ``/readyz`` say 503?

Stubs of a real Triton are killed under traffic, then the whole tritonserver a few times.  The delay is seen
from outside: from just before the kill to the first 503 in the hands of a client that polls all the time.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import signal
import time
from collections.abc import Callable

import msgspec

from bench.deployment import Deployment, Traffic, deployed, sample
from bench.harness import MILLISECONDS, BenchError, Options, Result, of_figure, of_values
from probe.sandbox.daemon import CLOSED

NAME = "detect"
MODEL = "victim"
INSTANCES = 2
BUDGET_MS = 100.0
PERIOD = 0.001
"""Seconds between polls, as far as the answers come that fast; what it was is reported."""

_REQUESTS_PER_SECOND = 40
_GIVE_UP = 15.0
_CHANCE = random.SystemRandom()
_DELAY = "triton_probe_detection_delay_seconds"


class Scale(msgspec.Struct, frozen=True):
    """How much is killed, and for how long (seconds, at most) the traffic flows before each kill."""

    stubs: int
    servers: int
    calm: float = 1.0


FULL = Scale(stubs=50, servers=5)
QUICK = Scale(stubs=10, servers=2)


class Kill(msgspec.Struct, frozen=True):
    """One kill: seconds to the 503, as a client saw it and as the daemon counts (None: it did not).

    ``named``: the 503 carried the right reason.  ``blind``: Triton called itself and the model ready then.
    """

    seconds: float
    own_seconds: float | None
    named: bool
    blind: bool
    periods: tuple[float, ...]


def run(options: Options) -> list[Result]:
    """Kill in a deployment of its own."""
    with deployed() as deployment:
        prepare(deployment)
        return measure(deployment, QUICK if options.quick else FULL)


def prepare(deployment: Deployment) -> None:
    """Start what is to be killed, and the daemon."""
    deployment.repository.add_echo(MODEL, kind="KIND_CPU", instances=INSTANCES)
    deployment.start_triton()
    deployment.start_daemon()


def measure(deployment: Deployment, scale: Scale) -> list[Result]:
    """Kill ``scale`` of each, one after the other, each time waiting until all is well again."""
    conditions = (
        f"{deployment.conditions}; {deployment.models} model(s), {MODEL} with {INSTANCES} "
        f"python instances under {_REQUESTS_PER_SECOND} requests/s; SIGKILL; 503 seen by a client polling "
        f"/readyz every {PERIOD * MILLISECONDS:g} ms over one connection; reload after each"
    )
    with Traffic(deployment, MODEL, per_second=_REQUESTS_PER_SECOND) as traffic:
        stubs = [_kill_stub(deployment, traffic, scale) for _ in range(scale.stubs)]
    servers = [_kill_server(deployment, scale) for _ in range(scale.servers)]
    return [
        *_results("stub killed", "StubDead", stubs, conditions),
        of_figure(
            NAME,
            f"kills at which Triton said server and model ready, of {len(stubs)}",
            sum(each.blind for each in stubs),
            "kills",
            conditions=conditions,
        ),
        *_results("tritonserver killed", "TritonDown", servers, conditions),
        of_values(
            NAME,
            "resolution: time between the client's polls",
            [period * MILLISECONDS for each in (*stubs, *servers) for period in each.periods],
            "ms",
            statistic="p50",
            conditions=conditions,
        ),
    ]


def _results(what: str, reason: str, kills: list[Kill], conditions: str) -> list[Result]:
    if not kills:
        return []
    own = [each.own_seconds * MILLISECONDS for each in kills if each.own_seconds is not None]
    results = [
        of_values(
            NAME,
            f"{what} to 503",
            [each.seconds * MILLISECONDS for each in kills],
            "ms",
            budget=BUDGET_MS,
            conditions=conditions,
        ),
        of_figure(
            NAME,
            f"{what}: 503s that did not name {reason}, of {len(kills)}",
            sum(not each.named for each in kills),
            "answers",
            budget=0,
            conditions=conditions,
        ),
    ]
    if own:
        results.append(of_values(NAME, f"{what}, {_DELAY}", own, "ms", conditions=conditions))
    return results


def _kill_stub(deployment: Deployment, traffic: Traffic, scale: Scale) -> Kill:
    deployment.wait_known(deployment.models)
    traffic.resume()
    pids = [
        stub.pid for model in deployment.daemon.status().models if model.name == MODEL for stub in model.stubs
    ]
    victim = deployment.pod.outer_pid(_CHANCE.choice(pids))
    if victim is None:
        raise BenchError(f"no stub of {MODEL} is left to kill")
    try:
        return _kill(deployment, "StubDead", lambda: os.kill(victim, signal.SIGKILL), scale.calm)
    finally:
        traffic.pause()
        _reload(deployment)


def _reload(deployment: Deployment) -> None:
    # An unload never ends where a request failed on the dead stub; a load works all the same.
    client = deployment.triton.client
    client.unload(MODEL)
    deployment.daemon.wait_until("the unload", lambda: not client.model_ready(MODEL))
    client.load(MODEL)


def _kill_server(deployment: Deployment, scale: Scale) -> Kill:
    deployment.wait_known(deployment.models)
    kill = _kill(deployment, "TritonDown", deployment.triton.kill, scale.calm)
    for stub in deployment.triton.stubs():
        with contextlib.suppress(ProcessLookupError):
            os.kill(stub.pid, signal.SIGKILL)
    deployment.triton.stop()
    deployment.start_triton()
    return kill


def _kill(deployment: Deployment, reason: str, strike: Callable[[], None], calm: float) -> Kill:
    """Poll, strike at a moment that has nothing to do with anybody's schedule, and poll until the 503."""
    daemon = deployment.daemon
    before = _own(deployment, reason)
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=_GIVE_UP)
    with contextlib.closing(connection):
        calm_polls = _poll(connection, _CHANCE.uniform(calm / 2, calm))
        if calm_polls.closed is not None:
            raise BenchError(f"/readyz closed before a kill: {calm_polls.closed}")
        time.sleep(_CHANCE.uniform(0, PERIOD))
        struck = time.perf_counter()
        strike()
        polls = _poll(connection, _GIVE_UP)
    if polls.closed is None:
        raise BenchError(f"no 503 within {_GIVE_UP:.0f} s of a kill that is {reason}")
    client = deployment.triton.client
    blind = False
    with contextlib.suppress(OSError):
        blind = client.server_ready() and client.model_ready(MODEL)
    after = _own(deployment, reason)
    counted = after[0] - before[0] == 1
    return Kill(
        seconds=polls.ended - struck,
        own_seconds=after[1] - before[1] if counted else None,
        named=f"[-]{reason} " in polls.closed,
        blind=blind,
        periods=calm_polls.periods,
    )


class _Polls(msgspec.Struct, frozen=True):
    """What came of polling: the first 503's body where there was one, when it ended, seconds between polls."""

    ended: float
    closed: str | None
    periods: tuple[float, ...]


def _poll(connection: http.client.HTTPConnection, seconds: float) -> _Polls:
    began = due = time.perf_counter()
    sent: list[float] = []
    closed: str | None = None
    while closed is None and (moment := time.perf_counter()) < began + seconds:
        sent.append(moment)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        if response.status == CLOSED:
            closed = body.decode()
        else:
            due = max(due + PERIOD, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
    periods = tuple(later - earlier for earlier, later in itertools.pairwise(sent))
    return _Polls(time.perf_counter(), closed, periods)


def _own(deployment: Deployment, reason: str) -> tuple[float, float]:
    labels = f'{{reason="{reason}"}}'
    daemon = deployment.daemon
    return sample(daemon, f"{_DELAY}_count", labels), sample(daemon, f"{_DELAY}_sum", labels)
