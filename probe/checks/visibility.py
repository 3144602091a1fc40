"""Can the probe see Triton's processes?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.observation import Observation
from probe.facts.findings import SERVER, Claim


def judge(seen: Observation) -> Iterator[Claim]:
    """A claim where Triton answers and no tritonserver is to be seen."""
    server = seen.book.server
    if server.seen is None or server.ever_seen or not server.up:
        return
    yield Claim(
        "ProcessesNotShared",
        SERVER,
        f"Triton answers at {seen.settings.triton.grpc}, and no tritonserver process is to be seen in this pid "
        "namespace: dead or stopped stubs, restarts and per-model GPU memory can not be judged.",
        "Set shareProcessNamespace: true in the pod's spec (docker: --pid container:<triton>), with the same "
        "runAsUser and runAsGroup for both containers.",
        server.seen,
    )
