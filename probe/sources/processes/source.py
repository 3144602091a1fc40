"""One scan of ``/proc``: the tritonserver we watch, its stubs, and everything below them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable

import msgspec
import psutil

from probe.facts.processes import (
    Process,
    ProcessId,
    ProcessReading,
    ProcessState,
    Server,
    Stub,
    StubArguments,
)
from probe.kits.clocks import now
from probe.sources.processes.arguments import parse_stub_arguments
from probe.sources.processes.freezer import Freezer
from probe.sources.processes.procfs import TICKS_PER_SECOND, Procfs, Stat

SERVER_NAME = "tritonserver"
STUB_NAME = "triton_python_b"
"""``triton_python_backend_stub`` as the kernel keeps it: 15 characters, also for a zombie."""
TITLE_AT_MOST = 200
"""Letters of a command line that are kept: enough to tell processes apart."""


class ProcessSource:
    """Scans for one Triton: the one that serves ``grpc_port``, where several are to be seen."""

    def __init__(self, grpc_port: int | None, proc: Procfs | None = None) -> None:
        """``grpc_port``: where the watched Triton listens, None for a unix socket."""
        self._grpc_port = grpc_port
        self._proc = proc or Procfs()
        self._initial = self._proc.in_initial_namespace()
        self._boot = psutil.boot_time()
        self._freezer = Freezer(self._proc)
        self._held: dict[int, str] = {}
        self._found_by_port = False
        self._forks: frozenset[ProcessId] = frozenset()
        self._command_lines: dict[ProcessId, tuple[str, ...]] = {}
        self._stub_arguments: dict[ProcessId, StubArguments] = {}
        self._titles: dict[tuple[ProcessId, str], str] = {}
        self._titled: dict[tuple[ProcessId, str], str] = {}

    def scan(self, asked: Iterable[int] = (), kept: Iterable[ProcessId] = ()) -> ProcessReading:
        """Look once; blocking, about 20 µs a process.

        ``asked``: pids to look up beside (NVML's); ``kept``: processes to find again wherever they are now.
        """
        observed, ticks = now(), int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_SECOND)
        asked = frozenset(asked)
        self._titled, self._titles = self._titles, {}
        stats = {pid: stat for pid in self._proc.pids() if (stat := self._proc.stat(pid)) is not None}
        children: dict[int, list[Stat]] = {}
        for each in stats.values():
            children.setdefault(each.parent, []).append(each)
        servers = [each for each in stats.values() if _is_server(each, stats)]
        stubs = self._find_stubs(stats)
        server = self._choose(servers)
        stubs = [each for each in stubs if _below(each, server, stats)]
        self._held = self._freezer.held([*stubs, server] if server is not None else stubs)
        known = stats.keys()
        return ProcessReading(
            observed=observed,
            server=self._server(server) if server is not None else None,
            stubs=tuple(self._stub(each, children, server) for each in stubs),
            other_servers=len(servers) - (server is not None),
            existing_pids=frozenset(pid for pid in asked if pid in known or _exists(pid)),
            asked=tuple(self._process(stats[pid]) for pid in asked if pid in known),
            kept=tuple(
                self._titled_process(stat)
                for each in kept
                if (stat := stats.get(each.pid)) is not None and stat.start_ticks == each.start_ticks
            ),
            ticks_per_second=TICKS_PER_SECOND,
            initial_namespace=self._initial,
            ticks=ticks,
            scanned=len(stats),
        )

    def _find_stubs(self, stats: dict[int, Stat]) -> list[Stat]:
        """Stubs without the processes that their models forked, which keep the stub's name and arguments.

        A fork is known by its parent while the stub lives.  Once the stub died, init is its parent, and
        only memory, or the living server that its arguments name as another parent, tells it from a stub.
        """
        named = [each for each in stats.values() if each.name == STUB_NAME]
        forks = {_id(each) for each in named if _is_fork(each, stats)}
        forks |= {_id(each) for each in named if _id(each) in self._forks}
        kept: dict[ProcessId, StubArguments] = {}
        for each in named:
            if _id(each) in forks:
                continue
            told = self._arguments(each)
            if told.parent_pid != each.parent and _lives(stats.get(told.parent_pid)):
                forks.add(_id(each))
            else:
                kept[_id(each)] = told
        self._forks = frozenset(forks)
        self._stub_arguments = kept
        return [each for each in named if _id(each) in kept]

    def _arguments(self, stub: Stat) -> StubArguments:
        # A zombie has no command line any more, so what it was is kept from when it was alive.
        told = self._stub_arguments.get(_id(stub))
        if told is None or not told.name:
            told = parse_stub_arguments(self._proc.arguments(stub.pid))
        return told or StubArguments("", "", 0, 0, stub.parent, "")

    def _choose(self, servers: list[Stat]) -> Stat | None:
        # Read each time: a script named like the server may become it by exec.  A zombie's is remembered.
        self._command_lines = {
            _id(each): self._proc.arguments(each.pid) or self._command_lines.get(_id(each), ())
            for each in servers
        }
        ours = [each for each in servers if self._serves_our_port(each)]
        self._found_by_port = self._found_by_port or bool(ours)
        # A port may be mapped between networks, or the arguments be unknown: then any server is better than
        # none.  One in our own network that serves another port is surely another Triton; and once ours was
        # seen, another one is never taken for it when it is gone.
        candidates = ours if self._found_by_port else [*ours, *(s for s in servers if self._may_be_ours(s))]

        def fitness(stat: Stat) -> tuple[bool, bool, int]:
            # Alive first, then in our network, then the youngest.
            alive = stat.state not in (ProcessState.ZOMBIE, ProcessState.DEAD)
            return alive, self._proc.same_network(stat.pid) is not False, stat.start_ticks

        return max(candidates, key=fitness, default=None)

    def _may_be_ours(self, stat: Stat) -> bool:
        known = self._grpc_port is not None and bool(self._command_lines[_id(stat)])
        return not known or self._proc.same_network(stat.pid) is not True

    def _serves_our_port(self, stat: Stat) -> bool:
        arguments = self._command_lines[_id(stat)]
        told = Server(self._process(stat), arguments).option("grpc-port") or "8001"
        return bool(arguments) and told == str(self._grpc_port)

    def _server(self, stat: Stat) -> Server:
        minors = self._proc.gpu_minors(stat.pid)
        return Server(
            process=self._process(stat),
            arguments=self._command_lines.get(_id(stat), ()),
            gpu_minors=minors,
            visible_devices=self._proc.visible_devices(stat.pid),
            root_readable=minors is not None,
        )

    def _stub(self, stat: Stat, children: dict[int, list[Stat]], server: Stat | None) -> Stub:
        arguments = self._stub_arguments[_id(stat)]
        holder = server.pid if server is not None else stat.pid
        return Stub(
            process=self._process(stat),
            arguments=arguments,
            descendants=tuple(self._titled_process(each) for each in _descendants(stat.pid, children)),
            shm_bytes=self._proc.shm_bytes(holder, arguments.shm_region),
        )

    def _titled_process(self, stat: Stat) -> Process:
        # Read once for each name that a process has: setproctitle changes both, and so does exec.
        key = (_id(stat), stat.name)
        title = self._titles.get(key) or self._titled.get(key) or self._title(stat)
        if title:
            self._titles[key] = title
        return msgspec.structs.replace(self._process(stat), title=title)

    def _title(self, stat: Stat) -> str:
        words = " ".join(self._proc.arguments(stat.pid))[: 2 * TITLE_AT_MOST].split()
        shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words))
        return shown[:TITLE_AT_MOST]

    def _process(self, stat: Stat) -> Process:
        return Process(
            id=_id(stat),
            parent=stat.parent,
            name=stat.name,
            state=ProcessState.FROZEN if stat.pid in self._held else stat.state,
            rss_bytes=stat.rss_bytes,
            cpu_ticks=stat.cpu_ticks,
            started_at=self._boot + stat.start_ticks / TICKS_PER_SECOND,
            frozen_cgroup=self._held.get(stat.pid, ""),
            threads=stat.threads,
        )


def _id(stat: Stat) -> ProcessId:
    return ProcessId(stat.pid, stat.start_ticks)


def _is_server(stat: Stat, stats: dict[int, Stat]) -> bool:
    # A tritonserver below a tritonserver is a fork on its way to becoming a stub.
    parent = stats.get(stat.parent)
    return stat.name == SERVER_NAME and (parent is None or parent.name != SERVER_NAME)


def _is_fork(stat: Stat, stats: dict[int, Stat]) -> bool:
    parent = stats.get(stat.parent)
    return parent is not None and parent.name == STUB_NAME


def _lives(server: Stat | None) -> bool:
    return (
        server is not None
        and server.name == SERVER_NAME
        and server.state not in (ProcessState.ZOMBIE, ProcessState.DEAD)
    )


def _below(stub: Stat, server: Stat | None, stats: dict[int, Stat]) -> bool:
    # Another server's stubs are not ours; an orphan (adopted by init) may be, and is kept.
    parent = stats.get(stub.parent)
    ours = server is not None and stub.parent == server.pid
    return ours or parent is None or parent.name != SERVER_NAME


def _descendants(pid: int, children: dict[int, list[Stat]]) -> list[Stat]:
    found: dict[int, Stat] = {}
    waiting = [pid]
    while waiting:
        # Files that were read one after the other may contradict each other, up to a circle.
        below = [
            each for each in children.get(waiting.pop(), ()) if each.pid not in found and each.pid != pid
        ]
        found.update((each.pid, each) for each in below)
        waiting.extend(each.pid for each in below)
    return list(found.values())


def _exists(pid: int) -> bool:
    # A /proc mounted with hidepid hides a process that exists; opening a pidfd needs no permission.
    try:
        os.close(os.pidfd_open(pid))
    except OSError as error:
        # ESRCH; or EINVAL for what is no process's number, such as 0.
        return error.errno not in (errno.ESRCH, errno.EINVAL)
    except (ValueError, OverflowError):
        return False
    return True
