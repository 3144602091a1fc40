"""One scan of ``/proc``: the tritonserver we watch, its stubs, and everything below them."""

from __future__ import annotations

import os
from collections.abc import Iterable

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
from probe.sources.processes.procfs import TICKS_PER_SECOND, Procfs, Stat

SERVER_NAME = "tritonserver"
STUB_NAME = "triton_python_b"
"""``triton_python_backend_stub`` as the kernel keeps it: 15 characters, also for a zombie."""


class ProcessSource:
    """Scans for one Triton: the one that serves ``grpc_port``, where several are to be seen."""

    def __init__(self, grpc_port: int | None, proc: Procfs | None = None) -> None:
        """``grpc_port``: where the watched Triton listens, None for a unix socket."""
        self._grpc_port = grpc_port
        self._proc = proc or Procfs()
        self._initial = self._proc.in_initial_namespace()
        self._boot = psutil.boot_time()
        self._command_lines: dict[ProcessId, tuple[str, ...]] = {}
        self._stub_arguments: dict[ProcessId, StubArguments] = {}

    def scan(self, asked: Iterable[int] = ()) -> ProcessReading:
        """Look once; blocking, about 20 µs a process.  ``asked``: pids to look up beside (NVML's)."""
        observed = now()
        stats = {pid: stat for pid in self._proc.pids() if (stat := self._proc.stat(pid)) is not None}
        servers = [each for each in stats.values() if _is_server(each, stats)]
        stubs = [each for each in stats.values() if _is_stub(each, stats)]
        self._remember(servers, stubs)
        server = self._choose(servers)
        known = stats.keys()
        return ProcessReading(
            observed=observed,
            server=self._server(server) if server is not None else None,
            stubs=tuple(self._stub(each, stats, server) for each in stubs if _below(each, server, stats)),
            other_servers=max(0, len(servers) - 1),
            existing_pids=frozenset(pid for pid in asked if pid in known or _exists(pid)),
            initial_namespace=self._initial,
            scanned=len(stats),
        )

    def _remember(self, servers: list[Stat], stubs: list[Stat]) -> None:
        # A zombie has no command line any more, so what it was is kept from when it was alive.
        lines = {_id(each): self._line(each) for each in servers}
        self._command_lines = lines
        kept: dict[ProcessId, StubArguments] = {}
        for each in stubs:
            told = self._stub_arguments.get(_id(each))
            if told is None or not told.name:
                told = parse_stub_arguments(self._proc.arguments(each.pid))
            kept[_id(each)] = told or StubArguments("", "", 0, 0, each.parent, "")
        self._stub_arguments = kept

    def _line(self, stat: Stat) -> tuple[str, ...]:
        return self._command_lines.get(_id(stat)) or self._proc.arguments(stat.pid)

    def _choose(self, servers: list[Stat]) -> Stat | None:
        def fitness(stat: Stat) -> tuple[bool, bool, bool, int]:
            # Alive first, then ours by port and by network, then the youngest.
            alive = stat.state not in (ProcessState.ZOMBIE, ProcessState.DEAD)
            near = self._proc.same_network(stat.pid) is not False
            return alive, self._serves_our_port(stat), near, stat.start_ticks

        return max(servers, key=fitness, default=None)

    def _serves_our_port(self, stat: Stat) -> bool:
        server = Server(self._process(stat), self._command_lines.get(_id(stat), ()))
        return (server.option("grpc-port") or "8001") == str(self._grpc_port)

    def _server(self, stat: Stat) -> Server:
        minors = self._proc.gpu_minors(stat.pid)
        return Server(
            process=self._process(stat),
            arguments=self._command_lines.get(_id(stat), ()),
            gpu_minors=minors,
            root_readable=minors is not None,
        )

    def _stub(self, stat: Stat, stats: dict[int, Stat], server: Stat | None) -> Stub:
        arguments = self._stub_arguments[_id(stat)]
        holder = server.pid if server is not None else stat.pid
        return Stub(
            process=self._process(stat),
            arguments=arguments,
            descendants=tuple(self._process(each) for each in _descendants(stat.pid, stats)),
            shm_bytes=self._proc.shm_bytes(holder, arguments.shm_region),
        )

    def _process(self, stat: Stat) -> Process:
        return Process(
            id=_id(stat),
            parent=stat.parent,
            name=stat.name,
            state=stat.state,
            rss_bytes=stat.rss_bytes,
            cpu_ticks=stat.cpu_ticks,
            started_at=self._boot + stat.start_ticks / TICKS_PER_SECOND,
        )


def _id(stat: Stat) -> ProcessId:
    return ProcessId(stat.pid, stat.start_ticks)


def _is_server(stat: Stat, stats: dict[int, Stat]) -> bool:
    # A tritonserver below a tritonserver is a fork on its way to becoming a stub.
    parent = stats.get(stat.parent)
    return stat.name == SERVER_NAME and (parent is None or parent.name != SERVER_NAME)


def _is_stub(stat: Stat, stats: dict[int, Stat]) -> bool:
    # A process that a model forks keeps the stub's name; it is a worker below the stub.
    parent = stats.get(stat.parent)
    return stat.name == STUB_NAME and (parent is None or parent.name != STUB_NAME)


def _below(stub: Stat, server: Stat | None, stats: dict[int, Stat]) -> bool:
    # Another server's stubs are not ours; an orphan (adopted by init) may be, and is kept.
    parent = stats.get(stub.parent)
    return server is None or stub.parent == server.pid or parent is None or parent.name != SERVER_NAME


def _descendants(pid: int, stats: dict[int, Stat]) -> list[Stat]:
    children: dict[int, list[Stat]] = {}
    for each in stats.values():
        children.setdefault(each.parent, []).append(each)
    found: list[Stat] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.extend(below)
        waiting.extend(each.pid for each in below)
    return found


def _exists(pid: int) -> bool:
    # A /proc mounted with hidepid hides a process that exists; opening a pidfd needs no permission.
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True
    return True
