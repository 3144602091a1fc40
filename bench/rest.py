"""What does the daemon cost while nothing happens: memory, CPU, and Triton's CPU for being watched?

Everything that belongs to the daemon counts, its helper processes too.  It is asked as in real life: a
kubelet wants ``/readyz`` every 2 s over new connections, a Prometheus ``/metrics`` every 5 s over one.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator

import msgspec

from bench import processes
from bench.deployment import Deployment, deployed
from bench.harness import MEBIBYTE, MILLISECONDS, Options, Result, of_figure, of_values

NAME = "rest"
PYTHON_MODELS = 4
FEW = 20
MEMORY_MIB = {FEW: 64.0, 1000: 96.0}
MILLICORES = {FEW: 5.0, 1000: 20.0}
ADDED_PERCENT = 1.0

_READY_EVERY = 2.0
_SCRAPE_EVERY = 5.0
_LOOK_EVERY = 1.0
_PATIENCE = 300.0


class Scale(msgspec.Struct, frozen=True):
    """How many models, and seconds: of the window, and to settle before it."""

    models: int = FEW
    window: float = 30.0
    warm_up: float = 10.0


def run(options: Options) -> list[Result]:
    """Rest in a deployment of its own."""
    scale = Scale(options.models, window=10.0) if options.quick else Scale(options.models)
    with deployed() as deployment:
        prepare(deployment, scale)
        return measure(deployment, scale)


def prepare(deployment: Deployment, scale: Scale) -> None:
    """Start a Triton with the models: a few of the python backend, and ensembles over them."""
    few = min(PYTHON_MODELS, scale.models)
    for index in range(few):
        deployment.repository.add_echo(f"python_{index}", kind="KIND_CPU")
    for index in range(scale.models - few):
        deployment.repository.add_ensemble(f"ensemble_{index:04d}", steps=(f"python_{index % few}",))
    deployment.start_triton(seconds=_PATIENCE)


def measure(deployment: Deployment, scale: Scale) -> list[Result]:
    """Let Triton rest unwatched for a window, then watched for another."""
    few = min(PYTHON_MODELS, scale.models)
    conditions = (
        f"{deployment.conditions}; {scale.models} models ({few} python with an instance each, "
        f"{scale.models - few} ensembles), no traffic; {scale.window:g} s after {scale.warm_up:g} s of rest; "
        f"/readyz every {_READY_EVERY:g} s, /metrics every {_SCRAPE_EVERY:g} s"
    )
    unwatched = _triton_alone(deployment, scale)
    daemon = deployment.start_daemon()
    deployment.wait_known(scale.models, _PATIENCE)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)) as scraper:
        for _ in _living(deployment, scraper, scale.warm_up):
            pass
        began, server_began = time.monotonic(), processes.cpu_seconds(deployment.triton.outer_pid)
        looks = [processes.usage(daemon.program.pid) for _ in _living(deployment, scraper, scale.window)]
    last = processes.usage(daemon.program.pid)
    seconds = time.monotonic() - began
    watched = (processes.cpu_seconds(deployment.triton.outer_pid) - server_began) / seconds
    memory = _budget(MEMORY_MIB, scale.models)
    return [
        of_values(
            NAME,
            "memory, PSS of all processes",
            [each.pss_bytes / MEBIBYTE for each in looks],
            "MiB",
            statistic="max",
            budget=memory,
            conditions=conditions,
        ),
        of_values(
            NAME,
            "memory, were it alone on the machine",
            [each.alone_bytes / MEBIBYTE for each in looks],
            "MiB",
            statistic="max",
            budget=memory,
            conditions=conditions,
        ),
        of_figure(
            NAME,
            "CPU",
            (last.cpu_seconds - looks[0].cpu_seconds) / seconds * MILLISECONDS,
            "millicores",
            budget=_budget(MILLICORES, scale.models),
            conditions=conditions,
        ),
        of_figure(
            NAME,
            "added to Triton's CPU",
            (watched - unwatched) * 100,
            "% of a core",
            budget=ADDED_PERCENT,
            conditions=conditions,
        ),
        of_figure(NAME, "Triton's CPU, unwatched", unwatched * 100, "% of a core", conditions=conditions),
        *(
            of_values(
                NAME, what, [float(each) for each in values], what, statistic="max", conditions=conditions
            )
            for what, values in (
                ("processes", [each.processes for each in looks]),
                ("threads", [each.threads for each in looks]),
                ("descriptors", [each.descriptors for each in looks]),
            )
        ),
    ]


def _triton_alone(deployment: Deployment, scale: Scale) -> float:
    """Triton's own use of the CPU in cores, with nobody asking it anything."""
    time.sleep(scale.warm_up / 2)
    began, used = time.monotonic(), processes.cpu_seconds(deployment.triton.outer_pid)
    time.sleep(scale.window)
    return (processes.cpu_seconds(deployment.triton.outer_pid) - used) / (time.monotonic() - began)


def _living(deployment: Deployment, scraper: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Ask the daemon as others would, and yield about every second, at least once."""
    began = time.monotonic()
    due = dict.fromkeys((_LOOK_EVERY, _READY_EVERY, _SCRAPE_EVERY), began)
    while (moment := time.monotonic()) < began + seconds or due[_LOOK_EVERY] == began:
        if moment >= due[_READY_EVERY]:
            due[_READY_EVERY] += _READY_EVERY
            deployment.daemon.ask("/readyz")
        if moment >= due[_SCRAPE_EVERY]:
            due[_SCRAPE_EVERY] += _SCRAPE_EVERY
            scraper.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            scraper.getresponse().read()
        if moment >= due[_LOOK_EVERY]:
            due[_LOOK_EVERY] += _LOOK_EVERY
            yield
        left = min(*due.values(), began + seconds) - time.monotonic()
        time.sleep(max(0.0, left))


def _budget(budgets: dict[int, float], models: int) -> float | None:
    """The budget of the smallest named size that holds so many models."""
    return next((most for size, most in sorted(budgets.items()) if models <= size), None)
