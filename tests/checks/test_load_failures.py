"""Is the cause of a failed load told from Triton's own text?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks.load_failures import classify

CAUSES = {
    "stub_unhealthy",
    "stub_oom_killed",
    "shm_exhausted",
    "no_gpu",
    "unsupported_gpu",
    "cuda_error",
    "gpu_out_of_memory",
    "model_code",
    "config_invalid",
    "file_missing",
    "unknown",
}
"""The contract's section 2.1."""

SHM = (
    "Unable to initialize shared memory key 'triton_python_backend_shm_region_1' to requested size (1048576 bytes). "
    "If you are running Triton inside docker, use '--shm-size' flag to control the shared memory region size. Each "
    "Python backend model instance requires at least 1 MB of shared memory. Error: No space left on device"
)
GROWTH = (
    "Failed to increase the shared memory pool size for key 'x' to 1048576 bytes. If you are running Triton inside "
    "docker, use '--shm-size' flag to control the shared memory region size. Error: No space left on device"
)
GROUP = "Invalid argument: instance group m_0 of model m has kind "

TEXTS = [
    # A stub that died in its load.
    ("Internal: Stub process 'm_0_0' is not healthy.", "stub_unhealthy"),
    ("Stub process is not healthy.", "stub_unhealthy"),
    ("Stub process is unhealthy and it will be restarted.", "stub_unhealthy"),
    ("Internal: Failed to initialize stub, stub process exited unexpectedly: m_0_0", "stub_unhealthy"),
    ("Internal: Failed to run python backend stub. Errno = 2", "stub_unhealthy"),
    ("Failed to restart the stub process: failed to launch the stub process.", "stub_unhealthy"),
    ("Internal: Failed to obtain the health mutex.", "stub_unhealthy"),
    # /dev/shm.
    (f"Internal: {SHM}", "shm_exhausted"),
    (f"Internal: {GROWTH}", "shm_exhausted"),
    (GROWTH.replace(" for key 'x'", ""), "shm_exhausted"),
    # GPUs.
    (f"{GROUP}KIND_GPU but no GPUs are available", "no_gpu"),
    (f"{GROUP}KIND_GPU but server does not support GPUs", "no_gpu"),
    (f"{GROUP}KIND_GPU but specifies no GPUs", "no_gpu"),
    (
        (
            "Invalid argument: instance group m_0 of model m specifies invalid or unsupported gpu id 1. GPUs with at "
            "least the minimum required CUDA compute compatibility of 6.000000 are: "
        ),
        "unsupported_gpu",
    ),
    (
        "Internal: can not create model 'm_0': memory limit set for GPU 0 has exceeded, model loading is rejected.",
        "gpu_out_of_memory",
    ),
    (
        "Internal: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "gpu_out_of_memory",
    ),
    ("Internal: CUDA_ERROR_OUT_OF_MEMORY: out of memory", "gpu_out_of_memory"),
    ("Internal: unable to get number of CUDA devices: unknown error", "cuda_error"),
    (
        (
            "Internal: onnx runtime error 1: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime "
            "version"
        ),
        "cuda_error",
    ),
    ("Internal: RuntimeError: CUDA error: device-side assert triggered", "cuda_error"),
    ("Internal: cublasCreate failed", "cuda_error"),
    # Files.
    (
        (
            "Internal: Failed to preinitialize Python stub: Python model file not found in "
            "'/models/m/1/model.py' or '/opt/x.py'"
        ),
        "file_missing",
    ),
    (
        "Internal: failed to open text file for read /models/m/config.pbtxt: No such file or directory",
        "file_missing",
    ),
    (
        "Invalid argument: at least one version must be available under the version policy of model 'm'",
        "file_missing",
    ),
    ("Internal: failed to stat file /models/m/1/model.onnx", "file_missing"),
    # The model's own code.
    (
        "Internal: ModuleNotFoundError: No module named 'torch'\n\nAt:\n  /models/m/1/model.py(3): <module>",
        "model_code",
    ),
    ("Internal: ValueError: no\n\nAt:\n  /models/m/1/model.py(9): initialize\n", "model_code"),
    ('Internal: Traceback (most recent call last):\n  File "/m.py", line 3', "model_code"),
    ("Internal: my.package.OddException: said so", "model_code"),
    ("Internal: something raised a KeyError somewhere", "model_code"),
    # The configuration.
    (f"{GROUP}KIND_CPU but specifies one or more GPUs", "config_invalid"),
    (f"{GROUP}KIND_MODEL but specifies one or more GPUs", "config_invalid"),
    ("Internal: instance group m_0 of model m has unexpected kind KIND_AUTO", "config_invalid"),
    (
        "Internal: unable to load model 'm', Triton OpenVINO backend supports only Kind CPU and AUTO",
        "config_invalid",
    ),
    (
        (
            "Internal: KIND_GPU is currently for single-GPU models, please specify KIND_MODEL in the model's "
            "config.pbtxt for multi-GPU models"
        ),
        "config_invalid",
    ),
    ("Invalid argument: unknown Execution Accelerator 'x' is requested", "config_invalid"),
    ("Invalid argument: model configuration must specify 'backend'", "config_invalid"),
    # Nothing that is known.
    ("Internal: it just did not", "unknown"),
    ("model appears in two or more repositories", "unknown"),
    ("", "unknown"),
]


@pytest.mark.parametrize(("text", "cause"), TEXTS)
def test_tritons_text_tells_the_cause(text: str, cause: str) -> None:
    """Texts of Triton's sources and of runs; the case and the code before them do not matter."""
    assert classify(text).cause == cause
    assert classify(text.upper()).cause == cause
    assert classify(text.removeprefix("Internal: ")).cause == cause


def test_every_cause_is_of_the_contract_and_has_a_remedy() -> None:
    """And each that a text can tell is told by some; an OOM kill is no text."""
    told = {classify(text).cause for text, _ in TEXTS}
    assert told == CAUSES - {"stub_oom_killed"}
    assert all(classify(text).remedy.endswith(".") or "gpus" in classify(text).remedy for text, _ in TEXTS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SHM, ("/dev/shm", "medium: Memory", "--shm-size")),
        ("Stub process 'm' is not healthy.", ("resources.limits.memory", "/dev/shm", "initialize()")),
        (f"{GROUP}KIND_GPU but no GPUs are available", ("nvidia.com/gpu: 1", "KIND_CPU")),
        ("specifies invalid or unsupported gpu id 1", ("--min-supported-compute-capability",)),
        ("x", ("Triton's log",)),
    ],
)
def test_a_remedy_says_what_to_change(text: str, words: tuple[str, ...]) -> None:
    """In the reader's terms."""
    assert all(word in classify(text).remedy for word in words)


@given(st.text(max_size=200))
def test_any_text_has_a_cause(text: str) -> None:
    """Triton passes on what user code raised: garbage is ``unknown`` or something better."""
    assert classify(text).cause in CAUSES


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["_", "x.", "cuda ", "stub process ", 'file "', "failed to run ", " \n", "ErroR"]
)
def test_a_text_of_megabytes_is_read_at_once(piece: str) -> None:
    """The judgement runs in the probe's one loop: no pattern may search such a text over and over."""
    assert classify("Internal: " + piece * ((4 << 20) // len(piece))).cause in CAUSES
    assert classify("ValueError: no\n" + piece * 100_000).cause == "model_code"
