"""The composition root: the only file that knows everyone; it owns signals and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from probe import __version__
from probe.engine.engine import Engine
from probe.engine.eyes import Eyes
from probe.facts.status import Snapshot, Transition
from probe.kits.tasks import guarded
from probe.settings import Settings, set_in_vain
from probe.sources.container.events import ContainerWatch
from probe.sources.container.shm_watch import ShmWatch
from probe.sources.container.source import ContainerSource
from probe.sources.nvml.source import NvmlSource
from probe.sources.processes.exits import ExitWatch
from probe.sources.processes.source import ProcessSource
from probe.sources.triton.source import TritonSource
from probe.surfaces import logs
from probe.surfaces.http import HttpServer
from probe.surfaces.listening import ListenError

CLOSE_DEADLINE = 1.2
"""Seconds for all sources to let go after a signal: the daemon is gone within 2 s whatever they do."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which a running thread lets others run.  At CPython's 5 ms, reading /proc on one thread while
/metrics of 1,000 models is rendered on another took 160 ms, and an exit waited for it; at 0.5 ms it took 11."""

_log = logging.getLogger("probe.daemon")


def eyes(settings: Settings) -> Eyes:
    """The real sources."""
    return Eyes(
        triton=TritonSource(settings.triton),
        nvml=NvmlSource(),
        processes=ProcessSource(_port(settings.triton.grpc)),
        container=ContainerSource(),
        exits=ExitWatch,
        events=ContainerWatch,
        shm=ShmWatch,
    )


def run(settings: Settings) -> int:
    """Watch until a signal; 0 after one, 2 where the daemon can not listen."""
    writer = logs.configure(
        settings.log.level.value, "json" if settings.log.format.value == "json" else "text"
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        return asyncio.run(_serve(settings))
    except ListenError as error:
        sys.stderr.write(f"triton-probe: listen: {error}\n")
        return 2
    finally:
        writer.close()


async def _serve(settings: Settings) -> int:
    # First: whoever sees the port open may already send a signal.
    stopping = _on_signals()
    teller = _Teller()
    engine = Engine(settings, eyes(settings), __version__, on_snapshot=teller.tell)
    server = HttpServer(engine.board, settings.listen)
    server.start()
    host, port = server.address
    for path in set_in_vain(settings):
        _log.warning("the setting %s is read and has no effect in this release", path)
    _log.info("triton-probe %s listens on %s port %d", __version__, host, port)
    tasks = [asyncio.create_task(guarded(name, work, _complain), name=name) for name, work in engine.tasks()]
    try:
        await stopping.wait()
    finally:
        for task in tasks:
            task.cancel()
        try:
            async with asyncio.timeout(CLOSE_DEADLINE):
                await asyncio.gather(*tasks, return_exceptions=True)
                await engine.close()
        except TimeoutError:
            _log.warning("a source did not let go within %.1f s; leaving without it", CLOSE_DEADLINE)
        server.stop(0.5)
    _log.info("stopped by a signal")
    return 0


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    return stopping


def _complain(name: str, error: Exception) -> None:
    _log.error("the task %s failed and runs again: %r", name, error, exc_info=error)


class _Teller:
    """Logs each transition once: those of a snapshot that the one before did not have."""

    def __init__(self) -> None:
        self._log = logs.TransitionLog()
        self._newest: Transition | None = None

    def tell(self, snapshot: Snapshot) -> None:
        fresh = []
        for transition in snapshot.transitions:
            if transition is self._newest:
                break
            fresh.append(transition)
        if snapshot.transitions:
            self._newest = snapshot.transitions[0]
        self._log.write(reversed(fresh))


def _port(address: str) -> int | None:
    if address.startswith("unix:"):
        return None
    return int(address.rpartition(":")[2])
