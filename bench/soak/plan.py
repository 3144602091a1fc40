"""What happens in a soak, drawn from a seed: the same seed, the same steps.  Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable

import msgspec

VERSIONS = ((1,), (2,), (1, 2))
"""What the model with versions may serve."""
RATES = (0.0, 0.5, 2.0, 5.0, 10.0, 25.0)
"""Requests per second of one thread of traffic."""
LONGEST_PAUSE = 6.0


class Kind(enum.StrEnum):
    """What can happen."""

    LOAD = "load"
    """A model that is not loaded."""
    UNLOAD = "unload"
    RELOAD = "reload"
    """Of a loaded model whose files changed, in one call."""
    RESIZE = "resize"
    """Another number of instances and nothing else, which Triton changes in place."""
    CYCLE = "unload and load"
    HASTY = "unload and load at once"
    """The load is asked for as soon as the unload is answered, which is before it is done."""
    BURST = "reload several at once"
    VERSIONS = "version policy"
    TRAFFIC = "traffic"
    IDLE = "idle"
    """No traffic at all for a while, in which canaries run."""
    NVML = "kill the NVML helper"
    RESTART = "restart Triton"


_WEIGHTS = {
    Kind.LOAD: 12,
    Kind.UNLOAD: 10,
    Kind.RELOAD: 18,
    Kind.RESIZE: 6,
    Kind.CYCLE: 10,
    Kind.HASTY: 6,
    Kind.BURST: 4,
    Kind.VERSIONS: 7,
    Kind.TRAFFIC: 14,
    Kind.IDLE: 4,
    Kind.NVML: 3,
}


class Step(msgspec.Struct, frozen=True):
    """One thing to do, and how many seconds to let pass after it.

    ``versions`` goes with VERSIONS, ``instances`` with RELOAD and RESIZE, ``rates`` (requests per second
    by thread, each with its model) with TRAFFIC.
    """

    kind: Kind
    models: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    instances: int = 1
    rates: tuple[tuple[str, float], ...] = ()
    pause: float = 0.0

    def __str__(self) -> str:
        """In a few words."""
        told = [self.kind.value, *self.models]
        if self.kind is Kind.VERSIONS:
            told.append(f"to {', '.join(map(str, self.versions))}")
        if self.kind in (Kind.RESIZE, Kind.RELOAD):
            told.append(f"with {self.instances} instance(s)")
        told += [f"{model} at {rate:g}/s" for model, rate in self.rates]
        return " ".join(told)


class Cast(msgspec.Struct, frozen=True):
    """Who plays: ``plain`` models can be given one instance or two, ``other`` can not."""

    plain: tuple[str, ...]
    versioned: str
    other: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.plain, self.versioned, *self.other)


class Plan:
    """Draws one step after the other; Triton is restarted about every ``restart_every`` seconds."""

    def __init__(self, seed: int, cast: Cast, *, threads: int = 3, restart_every: float = 600.0) -> None:
        self._chance = random.Random(seed)  # noqa: S311  (a seed is what it is for)
        self._cast = cast
        self._threads = threads
        self._restart_every = restart_every
        self._restart_at = self._jittered(restart_every)
        self._unloaded: set[str] = set()
        self._draw: dict[Kind, Callable[[], Step | None]] = {
            Kind.LOAD: self._load,
            Kind.UNLOAD: self._unload,
            Kind.RELOAD: lambda: self._sized(Kind.RELOAD),
            Kind.RESIZE: lambda: self._sized(Kind.RESIZE),
            Kind.CYCLE: lambda: self._one(Kind.CYCLE),
            Kind.HASTY: lambda: self._one(Kind.HASTY),
            Kind.BURST: self._burst,
            Kind.VERSIONS: self._versions,
            Kind.TRAFFIC: self._traffic,
            Kind.IDLE: lambda: Step(Kind.IDLE, pause=self._chance.uniform(8.0, 20.0)),
            Kind.NVML: lambda: Step(Kind.NVML, pause=self._pause()),
        }

    @property
    def unloaded(self) -> frozenset[str]:
        """Models that the steps so far leave unloaded."""
        return frozenset(self._unloaded)

    def next(self, elapsed: float) -> Step:
        """Draw the next step, ``elapsed`` seconds after the beginning."""
        if elapsed >= self._restart_at:
            self._restart_at = elapsed + self._jittered(self._restart_every)
            self._unloaded.clear()
            return Step(Kind.RESTART, pause=self._pause())
        kinds, weights = tuple(_WEIGHTS), tuple(_WEIGHTS.values())
        while True:
            (kind,) = self._chance.choices(kinds, weights)
            if (step := self._draw[kind]()) is not None:
                return step

    def _jittered(self, seconds: float) -> float:
        return seconds * self._chance.uniform(0.85, 1.15)

    def _pause(self) -> float:
        # Mostly short, now and then longer than the daemon's interval.
        return min(LONGEST_PAUSE, self._chance.expovariate(0.7))

    def _pick(self, names: Iterable[str]) -> str | None:
        found = sorted(names)
        return self._chance.choice(found) if found else None

    def _loaded(self) -> set[str]:
        return set(self._cast.names) - self._unloaded

    def _load(self) -> Step | None:
        model = self._pick(self._unloaded)
        if model is None:
            return None
        self._unloaded.discard(model)
        return Step(Kind.LOAD, (model,), pause=self._pause())

    def _unload(self) -> Step | None:
        # At most half of them are away at a time: a Triton without models would be a dull one.
        if 2 * (len(self._unloaded) + 1) > len(self._cast.names):
            return None
        model = self._pick(self._loaded())
        if model is None:
            return None
        self._unloaded.add(model)
        return Step(Kind.UNLOAD, (model,), pause=self._pause())

    def _one(self, kind: Kind) -> Step | None:
        model = self._pick(self._loaded())
        return None if model is None else Step(kind, (model,), pause=self._pause())

    def _sized(self, kind: Kind) -> Step | None:
        model = self._pick(self._loaded() & set(self._cast.plain))
        if model is None:
            return None
        return Step(kind, (model,), instances=self._chance.choice((1, 2)), pause=self._pause())

    def _burst(self) -> Step | None:
        loaded = sorted(self._loaded())
        if len(loaded) < 2:
            return None
        several = self._chance.sample(loaded, self._chance.randint(2, min(3, len(loaded))))
        return Step(Kind.BURST, tuple(several), pause=self._pause())

    def _versions(self) -> Step | None:
        model = self._cast.versioned
        if model in self._unloaded:
            return None
        return Step(Kind.VERSIONS, (model,), versions=self._chance.choice(VERSIONS), pause=self._pause())

    def _traffic(self) -> Step:
        rates = tuple(
            (self._chance.choice(self._cast.names), self._chance.choice(RATES)) for _ in range(self._threads)
        )
        return Step(Kind.TRAFFIC, rates=rates, pause=self._pause())
