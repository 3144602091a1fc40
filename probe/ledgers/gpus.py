"""What happened to each GPU: the Xids that the driver reported since the probe started."""

from __future__ import annotations

import msgspec

from probe.facts.instants import Instant
from probe.facts.nvml import Xid


class XidRecord(msgspec.Struct, frozen=True):
    """One code on one GPU: how often, and when first and last."""

    count: int
    first: Instant
    last: Instant


class GpusLedger(msgspec.Struct, frozen=True):
    """Xids by GPU (UUID) and code.  Kept over epochs: a restarted tritonserver gets the same GPU."""

    xids: dict[str, dict[int, XidRecord]] = {}

    def of(self, uuid: str) -> dict[int, XidRecord]:
        """The Xids of one GPU by code."""
        return self.xids.get(uuid, {})

    def with_xid(self, event: Xid) -> GpusLedger:
        """After the driver reported one."""
        codes = self.of(event.uuid)
        before = codes.get(event.code)
        after = XidRecord(
            count=before.count + 1 if before is not None else 1,
            first=before.first if before is not None else event.observed,
            last=event.observed,
        )
        return msgspec.structs.replace(self, xids={**self.xids, event.uuid: {**codes, event.code: after}})
