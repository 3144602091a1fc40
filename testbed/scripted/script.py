"""What a scripted Triton is: its models and how it behaves, to be changed while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

EVERY_CALL = "*"
"""Stands for every gRPC method that has no behaviour of its own."""

EXTENSIONS = (
    *("classification", "sequence", "model_repository", "model_repository(unload_dependents)"),
    *("schedule_policy", "model_configuration", "system_shared_memory", "cuda_shared_memory"),
    *("binary_tensor_data", "parameters", "statistics", "trace", "logging"),
)
"""What release 2.51 says that it offers."""

HTTP_CALLS = ("http_live", "http_ready", "metrics")
"""Names of the HTTP calls, beside the gRPC methods' own names."""


@dataclass(frozen=True)
class Behaviour:
    """How a call is answered instead of properly.

    ``delay`` in seconds comes first; a call that hangs goes on where ``hang`` is set.  Then ``code`` and
    ``text`` are an error (for HTTP ``status``), ``answer`` raw bytes in place of the message, and ``drop``
    closes an HTTP connection without a word.
    """

    delay: float = 0.0
    hang: threading.Event | None = None
    code: grpc.StatusCode | None = None
    text: str = ""
    status: int | None = None
    answer: bytes | None = None
    drop: bool = False


@dataclass(frozen=True)
class Group:
    """One instance group of the resolved configuration; ``kind`` as the protocol spells it."""

    name: str
    kind: str = "KIND_CPU"
    count: int = 1
    gpus: tuple[int, ...] = ()


@dataclass
class ScriptedModel:
    """One model version, as the index, the statistics and the configuration tell of it.

    ``state`` and ``reason`` are the index's.  Only the readiness of newer releases shows ``alive``: whether
    every instance lives (``look`` tells it in its place, each time that such a release asks); and of yet newer
    ones ``user_ready``, what the model's own ``is_ready()`` says after ``user_seconds``.  ``requested`` is
    called for each request.  Durations are nanoseconds.
    """

    name: str
    version: str = "1"
    state: str = "READY"
    reason: str = ""
    alive: bool = True
    backend: str = "python"
    platform: str = ""
    groups: tuple[Group, ...] = ()
    steps: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)
    decoupled: bool = False
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    """Name, data type as the configuration spells it (``TYPE_FP32``), and dims of each tensor."""
    max_batch_size: int = 0
    responses: int = 1
    """How many responses a stream brings before the one that is final and empty."""
    default_file: str = "model.py"
    success: int = 0
    success_ns: int = 0
    failure: int = 0
    rejected: int = 0
    canceled: int = 0
    """Of the failures: those that timed out in the queue, and those whose client went away."""
    executions: int = 0
    last_inference_ms: int = 0
    compute_infer_ns: int = 0
    pending: int = 0
    memory: tuple[tuple[str, int, int], ...] = ()
    """Rows of ``memory_usage``: type, device, bytes."""
    load_error: str = ""
    """Triton's text where loading it fails, with the prefix that the index shows."""
    look: Callable[[], bool] | None = None
    user_ready: bool = True
    user_seconds: float = 0.0
    requested: Callable[[], None] | None = None

    def served(self, times: int = 1, *, seconds_each: float = 0.001) -> None:
        """Count this many requests that succeeded."""
        self.success += times
        self.executions += times
        self.success_ns += int(times * seconds_each * 1e9)
        self.compute_infer_ns += int(times * seconds_each * 1e9)

    def forget(self) -> None:
        """Start its counters again, as Triton does when it loads a model."""
        self.success = self.success_ns = self.failure = self.rejected = self.canceled = self.executions = 0
        self.last_inference_ms = self.compute_infer_ns = self.pending = 0


@dataclass
class Script:
    """The whole server.  Change it at any time: each call reads it anew.

    ``ready`` None lets the models decide, by the rules of ``version``.  ``restricted`` maps a category
    (``health``, ``statistics``…) to the key and value that its calls need.
    """

    version: str = "2.51.0"
    live: bool = True
    ready: bool | None = None
    control_mode: str = "explicit"
    extensions: tuple[str, ...] = EXTENSIONS
    models: list[ScriptedModel] = field(default_factory=list)
    gpu_memory_used: dict[str, int] = field(default_factory=dict)
    restricted: dict[str, tuple[str, str]] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    """How often each call came in."""
    deadlines: list[tuple[str, float | None]] = field(default_factory=list)
    """Each gRPC call with the seconds that its caller gives it, None for a caller that would wait for ever."""
    out: int = 0
    most_out: int = 0
    """How many gRPC calls are being answered, and how many were at once."""
    thread: threading.Lock = field(default_factory=threading.Lock)
    """Triton's one thread for all that is no inference: who waits for an ``is_ready()`` holds up all others."""
    ending: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def answering(self, call: str, seconds: float | None) -> Iterator[None]:
        """Note a gRPC call that came in, for as long as it is being answered."""
        with self._lock:
            self.calls[call] += 1
            self.deadlines.append((call, seconds))
            self.out += 1
            self.most_out = max(self.most_out, self.out)
        try:
            yield
        finally:
            with self._lock:
                self.out -= 1

    def model(self, name: str, version: str = "") -> ScriptedModel:
        """Return the model (its first version where none is named); KeyError where there is none."""
        for each in self.models:
            if each.name == name and version in ("", each.version):
                return each
        raise KeyError(name)

    def behave(self, *calls: str, behaviour: Behaviour) -> None:
        """Let these calls be answered so; ``EVERY_CALL`` stands for all of gRPC."""
        for call in calls:
            self.behaviours[call] = behaviour

    def hang(self, *calls: str) -> None:
        """Let these calls (without names: every call of every protocol) never be answered."""
        self.behave(*(calls or (EVERY_CALL, *HTTP_CALLS)), behaviour=Behaviour(hang=threading.Event()))

    def delay(self, seconds: float, *calls: str) -> None:
        """Let these calls be answered properly, but late."""
        self.behave(*calls, behaviour=Behaviour(delay=seconds))

    def fail(self, code: grpc.StatusCode, text: str, *calls: str) -> None:
        """Let these gRPC calls end with an error."""
        self.behave(*calls, behaviour=Behaviour(code=code, text=text))

    def garbage(self, answer: bytes, *calls: str) -> None:
        """Let these calls be answered with bytes that may be no message at all."""
        self.behave(*calls, behaviour=Behaviour(answer=answer))

    def recover(self) -> None:
        """Behave properly again; calls that hang are answered now."""
        former = list(self.behaviours.values())
        self.behaviours.clear()
        for each in former:
            if each.hang is not None:
                each.hang.set()

    def behaviour(self, call: str) -> Behaviour | None:
        """Return how this call is to be answered, or None for properly."""
        if call in self.behaviours or call in HTTP_CALLS:
            return self.behaviours.get(call)
        return self.behaviours.get(EVERY_CALL)
