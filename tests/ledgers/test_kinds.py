"""What kind of process runs below a stub, by its name and its command line?"""

from __future__ import annotations

import pytest

from probe.ledgers.kinds import WorkerKind, helping, kind_of, named, replaces
from tests.worlds import process, worker

STUB_LINE = "/opt/tritonserver/backends/python/triton_python_backend_stub /models/m/1/model.py region 1048576"
TRACKER = "python3 -c from multiprocessing.resource_tracker import main;main(11)"
SPAWN = "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=12) --multiprocessing-fork"


@pytest.mark.parametrize(
    ("name", "title", "kind"),
    [
        # vLLM, as it names itself, cut by the kernel, renamed by its owner, and before it renamed itself.
        ("VLLM::EngineCor", "VLLM::EngineCore", WorkerKind.ENGINE),
        ("VLLM::EngineCor", "VLLM::EngineCore_DP0", WorkerKind.ENGINE),
        ("VLLM::Worker_TP", "VLLM::Worker_TP0", WorkerKind.ENGINE),
        ("VLLM::Worker_DP", "VLLM::Worker_DP0_PP0_TP0_EP0", WorkerKind.ENGINE),
        ("VLLM::DPCoordin", "VLLM::DPCoordinator", WorkerKind.ENGINE),
        ("VLLM::EngineCor", "", WorkerKind.ENGINE),
        ("my-llm-service:", "my-llm-service::EngineCore", WorkerKind.ENGINE),
        ("python3", "acme::Worker_TP1", WorkerKind.ENGINE),
        ("python3", SPAWN, WorkerKind.CHILD),
        # Other engines.
        ("sglang::schedul", "sglang::scheduler_TP0", WorkerKind.ENGINE),
        ("sglang::detoken", "sglang::detokenizer", WorkerKind.ENGINE),
        ("trtllmExecutorW", "/usr/bin/trtllmExecutorWorker", WorkerKind.ENGINE),
        ("ray::RayWorkerW", "ray::RayWorkerWrapper.execute_method", WorkerKind.ENGINE),
        # Ray ends its idle processes as it likes, and names a task's process after the task.
        ("ray::IDLE", "ray::IDLE", WorkerKind.HELPER),
        ("ray::download", "ray::download", WorkerKind.CHILD),
        # What a model starts itself.
        ("triton_python_b", STUB_LINE, WorkerKind.CHILD),
        ("python3", "python3 worker.py", WorkerKind.CHILD),
        ("llama-server", "llama-server -m x.gguf", WorkerKind.CHILD),
        ("python3", "", WorkerKind.CHILD),
        # Helpers.
        ("python3", TRACKER, WorkerKind.HELPER),
        ("python3", TRACKER.replace("resource", "semaphore"), WorkerKind.HELPER),
        ("python3", "python3 /x/torch/_inductor/compile_worker/__main__.py --workers=32", WorkerKind.HELPER),
        ("gcc", "gcc -O3", WorkerKind.HELPER),
        ("gcc-12", "gcc-12 -O3", WorkerKind.HELPER),
        ("x86_64-linux-gn", "x86_64-linux-gnu-gcc-12", WorkerKind.HELPER),
        ("cudafe++", "cudafe++", WorkerKind.HELPER),
        ("sh", "sh -c uname -p", WorkerKind.HELPER),
        ("nvidia-smi", "nvidia-smi -L", WorkerKind.HELPER),
    ],
)
def test_a_process_is_told_by_its_names(name: str, title: str, kind: WorkerKind) -> None:
    """By the kernel's 15 characters, and by its command line."""
    assert kind_of(process(1, name=name, title=title)) is kind


def test_what_a_compiler_starts_is_a_helper_and_what_a_shell_starts_is_itself() -> None:
    """A build runs scripts of its own; a shell is often only the way in which a worker was started."""
    below = (
        process(10, name="cmake", parent=1),
        process(11, name="python3", title="python3 probe.py", parent=10),
        process(12, name="sh", parent=10),
        process(13, name="python3", title="python3 deeper.py", parent=12),
        process(20, name="sh", parent=1),
        process(21, name="python3", title="python3 worker.py", parent=20),
        worker(22, parent=21),
    )
    assert {each.pid for each in helping(below)} == {10, 11, 12, 13, 20}


def test_parents_that_form_a_circle_are_followed_to_an_end() -> None:
    """Files that were read one after the other contradict each other."""
    below = (process(10, name="a", parent=11), process(11, name="b", parent=10))
    assert helping(below) == frozenset()


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("VLLM::EngineCore", "VLLM::EngineCore"),
        ("python3 worker.py --token=secret", "python3 worker.py"),
        ("python3 -c from x import y", "python3"),
        ("serve one two three", "serve one"),
        ("x" * 100, "x" * 80),
        ("", "kernel-name"),
        ("--odd", "kernel-name"),
    ],
)
def test_what_is_shown_of_a_command_line_ends_at_its_first_option(title: str, shown: str) -> None:
    """An option may be a secret, and status is read over the network."""
    assert named(process(1, name="kernel-name", title=title)) == shown


def test_a_worker_is_replaced_by_one_of_the_same_kind_and_name() -> None:
    """Whatever options it has: ports and ranks differ."""
    first = process(1, name="python3", title="python3 worker.py --port 1")
    assert replaces(process(2, name="python3", title="python3 worker.py --port 2"), first)
    assert not replaces(process(2, name="python3", title="python3 other.py"), first)
    assert not replaces(process(2, name="python", title="python3 worker.py"), first)
    assert not replaces(worker(2, "VLLM::Worker_TP0"), worker(1, "VLLM::Worker_TP1"))
