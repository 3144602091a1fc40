"""Why did a model fail to load?  Told from Triton's own text, which is matched and never passed on bare.

Texts: Triton core ``model_config_utils.cc``, ``cuda_utils.cc``; python_backend ``stub_launcher.cc``,
``pb_utils.cc``; most were seen in runs of release 24.10.
"""

from __future__ import annotations

import re

import msgspec

from probe.facts.findings import Scalar


class LoadFailure(msgspec.Struct, frozen=True):
    """A cause of the contract's section 2.1 and what to do about it."""

    cause: str
    remedy: str


class Told(msgspec.Struct, frozen=True):
    """The cause of a failed load, what was seen beside it as sentences, the remedy, and what that rests on."""

    cause: str
    beside: str
    remedy: str
    evidence: dict[str, Scalar] = {}


_STUB_REMEDY = (
    "The stub process ended while the model was loading. Give the container a memory limit that fits "
    "(resources.limits.memory) and a larger /dev/shm (an emptyDir with medium: Memory there), and read "
    "Triton's log for what the model's initialize() did."
)
_SHM_REMEDY = (
    "Give /dev/shm more room: mount an emptyDir {medium: Memory, sizeLimit: 1Gi} at /dev/shm (docker: "
    "--shm-size). Kubernetes gives 64 MiB by default, and each python instance needs at least 1 MiB."
)
_GPU_REMEDY = (
    "Give the Triton container a GPU (resources.limits: nvidia.com/gpu: 1), or declare the model on the CPU: "
    "instance_group [ { count: 1 kind: KIND_CPU } ] in its config.pbtxt."
)

_CODE_REMEDY = "The model's own code raised while loading: the text names what to mend."
_SPREAD = "Free GPU memory or spread the models: fewer instances, another GPU (gpus), or a smaller model."
_ORDINALS = (
    "Name only GPUs that Triton sees, by CUDA ordinal from 0, in gpus of the model's instance_group; a GPU below "
    "--min-supported-compute-capability does not count."
)
_DRIVER = (
    "CUDA does not work in Triton's container: compare the driver (nvidia-smi) with the image's CUDA release, and "
    "restart the container after a driver change."
)
_FILE = "Put the missing file into the model repository: <model>/<version>/<file>, readable by Triton's user."

# The first that matches wins, so the narrow ones stand before the wide ones.
_CASES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "shm_exhausted",
        (
            r"shared memory.*no space left on device",
            "unable to initialize shared memory",
            "failed to increase the shared memory",
        ),
        _SHM_REMEDY,
    ),
    (
        "stub_unhealthy",
        (
            r"stub process .*(not healthy|unhealthy|exited unexpectedly)",
            "failed to initialize stub",
            r"failed to (re)?(launch|start|run).* stub",
            "health mutex",
        ),
        _STUB_REMEDY,
    ),
    ("no_gpu", ("no gpus are available", "does not support gpus", "specifies no gpus"), _GPU_REMEDY),
    (
        "unsupported_gpu",
        ("invalid or unsupported gpu id", "minimum required cuda compute"),
        _ORDINALS,
    ),
    (
        "gpu_out_of_memory",
        (r"cuda.*out of memory", "outofmemory", "cuda_error_out_of_memory", "memory limit set for gpu"),
        _SPREAD,
    ),
    (
        "cuda_error",
        (r"cuda (failure|error|driver)", "cudaerror", "number of cuda devices", "cublas", "cudnn"),
        _DRIVER,
    ),
    (
        "file_missing",
        (
            "file not found",
            "no such file or directory",
            "failed to open",
            "failed to stat",
            "does not exist",
            r"unable to find .*(file|version|model)",
            "at least one version",
        ),
        _FILE,
    ),
    (
        "model_code",
        ("traceback", r"\bfile \".*line \d", r"^[\w.]*\w(error|exception)\b", r"\bat:\s"),
        _CODE_REMEDY,
    ),
    (
        "config_invalid",
        (
            r"instance group .* (has|specifies)",
            "unexpected kind",
            "supports only kind",
            "please specify kind",
            "unknown execution accelerator",
            "must specify",
            "failed to parse",
            "error parsing text-format",
            "model configuration",
            r"\bconfig(uration)?\b",
            "unexpected (shape|datatype)",
        ),
        "Mend the model's config.pbtxt as the text says.",
    ),
    ("model_code", (r"\w(error|exception)\b",), _CODE_REMEDY),
)
_PATTERNS = tuple(
    (re.compile("|".join(marks), re.IGNORECASE), LoadFailure(cause, remedy))
    for cause, marks, remedy in _CASES
)
_PREFIX = re.compile(
    r"^(internal|invalid argument|not found|unavailable|unknown|unsupported): ", re.IGNORECASE
)
_LONGEST = 4096
"""Characters of a text that are read: a model's code may raise megabytes, and the cause stands first."""


def classify(text: str) -> LoadFailure:
    """The cause that a load error's text speaks of; ``unknown`` where none is recognised."""
    bare = _PREFIX.sub("", text[:_LONGEST])
    for pattern, failure in _PATTERNS:
        if pattern.search(bare):
            return failure
    return LoadFailure("unknown", "Read Triton's log around the load of this model.")
