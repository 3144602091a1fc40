"""Does Triton's one thread for gRPC control calls answer, where Triton itself does?

Every gRPC call but inference is executed by a single thread of Triton's (server, ``grpc_server.cc``,
``CommonHandler``); HTTP has threads of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import SERVER, Claim
from probe.ledgers.book import age

MISSES = 3
"""Looks in a row: one may meet a long listing of the repository, which is somebody's right to ask for."""


def judge(seen: Observation) -> Iterator[Claim]:
    """A claim where gRPC timed out at each of the last looks and HTTP answered; it fails no gate."""
    server = seen.book.server
    failed = server.last.timed_out if server.last is not None else None
    if server.gone is not None or failed is None or server.last is None or server.blocked_looks < MISSES:
        return
    seconds = age(seen.now, server.blocked_since) or 0.0
    yield Claim(
        "ControlPlaneBlocked",
        SERVER,
        f"Triton answers over HTTP, and the gRPC call for {_CALLS.get(failed.call, failed.call)} got no answer "
        f"within {seen.settings.triton.timeout:g} s at {server.blocked_looks} looks in a row, since {seconds:.0f} s: "
        "its one thread for control calls is busy. Meanwhile the states, counters and queues of models are not "
        "known; inference has other threads and may well go on.",
        "Find who keeps that thread busy: a client that lists the repository often (RepositoryIndex reads every "
        "folder, slowly from s3://, gs:// or as://), or from 26.03 on a model's own is_ready(), which may take 5 s. "
        "Probes of Triton's own gRPC health wait in the same queue. Raise triton.timeout where Triton is merely slow.",
        server.last.observed,
        {
            "call": failed.call,
            "misses": server.blocked_looks,
            "blocked_seconds": round(seconds, 1),
            "timeout_seconds": seen.settings.triton.timeout,
        },
    )


_CALLS = {
    "live": "ServerLive",
    "ready": "ServerReady",
    "metadata": "ServerMetadata",
    "statistics": "ModelStatistics",
}
