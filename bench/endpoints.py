"""How fast does every endpoint answer while all that the daemon asks hangs?

A real Triton is stopped (SIGSTOP: the kernel still accepts for it, nobody answers) and every call of the
NVML double hangs, after the daemon got to know its models.  Then the endpoints are asked at a fixed rate.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import msgspec

from bench.deployment import Deployment, deployed
from bench.harness import MILLISECONDS, BenchError, Options, Result, of_figure, of_values
from bench.load import Asker, Fresh, Kept, Sample, open_loop
from bench.rest import PYTHON_MODELS
from bench.rest import Scale as RestScale
from bench.rest import prepare as start_models
from probe.sandbox.daemon import CLOSED, OPEN
from testbed.nvml.double import EVERY, FOREVER

NAME = "endpoints"
ENDPOINTS = ("/livez", "/readyz", "/startupz", "/healthz", "/status", "/events", "/metrics", "/")
BUDGET_MS = 10.0

_GATES = ("/livez", "/readyz", "/startupz")
_SECONDS_TO_HANG = 60.0


class Scale(msgspec.Struct, frozen=True):
    """How many models, for how many seconds for each kind of connection, and requests a second in all.

    ``settings`` is the text of a configuration file; the default is none.
    """

    models: int = 20
    seconds: float = 30.0
    per_second: float = 200.0
    settings: str = ""


def run(options: Options) -> list[Result]:
    """Ask in a deployment of its own."""
    scale = Scale(options.models, seconds=8.0) if options.quick else Scale(options.models)
    with deployed() as deployment:
        start_models(deployment, RestScale(scale.models))
        return measure(deployment, scale)


def measure(deployment: Deployment, scale: Scale) -> list[Result]:
    """Let everything hang, and ask over kept connections, then over new ones."""
    daemon = deployment.start_daemon(settings=scale.settings)
    deployment.wait_known(scale.models, 300.0)
    conditions = (
        f"{deployment.conditions}{' but ' + scale.settings.strip() if scale.settings else ''}; "
        f"{scale.models} models ({min(PYTHON_MODELS, scale.models)} python, others "
        f"ensembles); {scale.per_second:g} requests/s in all for {scale.seconds:g} s, latency from when "
        f"a request was due; Triton stopped by SIGSTOP, {'every NVML call hangs' if deployment.nvml else 'no NVML'}"
    )
    ways: tuple[tuple[str, Callable[[], Asker]], ...] = (
        ("kept connections", lambda: Kept(daemon.port)),
        ("new connections", lambda: Fresh(daemon.port)),
    )
    results: list[Result] = []
    with _hanging(deployment):
        for way, asker in ways:
            samples = open_loop(asker, ENDPOINTS, per_second=scale.per_second, seconds=scale.seconds)
            results += _results(way, samples, conditions)
        if not _all_hang(deployment):
            raise BenchError("a source came back while the endpoints were asked")
    return results


@contextlib.contextmanager
def _hanging(deployment: Deployment) -> Iterator[None]:
    """Let Triton and NVML hang, from when the daemon has noticed until the end."""
    if deployment.nvml is not None:
        deployment.nvml.set(hang={EVERY: FOREVER})
    deployment.triton.kill(signal.SIGSTOP)
    try:
        deployment.daemon.wait_until(
            "its sources to hang", lambda: _all_hang(deployment), _SECONDS_TO_HANG, pause=0.2
        )
        yield
    finally:
        deployment.triton.kill(signal.SIGCONT)
        deployment.restore_nvml()


def _all_hang(deployment: Deployment) -> bool:
    sources = deployment.daemon.status().probe.sources
    return sources["triton"].ok is False and sources["nvml"].ok is False


def _results(way: str, samples: tuple[Sample, ...], conditions: str) -> Iterator[Result]:
    for path in ENDPOINTS:
        took = [each.seconds * MILLISECONDS for each in samples if each.path == path]
        yield of_values(NAME, f"{path} over {way}", took, "ms", budget=BUDGET_MS, conditions=conditions)
    late = [each.late * MILLISECONDS for each in samples]
    yield of_values(NAME, f"resolution: sent late over {way}", late, "ms", conditions=conditions)
    wrong = sum(not _proper(each) for each in samples)
    yield of_figure(
        NAME,
        f"requests without a proper answer over {way}, of {len(samples)}",
        wrong,
        "requests",
        budget=0,
        conditions=conditions,
    )


def _proper(sample: Sample) -> bool:
    return sample.code == OPEN or (sample.path in _GATES and sample.code == CLOSED)
