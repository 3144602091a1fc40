"""Is Triton there, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import SERVER, Action, Claim
from probe.facts.gates import Gate
from probe.facts.instants import Instant
from probe.facts.triton import CallFailure, Failure, TritonReading
from probe.ledgers.server import ServerLedger


def judge(seen: Observation) -> Iterator[Claim]:
    """At most one claim: the state of the server is one."""
    server = seen.book.server
    if server.last is None or server.seen is None:
        waiting = "Triton" if server.last is None else "processes"
        yield Claim(
            "Initializing",
            SERVER,
            f"The first look at {waiting} has not come back yet.",
            "Wait: the first verdict follows the first look.",
            seen.now,
        )
    elif server.gone is not None and server.up:
        yield _down(server, server.gone)
    elif server.gone is not None:
        yield _starting(
            seen,
            server.last,
            f"tritonserver (pid {_pid(server)}) ended{_how(server)} before its ports opened.",
            "Read Triton's log: with --exit-on-error=true, its default, any model that fails to load ends it.",
        )
    elif server.last.live is None:
        yield from _silent(seen, server, server.last)


def _silent(seen: Observation, server: ServerLedger, last: TritonReading) -> Iterator[Claim]:
    grpc = last.failed("live")
    http = last.failed("http_live")
    failure = grpc.failure if grpc is not None else Failure.ERROR
    if failure is Failure.RESTRICTED:
        yield _restricted(last, grpc)
    elif failure is Failure.TLS:
        yield _tls(seen, last, grpc)
    elif server.misses:
        yield _hung(seen, server, last)
    elif failure in (Failure.REFUSED, Failure.EXITING):
        if last.http_live:
            yield _starting(
                seen,
                last,
                f"Triton answers over HTTP at {seen.settings.triton.http}, and nothing listens for gRPC at "
                f"{seen.settings.triton.grpc}.",
                "Set triton.grpc to the address that Triton was given (--grpc-address, --grpc-port), or start "
                "it with --allow-grpc=true.",
            )
        elif server.up and server.alive:
            yield _closing(seen, server, last, failure)
        else:
            yield _starting(
                seen, last, _not_open(seen, server), "Wait: ports open when the models are loaded."
            )
    elif http is None and last.http_live is None:
        return


def _not_open(seen: Observation, server: ServerLedger) -> str:
    address = seen.settings.triton.grpc
    if server.alive:
        return (
            f"tritonserver (pid {_pid(server)}) is there and has not opened {address} yet: it opens its ports "
            "when its first models are loaded."
        )
    return f"Nothing listens at {address}, and no tritonserver process is to be seen from here."


def _starting(seen: Observation, last: TritonReading, message: str, remedy: str) -> Claim:
    server = seen.book.server
    return Claim(
        "TritonStarting",
        SERVER,
        message,
        remedy,
        last.observed,
        {"pid": _pid(server), "grpc": seen.settings.triton.grpc},
    )


def _down(server: ServerLedger, gone: Instant) -> Claim:
    return Claim(
        "TritonDown",
        SERVER,
        f"tritonserver (pid {_pid(server)}) was up and its process is gone{_how(server)}.",
        "The Triton container has to be started again; its log and `kubectl describe pod` (last state, exit "
        "code, OOMKilled) say why it ended.",
        gone,
        {"pid": _pid(server), "exit_status": server.exit_status},
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
    )


def _hung(seen: Observation, server: ServerLedger, last: TritonReading) -> Claim:
    process = server.server.process if server.server is not None else None
    state = f" and is {process.state.value}" if process is not None else ""
    # Without sight of the process nobody can say that a restart would cure it.
    spares = frozenset() if process is not None else frozenset((Gate.LIVE,))
    return Claim(
        "TritonHung",
        SERVER,
        f"tritonserver (pid {_pid(server)}) is alive{state}; gRPC and HTTP liveness both got no answer within "
        f"{seen.settings.triton.timeout:g} s, {server.misses} looks in a row.",
        "A stopped process can be continued (kill -CONT); a deadlocked one needs a restart of the Triton "
        "container. A container without CPU time looks the same: see cpu.throttled_seconds in /status.",
        last.observed,
        {"pid": _pid(server), "state": process.state.value if process else None, "misses": server.misses},
        spares=spares,
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
