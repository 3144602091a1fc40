"""The bench ``oom`` on cgroup version 2, in the small virtual machine of the tests.

There the kernel tells of a kill by an event before the victim ends.  Where the machine is emulated, everything
but the kernel's clock is about ten times slower than on a real processor: what is within the budget here is
within it anywhere.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from bench import oom
from bench.harness import BenchError, Measured, Options, Result
from testbed.machine.host import Machine, MachineError
from testbed.machine.kubelet import delegate_root
from testbed.nvml.double import NvmlDouble

NAME = "oom-v2"
TIMES, QUICK_TIMES = 30, 3
_SECONDS_A_KILL = 60.0
_SECONDS_TO_START = 300.0


def run(options: Options) -> list[Measured]:
    """Boot the machine, and run the bench there."""
    times = options.repeat or (QUICK_TIMES if options.quick else TIMES)
    try:
        with tempfile.TemporaryDirectory(prefix="triton-probe-bench-") as folder:
            # Compiled here: the machine reads this one's disk, and writes nothing on it.
            NvmlDouble(Path(folder))
            with Machine.boot(Path(folder)) as machine:
                told = machine.play(played, seconds=_SECONDS_TO_START + times * _SECONDS_A_KILL, times=times)
                where = f"in a virtual machine, {machine.processor}"
    except MachineError as error:
        raise BenchError(str(error)) from error
    return [
        msgspec.structs.replace(each, bench=NAME, conditions=f"{where}; {each.conditions}") for each in told
    ]


def played(times: int) -> list[Result]:
    """Run the bench where it is called."""
    delegate_root()
    return [each for each in oom.run(Options(repeat=times)) if isinstance(each, Result)]
