"""Is Triton there, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.deaths.ends import end_of_server
from probe.checks.observation import Observation
from probe.facts.findings import SERVER, Action, Claim, Scalar
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.triton import CallFailure, Failure, TritonReading
from probe.ledgers.server import ServerLedger

_NEEDED = ("ready", "statistics")
"""Calls of a poll without which models are not known; the others have a substitute or only inform."""


def judge(seen: Observation) -> Iterator[Claim]:
    """What is wrong with the server now; a claim that waits for its looks displaces none that stands."""
    server = seen.book.server
    if server.gone is not None and server.up:
        yield _down(seen, server, server.gone)
    elif server.gone is not None:
        end = end_of_server(seen)
        yield _starting(
            seen,
            server.gone,
            f"tritonserver (pid {_pid(server)}) ended{_how(server)} before its ports opened.{end.says}",
            end.remedy
            or "Read Triton's log: with --exit-on-error=true, its default, any model that fails to load ends it.",
            end.evidence,
        )
    elif server.last is None or server.seen is None:
        waiting = "Triton" if server.last is None else "processes"
        yield _initializing(seen, f"The first look at {waiting} has not come back yet.")
    else:
        if server.misses:
            yield _hung(seen, server, server.last)
        if server.told is None:
            failed = server.last.failed("live")
            why = f": {failed.detail or failed.failure.value}" if failed is not None else ""
            yield _initializing(seen, f"Triton has not answered yet{why}.")
        elif server.told.live is None:
            yield from _silent(seen, server, server.told)
        else:
            yield from _answering(seen, server, server.told)


def _answering(seen: Observation, server: ServerLedger, told: TritonReading) -> Iterator[Claim]:
    models = seen.book.models
    complete = models.statistics_at is not None and models.asked is not None
    refused = (each for each in told.failures if each.failure is Failure.RESTRICTED)
    restricted = next((each for each in refused if each.call in _NEEDED), None)
    restricted = restricted or next(iter(models.restricted.values()), None)
    if not told.live:
        yield _starting(
            seen,
            told.observed,
            "Triton answers that it is not live: it is still initializing, or its initialization failed.",
            "Wait for its first models; where it stays so, read Triton's log.",
        )
        return
    if restricted is not None:
        yield _restricted(told, restricted)
    if server.http_refusals > 1:
        yield _draining(seen, server, told)
    if not complete:
        failed = told.failures[0] if told.failures else None
        why = f": {failed.call}: {failed.detail or failed.failure.value}" if failed is not None else ""
        yield _initializing(seen, f"Triton answers and has not told of its models yet{why}.")


def _draining(seen: Observation, server: ServerLedger, told: TritonReading) -> Claim:
    return Claim(
        "TritonDown",
        SERVER,
        f"Triton answered over HTTP at {seen.settings.triton.http} and refuses connections there now, while gRPC "
        "still answers: it is shutting down, or it lost its HTTP server.",
        "A Triton that was told to stop closes its HTTP port first and waits up to --exit-timeout-secs for "
        "requests in flight; nothing is to be done then.",
        told.observed,
        {"pid": _pid(server), "http": seen.settings.triton.http},
        # It answers over gRPC: nothing says that a restart would cure anything.
        spares=frozenset((Gate.LIVE,)),
    )


def _silent(seen: Observation, server: ServerLedger, told: TritonReading) -> Iterator[Claim]:
    failed = told.failed("live")
    failure = failed.failure if failed is not None else Failure.REFUSED
    if failure in (Failure.RESTRICTED, Failure.TLS):
        yield _restricted(told, failed) if failure is Failure.RESTRICTED else _tls(seen, told, failed)
        if seen.book.models.statistics_at is None:
            yield _initializing(seen, "Triton has not told of its models yet.")
    elif failure is Failure.REFUSED and told.http_live:
        yield _starting(
            seen,
            told.observed,
            f"Triton answers over HTTP at {seen.settings.triton.http}, and nothing listens for gRPC at "
            f"{seen.settings.triton.grpc}.",
            "Set triton.grpc to the address that Triton was given (--grpc-address, --grpc-port), or start "
            "it with --allow-grpc=true.",
        )
    elif server.up and server.alive:
        yield _closing(seen, server, told, failure)
    else:
        wait = "Wait: ports open when the models are loaded."
        yield _starting(seen, told.observed, _not_open(seen, server), wait)


def _initializing(seen: Observation, message: str) -> Claim:
    return Claim(
        "Initializing", SERVER, message, "Wait: the first verdict follows the first complete look.", seen.now
    )


def _not_open(seen: Observation, server: ServerLedger) -> str:
    address = seen.settings.triton.grpc
    if server.alive:
        return (
            f"tritonserver (pid {_pid(server)}) is there and has not opened {address} yet: it opens its ports "
            "when its first models are loaded."
        )
    others = seen.book.processes.other_servers if seen.book.processes is not None else 0
    if others:
        return (
            f"Nothing listens at {address}; {others} tritonserver process{'es' if others > 1 else ''} to be seen "
            "here were told other ports (triton.grpc has to be their --grpc-port)."
        )
    return f"Nothing listens at {address}, and no tritonserver process is to be seen from here."


def _starting(
    seen: Observation, observed: Instant, message: str, remedy: str, more: dict[str, Scalar] | None = None
) -> Claim:
    server = seen.book.server
    return Claim(
        "TritonStarting",
        SERVER,
        message,
        remedy,
        observed,
        {"pid": _pid(server), "grpc": seen.settings.triton.grpc, **(more or {})},
    )


def _down(seen: Observation, server: ServerLedger, gone: Instant) -> Claim:
    end = end_of_server(seen)
    start = "The Triton container has to be started again"
    return Claim(
        "TritonDown",
        SERVER,
        f"tritonserver (pid {_pid(server)}) was up and its process is gone{_how(server)}.{end.says}",
        f"{end.remedy} {start}."
        if end.remedy
        else f"{start}; its log and `kubectl describe pod` (last state, exit code, OOMKilled) say why it ended.",
        gone,
        {"pid": _pid(server), "exit_status": server.exit_status, **end.evidence},
        event_at=gone,
    )


def _closing(seen: Observation, server: ServerLedger, last: TritonReading, failure: Failure) -> Claim:
    exiting = failure is Failure.EXITING
    return Claim(
        "TritonDown",
        SERVER,
        f"tritonserver (pid {_pid(server)}) was up and "
        f"{'says that it is exiting' if exiting else f'no longer listens at {seen.settings.triton.grpc}'}; "
        "its process is still there.",
        "Triton is shutting down, which may take --exit-timeout-secs (30 s by default); a process that stays "
        "longer has to be restarted.",
        last.observed,
        {"pid": _pid(server)},
        # One that says that it is going needs no push.
        spares=frozenset((Gate.LIVE,)) if exiting else frozenset(),
    )


_CONTINUE = (
    "A stopped process can be continued (kill -CONT); a deadlocked one needs a restart of the Triton "
    "container. A container without CPU time looks the same: see cpu.throttled_seconds in /status."
)
_THAW = (
    "Find who froze the cgroup (docker pause, a checkpoint, an agent of the node) and let it thaw; where nobody "
    "does, restart the Triton container."
)


def _hung(seen: Observation, server: ServerLedger, last: TritonReading) -> Claim:
    process = server.server.process if server.server is not None else None
    paused = process is not None and process.paused
    cgroup = process.frozen_cgroup if process is not None else ""
    held = f" by the cgroup {cgroup}" if cgroup else ""
    who = (
        f"tritonserver (pid {_pid(server)}) is alive and is {process.state.value}{held}"
        if process is not None
        else "Triton accepts connections"
    )
    both = "gRPC and HTTP liveness both" if server.http_up else "gRPC liveness (HTTP never answered)"
    # Where its process can not be seen, or HTTP never was there to agree, nobody can say that a restart
    # would cure it; one that is stopped or frozen is past doubt.
    sure = paused or (process is not None and server.http_up)
    evidence: dict[str, Scalar] = {
        "pid": _pid(server),
        "state": process.state.value if process else None,
        "misses": server.misses,
    }
    if cgroup:
        evidence["cgroup"] = cgroup
    return Claim(
        "TritonHung",
        SERVER,
        f"{who}; {both} got no answer within {seen.settings.triton.timeout:g} s, {server.misses} looks in a row.",
        _THAW if cgroup else _CONTINUE,
        last.observed,
        evidence,
        spares=frozenset() if sure else frozenset((Gate.LIVE,)),
    )


def _restricted(last: TritonReading, failed: CallFailure | None) -> Claim:
    detail = failed.detail if failed is not None else ""
    return Claim(
        "ProtocolRestricted",
        SERVER,
        f"Triton restricts the calls that the probe needs: {detail}",
        "Give the probe the header that Triton names: triton.headers: {triton-grpc-protocol-<key>: <value>} as "
        "in Triton's --grpc-restricted-protocol.",
        last.observed,
        {"detail": detail},
    )


def _tls(seen: Observation, last: TritonReading, failed: CallFailure | None) -> Claim:
    detail = failed.detail if failed is not None else ""
    spoken = "with TLS" if seen.settings.triton.tls.active else "without TLS"
    return Claim(
        "TlsMismatch",
        SERVER,
        f"The probe speaks to {seen.settings.triton.grpc} {spoken}, and the connection is refused: {detail}",
        "Make triton.tls agree with Triton's --grpc-use-ssl: ca for its certificate, cert and key where it "
        "asks for the client's (--grpc-use-ssl-mutual).",
        last.observed,
        {"detail": detail},
        action=Action.CHECK_CONFIG,
    )


def _pid(server: ServerLedger) -> int | None:
    return server.process.pid if server.process is not None else None


def _how(server: ServerLedger) -> str:
    status = server.exit_status
    if status is None:
        return ""
    signal = status & 0x7F
    return f", killed by signal {signal}" if signal else f" with exit code {status >> 8 & 0xFF}"
