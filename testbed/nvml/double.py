"""Drives the NVML double: what its GPUs are is written to a file, which it looks at in every call."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from testbed.compile import build_shared_library

FOREVER = math.inf
EVERY = "*"
"""Stands for every function of the library (``nvmlShutdown`` and ``nvmlErrorString`` excepted)."""


class ProcessState(msgspec.Struct, frozen=True):
    """A process on a device; ``used_bytes`` None is NVML_VALUE_NOT_AVAILABLE.  ``mps``: an MPS client.

    ``instance`` are the GPU and the compute instance that its entry names, None for the device's own.
    """

    pid: int
    used_bytes: int | None = 0
    mps: bool = False
    instance: tuple[int, int] | None = None


class SampleState(msgspec.Struct, frozen=True):
    """A process kept the multiprocessors busy, so many seconds before the state was first read."""

    pid: int
    percent: int
    age: float = 0.0


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """What a GPU and a MIG device have in common; ``returns`` and ``hang`` go by the C function's name."""

    uuid: str
    name: str = "NVIDIA Double"
    memory_total_bytes: int = 80 << 30
    memory_used_bytes: int = 0
    processes: Sequence[ProcessState] = ()
    returns: Mapping[str, int] = {}
    hang: Mapping[str, float] = {}


class MigState(DeviceState, frozen=True, kw_only=True):
    """A MIG device; it stands under its GPU."""

    gpu_instance: int = 1
    compute_instance: int = 0


class GpuState(DeviceState, frozen=True, kw_only=True):
    """One GPU.  ``recovery`` is field 230's value, None where the driver has no such field.

    ``retired`` says whether pages wait for retirement, on a GPU that has no rows to remap; ``events`` are the
    types of events that can be registered (8: Xids).
    """

    minor: int = 0
    pci: str = "00000000:01:00.0"
    recovery: int | None = 0
    utilization: tuple[int, int] = (0, 0)
    ecc: tuple[int, int] = (0, 0)
    remapped: tuple[int, int, int, int] = (0, 0, 0, 0)
    retired: bool | None = None
    clocks: int = 0
    events: int = 8
    samples: Sequence[SampleState] = ()
    migs: Sequence[MigState] = ()


class Xid(msgspec.Struct, frozen=True):
    """An Xid event; ``sequence`` must grow from one to the next.  ``instance``: of a MIG device."""

    uuid: str
    code: int
    sequence: int
    instance: tuple[int, int] | None = None


class NvmlDouble:
    """One double with its own state file in ``folder``; every process with ``environment`` sees it.

    ``release`` is the driver whose functions it has (440, 470, 535 or 570: see ``nvml_double.c``).
    """

    _stamps = itertools.count(time.time_ns())

    def __init__(self, folder: Path, *, release: int = 570) -> None:
        self._path = folder / "nvml-state"
        source = Path(__file__).with_name("nvml_double.c")
        self.library = build_shared_library(source, "libnvidia-ml.so.1", defines=(f"RELEASE={release}",))

    @property
    def environment(self) -> dict[str, str]:
        """The variables through which a process finds this double instead of a driver's library."""
        paths = [str(self.library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(paths), "NVML_DOUBLE_STATE": str(self._path)}

    def set(
        self,
        *,
        gpus: Sequence[GpuState] = (),
        driver: str = "570.86.15",
        init_code: int = 0,
        epoch: int = 0,
        returns: Mapping[str, int] | None = None,
        hang: Mapping[str, float] | None = None,
        race: int = 0,
        prints: str = "",
        xids: Sequence[Xid] = (),
    ) -> None:
        """Replace the whole state at once; calls from now on, and those that hang, see the new one.

        A changed ``epoch`` breaks every session begun before, as a reloaded driver does.
        ``hang`` holds a function's calls for so many seconds (:data:`FOREVER`), ``race`` lets so many
        process lists outgrow their array, ``prints`` is a line that the library writes to stdout.
        """
        lines = [f"driver {driver}", f"init {init_code}", f"epoch {epoch}", f"race {race}"]
        lines += [f"print {prints}"] * bool(prints)
        lines += _rules(returns or {}, hang or {})
        lines += [f"xid {each.uuid} {each.code} {each.sequence}{_instance(each)}" for each in xids]
        for gpu in gpus:
            lines += _gpu(gpu)
        self._write("\n".join(lines) + "\n")

    @property
    def awaited(self) -> bool:
        """Whether somebody has waited for Xids: what is told of from then on reaches them."""
        return self._path.with_name(f"{self._path.name}-waits").exists()

    def clear(self) -> None:
        """No state any more: a driver without GPUs."""
        self._path.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        stamp = next(self._stamps)  # two writes within one tick of the file system's clock stay apart
        os.utime(fresh, ns=(stamp, stamp))
        fresh.replace(self._path)


def _gpu(gpu: GpuState) -> Iterator[str]:
    yield f"gpu {gpu.uuid}"
    yield f"minor {gpu.minor}"
    yield f"pci {gpu.pci}"
    yield f"recovery {-1 if gpu.recovery is None else gpu.recovery}"
    for word, numbers in (("utilization", gpu.utilization), ("ecc", gpu.ecc), ("remapped", gpu.remapped)):
        yield f"{word} {' '.join(map(str, numbers))}"
    yield f"retired {-1 if gpu.retired is None else int(gpu.retired)}"
    yield f"clocks {gpu.clocks}"
    yield f"events {gpu.events}"
    for each in gpu.samples:
        yield f"sample {each.pid} {each.percent} {each.age}"
    yield from _device(gpu)
    for mig in gpu.migs:
        yield f"mig {mig.uuid} {mig.gpu_instance} {mig.compute_instance}"
        yield from _device(mig)


def _device(device: DeviceState) -> Iterator[str]:
    yield f"name {device.name}"
    yield f"memory {device.memory_total_bytes} {device.memory_used_bytes}"
    for each in device.processes:
        used = "none" if each.used_bytes is None else each.used_bytes
        yield f"{'mps' if each.mps else 'process'} {each.pid} {used}{_instance(each)}"
    yield from _rules(device.returns, device.hang)


def _instance(each: ProcessState | Xid) -> str:
    return "" if each.instance is None else f" {each.instance[0]} {each.instance[1]}"


def _rules(returns: Mapping[str, int], hang: Mapping[str, float]) -> Iterator[str]:
    for function, code in returns.items():
        yield f"return {function} {code}"
    for function, seconds in hang.items():
        yield f"hang {function} {'forever' if seconds == FOREVER else seconds}"
