"""What kind of process runs below a stub: an engine, a helper, or a child of which nothing is known; pure.

Names: vLLM renames its processes with setproctitle (``vllm/utils/system_utils.py``,
``VLLM_PROCESS_NAME_PREFIX`` in place of ``VLLM``), and so does SGLang; TensorRT-LLM starts
``trtllmExecutorWorker`` in orchestrator mode; Ray calls its processes ``ray::<actor>`` and, while they have
none, ``ray::IDLE``.  A forked worker keeps the name and the command line of its stub.
"""

from __future__ import annotations

import enum
import functools
import re

from probe.facts.processes import Process, ProcessId


class WorkerKind(enum.StrEnum):
    """What the end of a process below a living stub means."""

    ENGINE = "engine"
    """A part of an inference engine: it never ends while its model serves."""
    CHILD = "child"
    """Anything else: it may end when its work is done, and must not end violently."""
    HELPER = "helper"
    """A compiler, a shell, a tracker: it comes and goes."""


_ENGINE = re.compile(r"[^\s:]+::(\w*Worker|EngineCor|DPCoordin|schedul|detoken)|trtllmExecutorW", re.ASCII)
_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "busybox", "env"))
_AROUND = "git ldconfig ldd lscpu uname which file nproc numactl nvidia-smi rocm-smi"
"""By these, libraries find out where they run."""
_COMPILING = """
cc c++ gcc g++ cpp cc1 cc1plus as ld collect2 lto-wrapper lto1 clang clang++ lld ld.lld ld.gold ld.bfd ar nm objcopy
objdump ccache sccache nvcc cicc ptxas cudafe++ fatbinary nvlink nvdisasm cuobjdump ninja cmake make gmake hipcc
"""
"""Kernels are compiled at run time by Triton's language, Inductor, CuPy and FlashInfer."""
_TOOLS = frozenset((*_AROUND.split(), *_COMPILING.split()))
_CROSS = re.compile(r"(x86_64|aarch64|arm64)-linux-g")
_RELEASE = re.compile(r"-[0-9.]+\Z")
_HELPING = (
    "multiprocessing.resource_tracker",
    "multiprocessing.semaphore_tracker",
    "torch/_inductor/compile_worker",
    "torch._inductor.compile_worker",
)
_GENERATIONS = 16
_WORDS_SHOWN, _LETTERS_SHOWN = 2, 80


def kind_of(process: Process) -> WorkerKind:
    """Which kind it is, by the name that the kernel keeps (15 characters) and by its command line."""
    return _kind(process.name, process.title)


@functools.lru_cache(4096)
def _kind(name: str, title: str) -> WorkerKind:
    if name.startswith("ray::IDLE") or title.startswith("ray::IDLE"):
        return WorkerKind.HELPER
    if _ENGINE.match(name) or _ENGINE.match(title):
        return WorkerKind.ENGINE
    tool = _RELEASE.sub("", name)
    if tool in _SHELLS or tool in _TOOLS or _CROSS.match(name):
        return WorkerKind.HELPER
    return WorkerKind.HELPER if any(each in title for each in _HELPING) else WorkerKind.CHILD


def helping(below: tuple[Process, ...]) -> frozenset[ProcessId]:
    """Who of a stub's descendants is a helper, or works for one: a shell alone runs others as they are."""
    by_pid = {each.id.pid: each for each in below}

    def helps(process: Process) -> bool:
        # Files that were read one after the other may contradict each other, up to a circle.
        for _ in range(_GENERATIONS):
            if kind_of(process) is WorkerKind.HELPER and process.name not in _SHELLS:
                return True
            above = by_pid.get(process.parent)
            if above is None:
                return False
            process = above
        return False

    return frozenset(each.id for each in below if kind_of(each) is WorkerKind.HELPER or helps(each))


def named(process: Process) -> str:
    """How it is called in a message: its command line up to the first option, which may be a secret."""
    words: list[str] = []
    for word in process.title.split(" ", _WORDS_SHOWN)[:_WORDS_SHOWN]:
        if word.startswith("-"):
            break
        words.append(word)
    return " ".join(words)[:_LETTERS_SHOWN] or process.name


def replaces(one: Process, other: Process) -> bool:
    """Whether one does what the other did: the same kind, started by the same name."""
    return kind_of(one) is kind_of(other) and one.name == other.name and named(one) == named(other)
