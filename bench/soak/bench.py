"""Does a gate ever move without a reason, while models come and go, traffic flows and Triton is restarted?

A real Triton and the shipped daemon beside it, driven at random from a seed for as long as is wanted.  A
move of a gate that nothing explains is a wrong one; the budget for them is none.
"""

from __future__ import annotations

import contextlib
import datetime
import random
import time
from collections.abc import Iterable, Iterator

import msgspec

from bench import processes
from bench.deployment import Deployment, deployed, sample
from bench.harness import MEBIBYTE, BenchError, Listing, Measured, Options, Result, of_figure
from bench.soak.diary import Diary
from bench.soak.driver import Driver
from bench.soak.kubelet import Kubelet
from bench.soak.models import CANARIES, CAST, SETTINGS, Models
from bench.soak.moves import Moves
from bench.soak.plan import Kind, Plan, Step
from bench.soak.recorder import Recorder, Told
from bench.soak.traffic import Traffic
from probe.sandbox.daemon import OPEN
from probe.sandbox.errors import SandboxError

NAME = "soak"

_READ_EVERY = 2.0
_RESTART_SECONDS = 90.0
_MOST_CRITICAL = 200


class Scale(msgspec.Struct, frozen=True):
    """For how many seconds, from which seed; Triton is restarted about every ``restart_every`` seconds."""

    seconds: float = 3600.0
    seed: int = 0
    restart_every: float = 600.0


def run(options: Options) -> list[Measured]:
    """Soak in a deployment of its own."""
    seconds = options.seconds or (300.0 if options.quick else 3600.0)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    with deployed() as deployment:
        # A short soak has restarts too.
        return measure(deployment, Scale(seconds, seed, min(600.0, seconds / 3)))


def measure(deployment: Deployment, scale: Scale) -> list[Measured]:
    """Start everything, and let it go on."""
    models = Models(deployment.repository)
    models.write_all()
    deployment.start_triton()
    began = time.time()
    daemon = deployment.start_daemon(settings=SETTINGS)
    diary = Diary()
    with Traffic(deployment) as traffic, Kubelet(daemon, diary) as kubelet:
        soak = Soak(deployment, scale, Driver(deployment, models, traffic, diary), diary, began)
        try:
            soak.go_on()
        except KeyboardInterrupt:
            soak.ended_early = "interrupted"
        except (BenchError, SandboxError, OSError) as error:
            # What was seen until then is told all the same.
            soak.ended_early = str(error) or repr(error)
    soak.read()
    return [*_results(soak, traffic, kubelet), *_listings(soak, kubelet)]


class Soak:
    """One soak while it goes on, and what came of it."""

    def __init__(
        self, deployment: Deployment, scale: Scale, driver: Driver, diary: Diary, began: float
    ) -> None:
        """``began``: just before the daemon was started, seconds since the Unix epoch."""
        self.deployment = deployment
        self.scale = scale
        self.driver = driver
        self.diary = diary
        self.moves = Moves(began)
        self.recorder = Recorder(deployment.daemon.log, deployment.daemon.events)
        self.critical: list[tuple[Told, tuple[str, ...]]] = []
        """Critical findings outside restarts, which need not move a gate."""
        self.seconds = 0.0
        self.ended_early = ""
        """Why, where it did."""
        self.usages: list[processes.Usage] = []
        self._restarting = True

    def go_on(self) -> None:
        """Take steps until the time is over."""
        deployment, plan = (
            self.deployment,
            Plan(self.scale.seed, CAST, restart_every=self.scale.restart_every),
        )
        self._settle("the daemon to know all models")
        began = time.monotonic()
        self.usages.append(processes.usage(deployment.daemon.program.pid))
        while (elapsed := time.monotonic() - began) < self.scale.seconds:
            step = plan.next(elapsed) if self._triton_runs() else Step(Kind.RESTART)
            if step.kind is Kind.RESTART:
                self._restart(step)
            else:
                self.driver.take(step)
            self._pass(step.pause)
            self.seconds = time.monotonic() - began
        self.usages.append(processes.usage(deployment.daemon.program.pid))

    def _triton_runs(self) -> bool:
        triton = self.deployment.triton
        if (code := triton.program.poll()) is None:
            return True
        self.driver.trouble(f"tritonserver ended by itself ({code}): {triton.complaints(5)}")
        return False

    def read(self) -> None:
        """Read what the daemon says, and judge it."""
        fresh = self.recorder.read()
        for each in fresh:
            critical = each.kind == "finding_raised" and each.severity == "critical"
            if critical and not self._restarting and len(self.critical) < _MOST_CRITICAL:
                self.critical.append((each, self.diary.before(each.at)))
        for wrong in self.moves.judge(move for each in fresh if (move := each.move) is not None):
            wrong.doing = self.diary.before(wrong.move.at)

    def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.read()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_READ_EVERY, left))

    def _restart(self, step: Step) -> None:
        with self.diary.doing(str(step)):
            self.driver.counts[step.kind.value] += 1
            self.read()
            epoch = self.deployment.daemon.status().triton.epoch
            self._restarting = True
            self.moves.restarting(time.time())
            self.driver.stop_triton()
            self.driver.start_triton()
            self._settle("the daemon to know the new Triton", epoch + 1)

    def _settle(self, what: str, epoch: int = 1) -> None:
        daemon = self.deployment.daemon

        def known() -> bool:
            if daemon.ask("/readyz").code != OPEN or daemon.ask("/startupz").code != OPEN:
                return False
            return daemon.status().triton.epoch >= epoch

        # Where it never comes to that, the moves that did not happen are told as missing.
        with contextlib.suppress(SandboxError):
            daemon.wait_until(what, known, _RESTART_SECONDS, pause=0.1)
        self.read()
        self.moves.settled(time.time())
        self._restarting = False


def _results(soak: Soak, traffic: Traffic, kubelet: Kubelet) -> Iterator[Result]:
    scale, deployment, counts = soak.scale, soak.deployment, soak.driver.counts
    conditions = (
        f"{deployment.conditions} and canaries for {', '.join(CANARIES)}; seed {scale.seed}, "
        f"{soak.seconds:.0f} s, Triton restarted about every {scale.restart_every:g} s; models "
        f"{', '.join(CAST.names)}; traffic of {len(traffic.assigned)} threads; each gate asked every second"
    )

    def figure(name: str, value: float, unit: str, budget: float | None = None) -> Result:
        return of_figure(NAME, name, value, unit, budget=budget, conditions=conditions)

    yield figure("wrong gate moves", soak.moves.wrongs, "moves", 0)
    yield figure("gate moves that did not come", len(soak.moves.missing), "moves", 0)
    yield figure("answers that did not come, or /healthz not 200", kubelet.silences, "answers", 0)
    yield figure("ends before its time", bool(soak.ended_early), "ends", 0)
    yield figure("gate moves as expected", soak.moves.expected, "moves")
    for kind in Kind:
        yield figure(f"steps: {kind.value}", counts[kind.value], "steps")
    yield figure("requests answered", traffic.ok.total(), "requests")
    yield figure("requests failed (a model away or on its way)", traffic.failed.total(), "requests")
    yield figure("canaries", sum(_canaries(deployment, each) for each in CANARIES), "canaries")
    yield figure("critical findings outside restarts", len(soak.critical), "findings")
    yield figure("troubles of the driver with Triton", counts["troubles"], "troubles")
    yield figure("complaints in the daemon's log", len(soak.recorder.complaints), "lines")
    for name, usage in zip(("beginning", "end"), soak.usages, strict=False):
        yield figure(f"memory (PSS) at the {name}", usage.pss_bytes / MEBIBYTE, "MiB")
        yield figure(f"descriptors and threads at the {name}", usage.descriptors + usage.threads, "of both")


def _canaries(deployment: Deployment, model: str) -> float:
    return sample(deployment.daemon, "triton_probe_canary_duration_seconds_count", f'{{model="{model}"}}')


def _listings(soak: Soak, kubelet: Kubelet) -> Iterator[Listing]:
    yield _listing(
        "wrong moves of a gate",
        ("TIME", "MOVE", "REASON", "LASTED", "SUBJECT", "MESSAGE, AND WHAT WAS DONE IN THE 3 S BEFORE"),
        (
            (
                _clock(each.move.at),
                f"{each.move.gate} {each.move.kind.removeprefix('gate_')}",
                each.move.reason or "-",
                "for good" if each.lasted is None else f"{each.lasted:.2f} s",
                each.move.subject or "-",
                "\n".join((each.move.message, *each.doing)),
            )
            for each in soak.moves.wrong
        ),
    )
    yield _listing(
        "why it ended before its time", ("WHY",), [(soak.ended_early,)] if soak.ended_early else []
    )
    yield _listing("moves that did not come", ("MOVE",), ((each,) for each in soak.moves.missing))
    yield _listing(
        "answers that did not come",
        ("TIME", "ANSWER", "WHAT WAS DONE"),
        ((_clock(at), what, "\n".join(doing)) for at, what, doing in kubelet.told),
    )
    yield _listing(
        "findings raised, warning and critical",
        ("SEVERITY", "REASON", "TIMES"),
        ((severity, reason, str(n)) for (severity, reason), n in sorted(soak.recorder.raised.items())),
    )
    yield _listing(
        "critical findings outside restarts",
        ("TIME", "REASON", "SUBJECT", "MESSAGE, AND WHAT WAS DONE IN THE 3 S BEFORE"),
        (
            (_clock(each.at), each.reason, each.subject, "\n".join((each.message, *doing)))
            for each, doing in soak.critical
        ),
    )
    yield _listing("troubles of the driver with Triton", ("TROUBLE",), ((t,) for t in soak.driver.troubles))
    yield _listing("complaints in the daemon's log", ("LINE",), ((c,) for c in soak.recorder.complaints))


def _listing(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Listing:
    return Listing(bench=NAME, title=title, columns=columns, rows=tuple(rows))


def _clock(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
