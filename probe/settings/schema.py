"""Every knob: its meaning, unit, default, and why this default.

The reference page is generated from these records (see :func:`probe.settings.knobs`), so what a knob says
about itself here is what the user reads.  Durations are float seconds once loaded.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any

import msgspec

from probe.facts.gates import Gate, Hold
from probe.settings.kinds import (
    ENDPOINT,
    GATE,
    GPU,
    HEADER_NAME,
    HEADER_VALUE,
    HOLD,
    LISTEN,
    MODEL,
    NAME,
    PATH,
    RATIO,
    REASON,
    SWITCH,
    Anything,
    Kind,
    Many,
    Record,
    Table,
    choice,
    count,
    duration,
    optional,
)


class About(msgspec.Struct, frozen=True):
    """What a field says about itself: its kind, its meaning, and the flag that sets it, if any."""

    kind: Kind
    says: str
    flag: str = ""


class Policy(enum.StrEnum):
    """Where a model should run; ``auto`` asks its configuration and what this pod was given."""

    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"
    ANY = "any"


class LogLevel(enum.StrEnum):
    """The least important line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    """Lines for machines or for people."""

    JSON = "json"
    CONSOLE = "console"


_MAYBE_PATH = optional(PATH, unset="none", words=("", "~", "null"), spelled=None)
_MAYBE_NAME = optional(NAME, unset="none", words=("", "~", "null"), spelled=None)
_OFF_WORDS = ("off", "false", "no", "none", "null", "~", "")


class TlsSettings(msgspec.Struct, frozen=True):
    """How to speak TLS with Triton; ``active`` says whether to."""

    enabled: Annotated[
        bool | None,
        About(
            optional(SWITCH, unset="auto", words=("auto",), spelled="auto"),
            "Whether Triton's gRPC port speaks TLS (its HTTP port never does). Default auto: it does as soon as any "
            "other of these settings is given, because nobody sets a certificate for a plain port.",
        ),
    ] = None
    ca: Annotated[
        str | None,
        About(
            _MAYBE_PATH,
            "PEM file of the authorities that may have signed Triton's certificate. Default none: those "
            "that the system trusts.",
        ),
    ] = None
    cert: Annotated[
        str | None,
        About(
            _MAYBE_PATH,
            "PEM file of the certificate that the probe shows to Triton; goes together with key. Default "
            "none: most Tritons ask for no client certificate.",
        ),
    ] = None
    key: Annotated[
        str | None,
        About(_MAYBE_PATH, "PEM file of the private key of cert. Default none, as cert."),
    ] = None
    server_name: Annotated[
        str | None,
        About(
            _MAYBE_NAME,
            "The name that Triton's certificate must carry. Default none: the host of the address, which "
            "beside a Triton in the same pod is rarely what the certificate was issued for.",
        ),
    ] = None

    @property
    def active(self) -> bool:
        """Whether to speak TLS."""
        if self.enabled is not None:
            return self.enabled
        return any((self.ca, self.cert, self.key, self.server_name))


class TritonSettings(msgspec.Struct, frozen=True):
    """Where Triton is and how to ask it."""

    grpc: Annotated[
        str,
        About(ENDPOINT, "Triton's gRPC address. Default: Triton's own default port, in this pod.", "--grpc"),
    ] = "127.0.0.1:8001"
    http: Annotated[
        str,
        About(
            ENDPOINT,
            "Triton's HTTP address, asked for liveness alone, to tell a hung server from a blocked gRPC "
            "thread. Default: Triton's own default port, in this pod.",
            "--http",
        ),
    ] = "127.0.0.1:8000"
    metrics: Annotated[
        str,
        About(
            ENDPOINT,
            "Triton's metrics address, read for queue lengths and GPU memory. Default: Triton's own default "
            "port, in this pod.",
            "--metrics",
        ),
    ] = "127.0.0.1:8002"
    timeout: Annotated[
        float,
        About(
            duration(0.01, 60),
            "How long one call to Triton may take. Default 2s: far above what a busy Triton needs to answer "
            "(milliseconds), and short enough that three misses fit into 20 s.",
        ),
    ] = 2.0
    headers: Annotated[
        dict[str, str],
        About(
            Table(HEADER_NAME, HEADER_VALUE),
            "Headers sent with every call, for a Triton started with --grpc-restricted-protocol or "
            "--http-restricted-api. Values are shown nowhere. Default: none.",
        ),
    ] = {}
    tls: TlsSettings = TlsSettings()


class ModelsSettings(msgspec.Struct, frozen=True):
    """Which models matter."""

    required: Annotated[
        tuple[str, ...],
        About(
            Many(MODEL),
            "Models that must be loaded and ready before this pod may get traffic. Default none: then every "
            "model that Triton tried to load counts, and a model nobody asked Triton for is not missed.",
            "--required",
        ),
    ] = ()
    ignore: Annotated[
        tuple[str, ...],
        About(Many(MODEL), "Models that no finding is ever about. Default: none."),
    ] = ()
    stuck_after: Annotated[
        float,
        About(
            duration(1, 86_400),
            "How long a model may load or unload before it is called stuck. Default 10m: large language "
            "models take minutes to read and to capture their graphs, and the finding fails no gate.",
        ),
    ] = 600.0


class ModelPlacement(msgspec.Struct, frozen=True):
    """Where one model should run."""

    device: Annotated[
        Policy | None,
        About(choice(Policy), "As placement.default, for this model. Default: placement.default."),
    ] = None
    gpus: Annotated[
        tuple[str, ...],
        About(
            Many(GPU),
            "UUIDs of the GPUs that this model may run on, as nvidia-smi -L prints them; one of a whole GPU allows its "
            "MIG devices too. A model for which GPUs are named, and no device, is expected on one. Default none: any "
            "of this pod's, or those that its instance_group names, where Triton's CUDA_VISIBLE_DEVICES lists UUIDs.",
        ),
    ] = ()
    min_instances: Annotated[
        int | None,
        About(
            count(1, 100_000),
            "How many of its instances must be on a GPU, where it is expected on one: fewer declared there is "
            "CpuFallback, fewer found there is GpuNotUsed. Default none: a model with KIND_GPU and KIND_CPU groups "
            "side by side is content with what they declare.",
        ),
    ] = None


class PlacementSettings(msgspec.Struct, frozen=True):
    """Where models should run."""

    default: Annotated[
        Policy,
        About(
            choice(Policy),
            "Where a model is expected to run unless it says otherwise: gpu, cpu, any, or auto. Default "
            "auto: an explicit instance_group is taken at its word, and a model without one is expected on "
            "a GPU where this pod was given one.",
            "--placement-default",
        ),
    ] = Policy.AUTO
    models: Annotated[
        dict[str, ModelPlacement],
        About(
            Table(MODEL, Record(ModelPlacement)),
            "Where single models should run, by name. Default: none differs from placement.default.",
        ),
    ] = {}


class CanarySettings(msgspec.Struct, frozen=True):
    """A small inference that the probe may send to a model."""

    inputs: Annotated[
        dict[str, Any],
        About(
            Table(NAME, Anything()),
            "The input tensors by name, as nested lists. Default none: then the first sample of the model's own "
            "model_warmup is sent.",
        ),
    ] = {}
    expected: Annotated[
        dict[str, Any],
        About(
            Table(NAME, Anything()),
            "The output tensors by name, as nested lists. Default none: then any answer will do that has every "
            "declared output in a shape that fits.",
        ),
    ] = {}
    deadline: Annotated[
        float,
        About(
            duration(0.01, 3_600),
            "How long the whole answer may take. Default 10s: a canary waits in the queue with everyone else. Set "
            "it above the longest request of a model that takes one at a time.",
        ),
    ] = 10.0
    idle: Annotated[
        float,
        About(
            duration(0, 86_400),
            "Send it only after the model answered nobody, and nobody waited for it, for this long; after one that "
            "passed, this long passes before the next. Default 30s: under traffic the requests themselves show that "
            "the model works.",
        ),
    ] = 30.0
    generate: Annotated[
        bool,
        About(
            SWITCH,
            "Whether to make up inputs (zeros of the smallest shape that fits, empty texts) where neither inputs nor "
            "a model_warmup say any. Default false: only the model's owner knows an input that does no harm.",
        ),
    ] = False
    tolerance: Annotated[
        float,
        About(
            RATIO,
            "By how much a float may differ from the expected one, as a part of it, or in itself where the expected "
            "one is below 1. Default 0.001: half precision, and kernels that are chosen anew at each start, differ "
            "by less.",
        ),
    ] = 1e-3


class RestartSettings(msgspec.Struct, frozen=True):
    """How often /livez may ask for a restart."""

    max: Annotated[
        int,
        About(
            count(0, 1_000),
            "How many times /livez may fail within restarts.window; after that it answers 200 and the "
            "evidence stays. Default 3: what three restarts did not cure, a fourth will not. 0: never fails.",
        ),
    ] = 3
    window: Annotated[
        float,
        About(
            duration(1, 2_592_000),
            "Over how long restarts are counted. Default 1h: longer than the kubelet's largest back-off "
            "between restarts (5 min) times restarts.max, with time for slow models to load.",
        ),
    ] = 3600.0


class HealSettings(msgspec.Struct, frozen=True):
    """What the probe may do by itself."""

    reload_model: Annotated[
        bool,
        About(
            SWITCH,
            "Whether to reload a model whose processes are gone (StubDead, WorkerDead, InstancesMissing) through "
            "Triton's repository API, where Triton runs in EXPLICIT mode: one model at a time, never one that "
            "hangs, at most 3 times within 1 h. While it lasts the model's findings do not fail /livez, unless "
            "gates says otherwise. Default false: a probe that only looks can do no harm.",
        ),
    ] = False


class LogSettings(msgspec.Struct, frozen=True):
    """What is written to standard error."""

    level: Annotated[
        LogLevel,
        About(
            choice(LogLevel),
            "The least important line that is written. Default info: one line for each transition.",
            "--log-level",
        ),
    ] = LogLevel.INFO
    format: Annotated[
        LogFormat,
        About(
            choice(LogFormat),
            "json or console. Default json: what collects a container's log reads it without a parser.",
            "--log-format",
        ),
    ] = LogFormat.JSON


class GpuSettings(msgspec.Struct, frozen=True):
    """When a GPU is worth a warning."""

    memory_pressure: Annotated[
        float,
        About(
            RATIO,
            "Memory in use, as a part of the GPU's whole, above which it is under pressure. Default 0.95: "
            "engines that reserve memory in advance take 0.9 by default and are not in trouble.",
        ),
    ] = 0.95


class Settings(msgspec.Struct, frozen=True):
    """All of them; built by :func:`probe.settings.load`, or in code with the defaults."""

    triton: TritonSettings = TritonSettings()
    listen: Annotated[
        str,
        About(
            LISTEN,
            "Where the probe answers HTTP; port 0 lets the kernel pick one. Default [::]:8003: the port "
            "after Triton's own three, dual stack, IPv4 alone where the machine has no IPv6.",
            "--listen",
        ),
    ] = "[::]:8003"
    grpc_listen: Annotated[
        str | None,
        About(
            optional(LISTEN, unset="off", words=_OFF_WORDS, spelled=False),
            "Where the probe answers grpc.health.v1.Health. Default off: HTTP probes need it not, and a "
            "server nobody asks is a port too many.",
            "--grpc-listen",
        ),
    ] = None
    interval: Annotated[
        float,
        About(
            duration(0.1, 3_600),
            "How often each source is looked at. Exits of processes are seen as they happen, whatever this "
            "says. Default 5s: two looks within a readinessProbe's default period of 10 s.",
            "--interval",
        ),
    ] = 5.0
    models: ModelsSettings = ModelsSettings()
    placement: PlacementSettings = PlacementSettings()
    canary: Annotated[
        dict[str, CanarySettings],
        About(
            Table(MODEL, Record(CanarySettings)),
            "A small inference for each model named here; {} sends the model's own warmup. Default none: only the "
            "model's owner knows an input that does no harm.",
        ),
    ] = {}
    gates: Annotated[
        dict[str, dict[Gate, Hold | None]],
        About(
            Table(REASON, Table(GATE, HOLD)),
            "Which gates a reason fails and after how long, in place of the catalogue's: a duration, "
            "`3 looks`, both with `and`, or never; a gate that is not named stays as the catalogue has it. "
            "Default: the catalogue's, see `triton-probe reasons`.",
        ),
    ] = {}
    shadow: Annotated[
        tuple[str, ...],
        About(
            Many(REASON),
            "Reasons that are listed, metered and logged but move no gate: to watch one before trusting "
            "it. Default: none.",
        ),
    ] = ()
    restarts: RestartSettings = RestartSettings()
    heal: HealSettings = HealSettings()
    log: LogSettings = LogSettings()
    gpu: GpuSettings = GpuSettings()
