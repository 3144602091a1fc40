"""What the kernel itself does on version 2, without Triton: what the probe's events rest on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from probe.sandbox.programs import Program
from testbed.machine.kubelet import Container, NodePod, Resources

MIB = 1 << 20
LIMITED = Resources(
    memory_request=64 * MIB, memory_limit=64 * MIB, cpu_request=500, cpu_limit=500, kill_alone=True
)

# Grows beyond every limit as soon as it is told to.
_VICTIM = "import sys; print('up'); sys.stdin.readline(); kept = [bytearray(b'x' * (1 << 20)) for _ in range(1 << 20)]"
_SLEEPER = "import sys; print('up'); sys.stdin.readline()"
# Run in the probe's container: watches the files of Triton's container and the victim, and says what it is told.
_WATCHER = """
import ctypes, os, select, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
home, victim = int(sys.argv[1]), int(sys.argv[2])
folder = f"/proc/{home}/root/sys/fs/cgroup/"
queue = libc.inotify_init1(os.O_NONBLOCK)
names = {}
for name in ("memory.events", "memory.max"):
    names[libc.inotify_add_watch(queue, (folder + name).encode(), 0x2)] = name
exit_of_victim = os.pidfd_open(victim)
held = os.open(folder + "memory.events", os.O_RDONLY)
def say(what, seen=""):
    print(what, time.monotonic(), seen, flush=True)
def counts():
    try:
        return ",".join(line.replace(" ", "=") for line in os.pread(held, 4096, 0).decode().split("\\n") if line)
    except OSError as error:
        return type(error).__name__ + str(error.errno)
say("ready", "%d %d" % (os.geteuid(), -1 in names))
waiting = select.poll()
for each in (queue, exit_of_victim, 0):
    waiting.register(each, select.POLLIN)
while True:
    for descriptor, _ in waiting.poll():
        if descriptor == 0:
            if not os.read(0, 1):
                sys.exit()
            say("asked", counts())
        if descriptor == exit_of_victim:
            say("exit", counts())
            waiting.unregister(exit_of_victim)
        else:
            told = os.read(queue, 65536)
            while told:
                watch, mask, _, length = struct.unpack_from("iIII", told)
                told = told[16 + length:]
                say(f"{names.get(watch)}:{mask:#x}", counts())
"""


class Word(msgspec.Struct, frozen=True):
    """What the watcher was told: what of which file, when (monotonic seconds), and what it read then."""

    what: str
    at: float
    seen: str


class Told(msgspec.Struct, frozen=True):
    """The kernel's words to an unprivileged watcher in another container, by what was done."""

    killed: list[Word]
    limited: list[Word]
    removed: list[Word]
    delay_seconds: float | None
    """From the count's rise, as somebody saw who read it all the time, to the watcher's word."""


class Watcher:
    """The watcher in the probe's container."""

    def __init__(self, container: Container, home: int, victim: int) -> None:
        self.program = _python(container, _WATCHER, str(home), str(victim))
        self._words = iter(self.program.process.stdout or ())

    def until(self, *what: str) -> list[Word]:
        """Everything up to the first word of each of these kinds."""
        wanted, told = set(what), []
        for word in self._next():
            told.append(word)
            wanted.discard(word.what)
            if not wanted:
                break
        return told

    def _next(self) -> Iterator[Word]:
        for line in self._words:
            what, at, *seen = line.decode().split(maxsplit=2)
            yield Word(what, float(at), " ".join(seen).strip())


def watched() -> Told:
    """Kill by want of memory, write a limit, and remove the cgroup, while somebody watches."""
    with NodePod.of(LIMITED) as pod:
        triton, probe = pod.container("triton", LIMITED), pod.container("probe", Resources())
        home, victim = _python(triton, _SLEEPER), _python(triton, _VICTIM)
        for each in (home, victim):
            _ = each.process.stdout and each.process.stdout.readline()  # it runs as itself now
        insides = [pod.inside_pid(each.pid) or 0 for each in (home, victim)]
        watcher = Watcher(probe, *insides)
        watcher.until("ready")
        _go(victim)
        rose = _rise(triton)
        killed = watcher.until("exit", "memory.events:0x2")
        triton.write("memory.max", str(96 * MIB))
        limited = watcher.until("memory.max:0x2")
        home.send_signal(9)
        home.wait(30)
        triton.remove()
        _go(watcher.program)
        removed = watcher.until("asked")
        heard = next((each.at for each in killed if "oom_kill=1" in each.seen), None)
        return Told(killed, limited, removed, None if heard is None else heard - rose)


def _python(container: Container, code: str, *arguments: str) -> Program:
    command = [sys.executable, "-I", "-S", "-u", "-c", code, *arguments]
    return container.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _go(program: Program) -> None:
    if program.process.stdin is not None:
        program.process.stdin.write(b"\n")
        program.process.stdin.flush()


def _rise(container: Container, seconds: float = 30.0) -> float:
    """When the count of kills rose."""
    deadline = time.monotonic() + seconds
    while not container.count("memory.events", "oom_kill") and time.monotonic() < deadline:
        time.sleep(0.0005)
    return time.monotonic()
