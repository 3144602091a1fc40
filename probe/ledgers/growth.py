"""By how much tritonserver's GPU memory grew across a load that the probe saw; pure.

All models inside tritonserver share its memory, so that growth can be laid to one of them only where nothing else
came or went between two looks at the GPUs.  A context that the look before did not show is not growth: a driver's
context, with Triton's pool of 64 MiB, takes hundreds of MiB on every GPU that Triton sees, whatever its models do.
So no load while Triton starts is told, and none before the probe started.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from probe.facts.instants import Instant
from probe.facts.models import ModelVersion
from probe.ledgers.footprints import Footprint
from probe.ledgers.models import ModelRecord, ModelsLedger
from probe.ledgers.stretches import Stretch

GROWN_BYTES = 16 << 20
"""Growth on one GPU from which on it says anything: a library's handle and the kernels that it loads take some
MiB without a model's weights (cuBLAS: 8 MiB of workspace before Hopper)."""


class Growth(msgspec.Struct, frozen=True):
    """What one load did to tritonserver's memory on the GPUs.

    ``memory``: growth in bytes by UUID, of at least :data:`GROWN_BYTES`; of a model that was loaded anew, what
    it holds now.  ``load``: the ``ready_since`` of the load that it is told of; ``until``: the later look.
    """

    load: Instant | None
    until: Instant
    memory: dict[str, int] = {}
    company: tuple[ModelVersion, ...] = ()
    """What was loaded or unloaded in the same time: whose the growth is can not be told."""
    beside: bool = False
    """Others inside tritonserver executed in the same time, which may take memory too."""
    pooled_bytes: int = 0
    """What earlier models left behind when they were unloaded: pools from which later ones are served."""


class Episode(msgspec.Struct, frozen=True):
    """Loads and unloads, from the last look before the first of them to the first look after the last."""

    base: Footprint | None
    loaded: frozenset[ModelVersion] = frozenset()
    left: frozenset[ModelVersion] = frozenset()
    stirred: frozenset[ModelVersion] = frozenset()
    """Those that were seen loading or unloading, whatever came of it."""
    moved: frozenset[ModelVersion] = frozenset()
    until: Instant | None = None
    """When the last poll ended that found something coming or going."""


class GrowthLedger(msgspec.Struct, frozen=True):
    """One epoch.  ``grown`` is what is known, by model; ``pools`` what unloaded models left behind, by UUID.

    ``base``: the latest look of which a later poll said that nothing had come or gone; ``moved``: who executed
    since.  ``episode``: what is not yet settled, or a load that is settled and still alone: its first
    executions may take what its load did not.
    """

    grown: dict[ModelVersion, Growth] = {}
    pools: dict[str, int] = {}
    latest: Footprint | None = None
    base: Footprint | None = None
    moved: frozenset[ModelVersion] = frozenset()
    episode: Episode | None = None
    settled: bool = False

    def of(self, record: ModelRecord) -> Growth | None:
        """What is known of this model's present load."""
        found = self.grown.get(record.key)
        return found if found is not None and found.load == record.ready_since else None

    def with_look(self, shown: Footprint | None) -> GrowthLedger:
        """After a look at the GPUs; None where it proved nothing."""
        return msgspec.structs.replace(self, latest=shown)

    def with_stretch(
        self, stretch: Stretch, models: ModelsLedger, inside: Callable[[ModelRecord], bool]
    ) -> GrowthLedger:
        """After a poll.  ``inside``: whether a model may run in tritonserver's own process."""
        moved = frozenset(each.key for each in stretch.moved)
        if not stretch.still:
            return self._disturbed(stretch, moved)
        look = self.latest
        if look is not None and look.observed.mono > stretch.polled.mono:
            look = None
        after = self
        if self.episode is not None:
            after = self._resumed(self.episode, look, moved, models, inside)
        if look is None:
            return msgspec.structs.replace(after, moved=self.moved | moved)
        # The look fell into this stretch, or before it: who executed in it may have done so after the look.
        return msgspec.structs.replace(after, base=look, moved=moved)

    def _disturbed(self, stretch: Stretch, moved: frozenset[ModelVersion]) -> GrowthLedger:
        before = None if self.settled else self.episode
        base = before or Episode(self.base, moved=self.moved)
        episode = Episode(
            base.base,
            base.loaded | set(stretch.loaded),
            base.left | set(stretch.left),
            base.stirred | set(stretch.stirring),
            base.moved | moved,
            stretch.ended,
        )
        return msgspec.structs.replace(self, episode=episode, settled=False, moved=self.moved | moved)

    def _resumed(
        self,
        episode: Episode,
        look: Footprint | None,
        moved: frozenset[ModelVersion],
        models: ModelsLedger,
        inside: Callable[[ModelRecord], bool],
    ) -> GrowthLedger:
        episode = msgspec.structs.replace(episode, moved=episode.moved | moved)
        waiting = msgspec.structs.replace(self, episode=episode)
        if look is None or (episode.until is not None and look.began.mono < episode.until.mono):
            return waiting
        changed = _changed(episode, models, inside)
        done = msgspec.structs.replace(self, episode=None, settled=False)
        if not changed:
            return done
        if len(changed) > 1 or episode.base is None:
            return done._together(changed, episode, look, models)  # noqa: SLF001
        (key,) = changed
        record = models.records.get(key)
        if key not in episode.loaded or record is None or not record.ready:
            return done._unloaded(key, episode.base, look)  # noqa: SLF001
        others = episode.moved - {key}
        if self.settled and others:
            return done
        after = waiting._loaded(record, episode, look, beside=bool(others))  # noqa: SLF001
        return msgspec.structs.replace(after, episode=None) if others else after

    def _together(
        self, changed: frozenset[ModelVersion], episode: Episode, look: Footprint, models: ModelsLedger
    ) -> GrowthLedger:
        grown = {key: each for key, each in self.grown.items() if key not in changed}
        base = episode.base
        deltas = _deltas(base, look) if base is not None else {}
        memory = {uuid: delta for uuid, delta in deltas.items() if delta >= GROWN_BYTES}
        if memory and len(changed) > 1:
            for key in changed & episode.loaded:
                record = models.records.get(key)
                if record is not None:
                    company = tuple(sorted(changed - {key}))
                    grown[key] = Growth(record.ready_since, look.observed, memory, company)
        return msgspec.structs.replace(self, grown=grown)

    def _unloaded(self, key: ModelVersion, base: Footprint, look: Footprint) -> GrowthLedger:
        held = self.grown.get(key)
        pools = dict(self.pools)
        if held is not None and not held.company and not held.beside:
            for uuid, delta in _deltas(base, look).items():
                pools[uuid] = pools.get(uuid, 0) + max(0, held.memory.get(uuid, 0) + delta)
        grown = {each: told for each, told in self.grown.items() if each != key}
        return msgspec.structs.replace(self, grown=grown, pools=pools)

    def _loaded(
        self, record: ModelRecord, episode: Episode, look: Footprint, *, beside: bool
    ) -> GrowthLedger:
        key, base = record.key, episode.base
        deltas = _deltas(base, look) if base is not None else {}
        again, held = key in episode.left, self.grown.get(key)
        if again and held is not None and held.load != record.ready_since:
            # What it held before is in the look before, and was given back or is held again.
            known = {} if held.company or held.beside else held.memory
            deltas = {uuid: delta + known.get(uuid, 0) for uuid, delta in deltas.items()}
        memory = {uuid: delta for uuid, delta in deltas.items() if delta >= GROWN_BYTES}
        grown = {each: told for each, told in self.grown.items() if each != key}
        if memory or (deltas and not again):
            pooled = sum(self.pools.values())
            grown[key] = Growth(record.ready_since, look.observed, memory, (), beside, pooled)
        settled = not again
        return msgspec.structs.replace(
            self, grown=grown, episode=episode if settled else None, settled=settled
        )


def _changed(
    episode: Episode, models: ModelsLedger, inside: Callable[[ModelRecord], bool]
) -> frozenset[ModelVersion]:
    # A configuration is read after the load: who has processes of its own is known only now.
    named = episode.loaded | episode.left | episode.stirred
    found = {key for key in named if (record := models.records.get(key)) is None or inside(record)}
    # Triton names no version of a load that fails.
    versions = {key.name for key in found if key.version}
    return frozenset(key for key in found if key.version or key.name not in versions)


def _deltas(base: Footprint, look: Footprint) -> dict[str, int]:
    # A GPU that only one of the two looks shows tells of a context that came or went.
    return {uuid: now - base.memory[uuid] for uuid, now in look.memory.items() if uuid in base.memory}
