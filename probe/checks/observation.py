"""What a check is given: everything known at one moment, and what policy says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from urllib.parse import quote

import msgspec

from probe.checks.coverage import Gap, devices_of, gap_of, strays_of
from probe.facts.findings import Action
from probe.facts.instants import Instant
from probe.facts.models import InstanceKind, ModelVersion
from probe.facts.placement import EvidenceMode
from probe.facts.processes import ProcessId
from probe.ledgers.book import Book
from probe.ledgers.models import ModelRecord
from probe.ledgers.obituaries import Obituary
from probe.ledgers.ownership import possible_models
from probe.settings import Settings

_YES = frozenset(("true", "1", "yes", "on"))


class Staleness(msgspec.Struct, frozen=True):
    """A source that has not delivered for too long; ``age_seconds`` None where it never did."""

    source: str
    age_seconds: float | None
    error: str
    observed: Instant


class Observation(msgspec.Struct, frozen=True, dict=True):
    """One moment's knowledge; ``stale`` are the sources that it no longer rests on."""

    now: Instant
    settings: Settings
    book: Book
    stale: tuple[Staleness, ...] = ()

    @property
    def watching(self) -> bool:
        """Whether there is a Triton that answered in this epoch and whose process is not known gone."""
        return self.book.server.up and self.book.server.gone is None

    @cached_property
    def has_gpu(self) -> bool | None:
        """Whether Triton was given a GPU: by what it resolved, by its device nodes, by its own NVML."""
        configs = (record.config for record in self.book.models.records.values())
        if any(g.kind is InstanceKind.GPU for config in configs if config is not None for g in config.groups):
            return True
        if self.book.server.gpus_told:
            return True
        server = self.book.server.server
        if server is None or server.gpu_minors is None:
            return None
        return bool(server.gpu_minors)

    @cached_property
    def gap(self) -> Gap | None:
        """Why absence from NVML's process lists proves nothing here; None where it does."""
        return gap_of(self.book)

    @cached_property
    def on_gpus(self) -> dict[int, dict[str, int | None]]:
        """Of each process that NVML lists: the GPUs it is on, and the bytes that it holds there; None is not told.

        Empty where the lists' pids can not be trusted.
        """
        good, found = self.book.evidence.good, dict[int, dict[str, int | None]]()
        if good is None or not self.book.evidence.evidence.lists_prove_absence:
            return found
        for gpu in devices_of(good.gpus):
            for each in gpu.processes or ():
                # No context holds nothing: a zero is what some drivers say that can not tell.
                used = each.used_bytes if self.book.evidence.evidence.mode is EvidenceMode.FULL else None
                found.setdefault(each.pid, {})[gpu.uuid] = used or None
        return found

    @cached_property
    def families(self) -> dict[ProcessId, frozenset[int]]:
        """By stub: the pids of its family, also of those that no tree leads to any more for they were adopted."""
        return self.book.families.pids

    @cached_property
    def strays(self) -> dict[int, str]:
        """What NVML lists that may be a model's, and that no stub's family has: names by pid."""
        return strays_of(self.book)

    @cached_property
    def lost_in_loads(self) -> dict[str, tuple[Obituary, ...]]:
        """Who died under this Triton and had never served, by the names of the models that it may have been of."""
        found: dict[str, tuple[Obituary, ...]] = {}
        for each in self.book.obituaries.kept:
            if each.epoch == self.book.server.epoch and not each.served and each.arguments is not None:
                for name in possible_models(each.arguments, self.book.models.known):
                    found[name] = (*found.get(name, ()), each)
        return found

    @cached_property
    def required(self) -> frozenset[str]:
        """Models that must be ready: named in the configuration, or by their own ``config.pbtxt``."""
        named = {
            record.key.name
            for record in self.book.models.records.values()
            if record.config is not None
            and (record.config.parameter("triton_probe.required") or "").strip().casefold() in _YES
        }
        return frozenset(self.settings.models.required) | frozenset(named)

    def records(self) -> Iterator[ModelRecord]:
        """Every model version that policy does not ignore, in order of name and version."""
        ignored = set(self.settings.models.ignore)
        for key in sorted(self.book.models.records):
            if key.name not in ignored:
                yield self.book.models.records[key]

    def has_ready_version(self, name: str) -> bool:
        """Whether any version of this model is ready."""
        return any(each.ready for each in self.book.models.named(name))

    def meant(self, reference: ModelVersion) -> ModelRecord | None:
        """The ready version that a step names; an empty version is the latest, as Triton takes it."""
        return self.book.models.meant(reference)

    def told_unready(self, record: ModelRecord) -> Instant | None:
        """When Triton said ``ModelReady`` false of this ready model; None where it did not, or of others.

        What it said before a stub began that now serves, it said of the instance that this stub replaces.
        """
        told = record.told_ready_at
        if record.told_ready is not False or told is None:
            return None
        younger = any(each.first_seen.mono > told.mono for each in self.book.stubs.of(record.key))
        return None if younger else told

    @property
    def explicit_control(self) -> bool:
        """Whether Triton runs with ``--model-control-mode=explicit``, so that a model can be reloaded."""
        server = self.book.server.server
        return server is not None and server.option("model-control-mode") == "explicit"

    @property
    def reload_action(self) -> Action:
        """What :meth:`reload_remedy` comes to, for a machine."""
        return Action.RELOAD_MODEL if self.explicit_control else Action.RESTART_CONTAINER

    def load_command(self, model: str) -> str:
        """A command line to paste that loads the model, or loads it anew."""
        return self._control(model, "load")

    def _control(self, model: str, what: str) -> str:
        http = self.settings.triton.http
        base = f"--unix-socket {http[5:]} http://localhost" if http.startswith("unix:") else f"http://{http}"
        return f"curl -X POST {base}/v2/repository/models/{quote(model, safe='')}/{what}"

    def load_beside(self, model: str) -> str:
        """How to get a fresh copy beside one that hangs, without an unload, which would never end; explicit mode."""
        # Seen in 24.10: a load answers at once, and the new instances serve beside the hung ones; where no file
        # in the version's folder changed (config.pbtxt does not count), it answers as well and does nothing.
        return (
            "touch a file in the model's version folder, for without a change Triton takes the load for done, then "
            f"{self.load_command(model)}"
        )

    def loss_remedy(self, model: str) -> str:
        """How to get a model's processes back, and what the probe itself does about it."""
        remedy = self.reload_remedy(model)
        if not self.settings.heal.reload_model:
            return remedy
        if self.explicit_control:
            return (
                "The probe reloads the model by itself (heal.reload_model), a few times within an hour at most; "
                f"/events tells how that goes. Where it does not help: {remedy}"
            )
        return f"{remedy} heal.reload_model is on, and works only with --model-control-mode=explicit."

    def reload_remedy(self, model: str) -> str:
        """How to get a model's instances back, in the reader's terms."""
        if self.explicit_control:
            return (
                f"Reload the model: {self._control(model, 'unload')} && {self.load_command(model)} "
                "(the unload may never end after a death; the load works all the same)."
            )
        if self.book.server.server is None:
            return (
                "Restart the Triton container, or, where it runs with --model-control-mode=explicit (which can not "
                "be seen from here), reload the model: "
                f"{self._control(model, 'unload')} && {self.load_command(model)}"
            )
        return (
            "Restart the Triton container: this Triton does not run with "
            "--model-control-mode=explicit, so the model can not be reloaded alone."
        )
