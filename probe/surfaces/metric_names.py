"""Every metric by name: what docs, dashboards and alerts are checked against.

Model, version and GPU are labelled as in Triton's own metrics, so that both join.
"""

from __future__ import annotations

import msgspec

_MODEL = ("model", "version")


class Metric(msgspec.Struct, frozen=True):
    """A metric as it is declared; its labels in the order in which their values are given.

    ``name`` is the whole name in the text format, with ``_total`` or ``_info``; ``kind`` is ``gauge``,
    ``counter``, ``info`` or ``histogram``; ``says`` is its HELP.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str


def _metric(name: str, kind: str, labels: tuple[str, ...], says: str) -> Metric:
    return Metric(f"triton_probe_{name}", kind, labels, says)


METRICS = (
    _metric("build_info", "info", ("version",), "Version of triton-probe; always 1."),
    _metric("evidence_info", "info", ("mode",), "How far placement can be proven here; always 1."),
    _metric("triton_info", "info", ("version", "epoch"), "Version of Triton and the epoch; always 1."),
    _metric("gate", "gauge", ("gate",), "Whether the gate is open (1) or failing (0)."),
    _metric("gate_transitions_total", "counter", ("gate",), "How often the gate opened or failed."),
    _metric("finding", "gauge", ("reason", "severity", "model", "gpu_uuid"), "1 while the finding holds."),
    _metric("findings_total", "counter", ("reason",), "Findings raised since the probe started."),
    _metric("source_up", "gauge", ("source",), "Whether the source's last look succeeded."),
    _metric("source_duration_seconds", "histogram", ("source",), "Seconds that a look took."),
    _metric(
        "source_last_success_timestamp_seconds",
        "gauge",
        ("source",),
        "When a look last succeeded, in seconds since the Unix epoch.",
    ),
    _metric("model_ready", "gauge", _MODEL, "Whether Triton says that this version is ready."),
    _metric("model_state", "gauge", (*_MODEL, "state"), "1 for the version's state, 0 for every other."),
    _metric("model_placement", "gauge", (*_MODEL, "verdict"), "1 for where it runs, 0 for every other."),
    _metric(
        "model_placement_expected_info",
        "info",
        (*_MODEL, "expected", "declared", "explicit"),
        "Where policy wants it to run and what its configuration declares; always 1.",
    ),
    _metric("model_gpu_memory_bytes", "gauge", (*_MODEL, "gpu_uuid"), "GPU memory of its stubs in bytes."),
    _metric("model_instances", "gauge", (*_MODEL, "state"), "Instances that live in stub processes."),
    _metric("model_stub_memory_bytes", "gauge", _MODEL, "Resident memory of its stubs in bytes."),
    _metric("model_shm_bytes", "gauge", _MODEL, "Shared memory of its stubs in bytes."),
    _metric("stub_exits_total", "counter", ("model", "cause"), "Stub processes that ended, by cause."),
    _metric(
        "model_requests_total",
        "counter",
        (*_MODEL, "outcome"),
        "Requests of others than the probe that Triton completed.",
    ),
    _metric(
        "heals_total", "counter", ("model", "outcome"), "Reloads by the probe itself (heal.reload_model)."
    ),
    _metric(
        "model_last_success_timestamp_seconds",
        "gauge",
        _MODEL,
        "When a request last succeeded, in seconds since the Unix epoch.",
    ),
    _metric(
        "canary_duration_seconds",
        "histogram",
        ("model",),
        "Seconds that a canary took, until its answer or its deadline.",
    ),
    _metric("canary_failures_total", "counter", ("model",), "Canaries that did not pass."),
    _metric("gpu_memory_total_bytes", "gauge", ("gpu_uuid",), "Memory of the GPU in bytes."),
    _metric("gpu_memory_used_bytes", "gauge", ("gpu_uuid",), "Memory in use on the GPU in bytes."),
    _metric("gpu_ok", "gauge", ("gpu_uuid",), "Whether the GPU is well, as far as NVML can tell."),
    _metric("gpu_xid_total", "counter", ("gpu_uuid", "xid"), "Xids that the driver reported."),
    _metric("container_memory_limit_bytes", "gauge", (), "Memory limit of Triton's container in bytes."),
    _metric(
        "container_memory_working_set_bytes",
        "gauge",
        (),
        "Memory of Triton's container less inactive file cache, in bytes, as the kubelet counts it.",
    ),
    _metric("container_memory_peak_bytes", "gauge", (), "Highest memory use of the container in bytes."),
    _metric("container_oom_kills_total", "counter", (), "Processes that the kernel killed for memory."),
    _metric(
        "container_memory_stall_seconds_total",
        "counter",
        (),
        "Seconds that some task of the container waited for memory (PSI).",
    ),
    _metric("container_cpu_limit_cores", "gauge", (), "CPU limit of Triton's container in cores."),
    _metric("container_cpu_seconds_total", "counter", (), "CPU time of Triton's container in seconds."),
    _metric(
        "container_cpu_throttled_seconds_total",
        "counter",
        (),
        "Seconds that the container was held back by its CPU limit.",
    ),
    _metric(
        "container_cpu_periods_total", "counter", (), "Periods of the CPU limit in which the container ran."
    ),
    _metric(
        "container_cpu_throttled_periods_total",
        "counter",
        (),
        "Periods in which the CPU limit held the container back.",
    ),
    _metric(
        "container_cpu_stall_seconds_total",
        "counter",
        (),
        "Seconds that some task of the container waited for a CPU (PSI).",
    ),
    _metric("container_pids", "gauge", (), "Processes and threads in Triton's container."),
    _metric("container_pids_limit", "gauge", (), "Limit of processes and threads of the container."),
    _metric(
        "container_pids_refused_total",
        "counter",
        (),
        "Processes and threads that a limit refused the container.",
    ),
    _metric("shm_size_bytes", "gauge", (), "Size of Triton's /dev/shm in bytes."),
    _metric("shm_used_bytes", "gauge", (), "Bytes in use in Triton's /dev/shm."),
    _metric("shm_orphan_bytes", "gauge", (), "Bytes in /dev/shm that no live process owns."),
    _metric(
        "detection_delay_seconds",
        "histogram",
        ("reason",),
        "Seconds from an event's own time to the gate's move.",
    ),
)
