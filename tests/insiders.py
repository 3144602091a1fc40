"""Models inside tritonserver, told second by second: what they execute, what the process exerts, who looks when.

The clock is one for all, and nobody looks at the same moment: Triton is polled every 5 s, NVML looked at every 5 s
half a period later, and processes are scanned every 2 s::

    story = inside("m", "n").goes(60, runs={"m": 0.5}, cores=0.5)     # m executes half of the time, on the CPU
    assert story.verdict("m") is Verdict.CPU
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from probe.checks.verdicts import placement_of
from probe.facts.models import DeviceMemory, InstanceKind, ModelConfig, ModelStatistics
from probe.facts.nvml import Gpu, GpuBusy
from probe.facts.placement import Placement, Verdict
from tests.worlds import MIB, SERVER_PID, World, at, config, gpu, group, row, serving

CONTEXT = 500 * MIB
"""What a driver's context and Triton's own pool take on a GPU, whatever its models do."""
POLL, LOOK, SCAN = 5, 5, 2
RATE = 10
"""Executions in a second of executing."""


def onnx(name: str, kind: InstanceKind = InstanceKind.GPU, backend: str = "onnxruntime") -> ModelConfig:
    """A model inside tritonserver with one written group."""
    gpus = (0,) if kind is InstanceKind.GPU else ()
    return config(name, group(f"{name}_0", kind, 1, *gpus), backend=backend)


class Story(msgspec.Struct, frozen=True):
    """What happened so far.  ``done``: seconds that each model executed; ``cpu``: those that the process took.

    ``memory``: bytes of tritonserver on each GPU; ``rows``: what the statistics say of a model's memory.
    """

    world: World
    done: dict[str, float] = {}
    cpu: float = 0.0
    memory: dict[str, int] = msgspec.field(default_factory=lambda: {"GPU-a": CONTEXT})
    counted: dict[str, tuple[DeviceMemory, ...]] = {}
    rate: float = RATE
    before: dict[str, int] = {}
    since: dict[str, float] = {}
    second: int = 0

    def goes(
        self,
        seconds: int,
        runs: Mapping[str, float] | None = None,
        *,
        cores: float = 0.0,
        busy: Mapping[str, float] | None = None,
        looking: bool = True,
        scanning: bool = True,
        **shown: Any,  # noqa: ANN401
    ) -> Story:
        """So many seconds in which these models execute for so much of each.

        ``cores``: CPU time of the process by second; ``busy``: percent of each GPU that it kept busy.  What is
        ``shown`` goes to :meth:`gpus`.
        """
        story = self
        for _ in range(seconds):
            done = dict(story.done)
            for name, share in (runs or {}).items():
                done[name] = done.get(name, 0.0) + share
            story = msgspec.structs.replace(story, done=done, cpu=story.cpu + cores, second=story.second + 1)
            world = _at(story.told(), story, 0.0)
            if scanning and story.second % SCAN == 0:
                world = world.scans(existing=(SERVER_PID,))
            if story.second % POLL == 1:
                world = _at(world, story, 0.3).polls()
                known = world.book.models
                if known.vanished or any(each.config is None for each in known.records.values()):
                    world = world.asks()
            if looking and story.second % LOOK == 3:
                world = _at(world, story, 0.6).looks(*story.gpus(busy or {}, **shown))
            story = story.but(_at(world, story, 0.9))
        return story

    def told(self) -> World:
        """The world with the figures of this moment."""
        rows = tuple(self.row(each.key.name) for each in self.world.configs)
        running = self.world.server
        if running is not None:
            process = msgspec.structs.replace(running.process, cpu_ticks=int(self.cpu * 100))
            running = msgspec.structs.replace(running, process=process)
        return self.world.having(rows=rows, server=running)

    def row(self, name: str) -> ModelStatistics:
        """Its counters."""
        seconds = self.done.get(name, 0.0)
        return row(
            name,
            success=self.executions(name),
            batch_ns=int(seconds * 1e9),
            memory=self.counted.get(name, ()),
        )

    def gpus(
        self,
        busy: Mapping[str, float],
        *,
        busy_by: tuple[GpuBusy, ...] | None = (),
        listless: bool = False,
    ) -> tuple[Gpu, ...]:
        """What NVML shows: who was ``busy_by`` GPUs that tritonserver was not, and one GPU without a list."""
        told = []
        for uuid, used in self.memory.items():
            mine = (GpuBusy(SERVER_PID, busy[uuid]),) if uuid in busy else busy_by
            shown = gpu(uuid, {SERVER_PID: used}, minor="abcdef".index(uuid[-1]))
            told.append(msgspec.structs.replace(shown, busy=mine))
        return (*told, *((gpu("GPU-z"),) if listless else ()))

    def rated(self, rate: float) -> Story:
        """So many executions in a second of executing from now on; what was counted stays."""
        return msgspec.structs.replace(
            self, rate=rate, before={name: self.executions(name) for name in self.done}, since=self.done
        )

    def executions(self, name: str) -> int:
        """How many there were."""
        seconds = self.done.get(name, 0.0) - self.since.get(name, 0.0)
        return self.before.get(name, 0) + round(seconds * self.rate)

    def but(self, world: World) -> Story:
        """The story with another world."""
        return msgspec.structs.replace(self, world=world)

    def loads(self, *models: ModelConfig) -> Story:
        """Triton has these models from now on; one that it had is loaded anew."""
        names = {each.key.name for each in models}
        done = {name: each for name, each in self.done.items() if name not in names}
        return msgspec.structs.replace(self.but(self.world.with_config(*models)), done=done)

    def unloads(self, *names: str) -> Story:
        """Triton has these models no longer."""
        done = {name: each for name, each in self.done.items() if name not in names}
        return msgspec.structs.replace(self.but(self.world.without_model(*names)), done=done)

    def holds(self, **bytes_of: int) -> Story:
        """Tritonserver holds so many MiB beside its context on the GPU of each letter."""
        memory = {**self.memory, **{f"GPU-{each}": CONTEXT + used * MIB for each, used in bytes_of.items()}}
        return msgspec.structs.replace(self, memory=memory)

    def with_memory(self, memory: dict[str, int]) -> Story:
        """Tritonserver is on these GPUs and no others, with so many bytes."""
        return msgspec.structs.replace(self, memory=memory)

    def counts(self, name: str, **kinds: int) -> Story:
        """The statistics report so many MiB of each kind for a model, on device 0."""
        rows = tuple(DeviceMemory(kind, 0, used * MIB) for kind, used in kinds.items())
        return msgspec.structs.replace(self, counted={**self.counted, name: rows})

    def placed(self, name: str = "m") -> Placement:
        """The verdict on a model with its evidence."""
        return placement_of(self.world.seen, self.world.record(name))

    def verdict(self, name: str = "m") -> Verdict:
        """The verdict on a model."""
        return self.placed(name).verdict

    def why(self, name: str = "m") -> str:
        """The evidence in one string."""
        return " ".join(self.placed(name).why)


def inside(*names: str, kind: InstanceKind = InstanceKind.GPU, **of_world: Any) -> Story:  # noqa: ANN401
    """A Triton with these models inside it, watched for 20 s in which nothing happens."""
    models = tuple(onnx(name, kind) for name in names)
    return Story(serving(*models, **of_world)).goes(20)


def _at(world: World, story: Story, seconds: float) -> World:
    # So long after this second of the story, which began when everything was read.
    return msgspec.structs.replace(world, now=at(100.0 + story.second + seconds))
