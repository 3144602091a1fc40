"""What did Triton's container look like around a death, and which line of its manifest keeps it from another?"""

from __future__ import annotations

import signal

from probe.checks.container.limits import unlimited
from probe.checks.container.manifest import (
    GIB,
    memory_line,
    quantity,
    reserved_line,
    rounded,
    shm_line,
    size_of,
)
from probe.checks.deaths.causes import Cause
from probe.checks.observation import Observation
from probe.facts.container import ShmUse
from probe.facts.findings import Scalar
from probe.facts.instants import Instant
from probe.facts.qos import QosClass
from probe.ledgers.obituaries import Obituary
from probe.ledgers.scenes import Scene

_LEAST_FREE = 1 << 20
"""Bytes of ``/dev/shm``: a python instance can not begin with less."""
_NEAR = 0.9
"""Share of the limit from which on memory was visibly short; a kill by the limit itself leaves a higher peak."""


def evidence(death: Obituary | None) -> dict[str, Scalar]:
    """The figures that were seen around a death; what was not seen is left out."""
    if death is None:
        return {}
    before, after = death.before, death.after
    found: dict[str, Scalar] = {"tree_rss_bytes": death.tree_bytes, "tree_grown_bytes": death.grown_bytes}
    found |= memory_evidence(before, death.exit.observed)
    shm = _shm(death)
    if shm is not None:
        found |= {"shm_used_bytes": shm.used_bytes, "shm_size_bytes": shm.size_bytes}
    if before is not None:
        found |= {"memory_stall_share": before.memory_stalled, "cpu_throttled_share": before.cpu_throttled}
    if after is not None:
        found["container_peak_bytes"] = after.memory.peak_bytes
    return {name: value for name, value in found.items() if value is not None}


def memory_evidence(scene: Scene | None, moment: Instant) -> dict[str, Scalar]:
    """The figures of the container's memory in a look, and how long before this moment it was."""
    if scene is None:
        return {}
    memory, limit = scene.memory, scene.memory.limit
    found: dict[str, Scalar] = {
        "container_limit_bytes": int(limit.value) if limit is not None and limit.value is not None else None,
        "container_used_bytes": memory.used_bytes,
        "container_working_set_bytes": memory.working_set_bytes,
        "container_seconds_before": round(moment.mono - scene.observed.mono, 1),
    }
    return {name: value for name, value in found.items() if value is not None}


def memory_says(scene: Scene | None, moment: Instant, after: Scene | None = None) -> str:
    """What the container held at its last look before a death, as a sentence; empty where nobody looked.

    ``after`` is a look since, for the peak that it shows.
    """
    held = _held(scene)
    if scene is None or held is None:
        return ""
    limit = _limit(scene)
    ago = moment.mono - scene.observed.mono
    of = f" of its limit of {size_of(limit)}" if limit is not None else ""
    if limit is None and scene.memory.limit is not None:
        of = ", without a memory limit of its own,"
    adjective = ", in a pod that is BestEffort" if scene.qos is QosClass.BEST_EFFORT else ""
    peak = after.memory.peak_bytes if after is not None else None
    reached = f"; its peak was {size_of(peak)}" if peak else ""
    return f"The container held {size_of(held)}{of} {ago:.1f} s before{adjective}{reached}."


def memory_remedy(seen: Observation, before: Scene | None, after: Scene | None = None, size: int = 0) -> str:
    """What to write into the manifest after a kill for want of memory; ``size`` is what the victim last held.

    Never less than the limit that the container has by now.
    """
    held = f" (the process last held {size_of(size)})" if size else ""
    fewer = "or give the model fewer instances or smaller batches."
    scene = before or after
    if scene is None or scene.memory.limit is None:
        # A figure that may be below the present limit is worse than none.
        return f"Raise resources.limits.memory of Triton's container{held}, {fewer}"
    limit, node = _limit(scene), scene.node_memory_bytes
    figure = max(_peak(scene), _peak(after))
    last = seen.book.scenes.looks[-1] if seen.book.scenes.looks else None
    present = _limit(last) if last is not None else None
    if present is not None and (limit is None or present > limit):
        # A peak without a limit counts all the files that were read.
        least = max(figure, size) if limit is not None else max(_held(scene) or 0, _held(after) or 0, size)
        then = (
            f"The limit was {size_of(limit)} then" if limit is not None else "The container had no limit then"
        )
        return (
            f"{then}{held}, and it is {size_of(present)} now, which may be enough. Where it is not, raise it further: "
            f"{memory_line(rounded(max(present, least)))}, {fewer}"
        )
    if limit is None:
        working = max(_held(scene) or 0, _held(after) or 0, size)
        return _reserve(max(figure, size) if figure else 0, working, node, held)
    wanted = rounded(max(limit, figure, size))
    reached = after.memory.peak_bytes if after is not None else None
    if reached and figure < _NEAR * limit:
        return (
            f"The container's peak of {size_of(reached)} never came near its limit of {size_of(limit)}: the node, or a "
            f"cgroup above, ran out of memory. Set {reserved_line(int(limit))} on Triton's container{held}, so that "
            "the node keeps that much for it."
        )
    if node is not None and wanted >= node:
        return (
            f"The limit of {size_of(limit)} was too low{held}, and the node has {size_of(node)} in all: {fewer[3:-1]}, "
            f"or take a larger node and set {memory_line(wanted)} on Triton's container."
        )
    return (
        f"Raise resources.limits.memory of Triton's container from {quantity(int(limit))} to {quantity(wanted)} or "
        f"more{held}: {memory_line(wanted)}, {fewer}{_unseen(before, limit)}"
    )


def shm_full(shm: ShmUse | None) -> bool:
    """Whether nothing more fits into ``/dev/shm``."""
    if shm is None or not shm.size_bytes:
        return False
    return shm.size_bytes - shm.used_bytes < _LEAST_FREE or shm.inodes_free == 0


def shm_says(shm: ShmUse | None) -> str:
    """How full ``/dev/shm`` was, as a clause; empty where that is not known."""
    if shm is None or not shm.size_bytes:
        return ""
    inodes = ", and no inode was left" if shm.inodes_free == 0 else ""
    return f"/dev/shm held {size_of(shm.used_bytes)} of {size_of(shm.size_bytes)}{inodes}"


def shm_remedy(shm: ShmUse | None) -> str:
    """What to write into the manifest where ``/dev/shm`` was too small: twice what it has."""
    size = shm.size_bytes if shm is not None else 0
    wanted = rounded(2 * size - 1, 1.0) if size else GIB
    has = f"It has {size_of(size)}. " if size else "Kubernetes gives 64 MiB by default. "
    return (
        f"Give /dev/shm more room: mount an {shm_line(wanted)} at /dev/shm of Triton's container (docker: "
        f"--shm-size={quantity(wanted)[:-1].lower()}). {has}Each python instance needs at least 1 MiB, and what lies "
        "there counts against the container's memory limit."
    )


def cure_of(seen: Observation, death: Obituary | None) -> str:
    """The manifest's line that keeps such a death from coming again; empty where none does."""
    if death is None:
        return ""
    if death.exit.oom_killed:
        return memory_remedy(seen, death.before, death.after, death.rss_bytes)
    return shm_remedy(_shm(death)) if of_shm(death) else ""


def of_shm(death: Obituary) -> bool:
    """Whether it ended because nothing more fitted into ``/dev/shm``: the kernel then sends SIGBUS."""
    return death.exit.signal == signal.SIGBUS and shm_full(_shm(death))


def surroundings(death: Obituary, cause: Cause) -> str:
    """What was seen beside a death, as sentences; of memory where that was its cause or nobody knows it."""
    said = []
    if cause.oom or death.exit.signal is None:
        said.append(memory_says(death.before, death.exit.observed, death.after))
    shm = _shm(death)
    if shm_full(shm):
        said.append(f"{shm_says(shm)}.")
    return " ".join(each for each in said if each)


def _shm(death: Obituary) -> ShmUse | None:
    looks = [each.shm for each in (death.before, death.after) if each is not None and each.shm is not None]
    return next((each for each in looks if shm_full(each)), looks[0] if looks else None)


def _limit(scene: Scene) -> float | None:
    # The container's own; that of all pods together, or above the node, is none.
    limit = scene.memory.limit
    if limit is None or unlimited(limit, scene.node_memory_bytes) is not None:
        return None
    return limit.value


def _held(scene: Scene | None) -> int | None:
    if scene is None:
        return None
    memory = scene.memory
    return memory.working_set_bytes if memory.working_set_bytes is not None else memory.used_bytes


def _peak(scene: Scene | None) -> int:
    return max(scene.memory.peak_bytes or 0, _held(scene) or 0) if scene is not None else 0


def _reserve(figure: int, working: int, node: int | None, held: str) -> str:
    # A container without a limit is killed when the node, or a cgroup above it, runs out.
    why = "The container has no memory limit of its own: the node, or a cgroup above, ran out of memory."
    if not figure:
        return (
            f"{why} Set resources: {{requests: {{memory: …}}, limits: {{memory: …}}}} on Triton's container{held}, a "
            "quarter above its peak under load, so that the node keeps that much for it."
        )
    wanted = rounded(figure)
    less = rounded(working)
    if node is not None and wanted >= node > less:
        return (
            f"{why} The container's peak of {size_of(figure)}, of the node's {size_of(node)}, counts the files that it "
            f"read; without them {size_of(working)} was seen{held}. Set {reserved_line(less)} on Triton's container if "
            f"it serves with that, else take a larger node and set {reserved_line(wanted)}, or give the model fewer "
            "instances or smaller batches."
        )
    if node is not None and wanted >= node:
        return (
            f"{why} The container had held up to {size_of(figure)} of the node's {size_of(node)}{held}: take a larger "
            f"node and set {reserved_line(wanted)}, or give the model fewer instances or smaller batches."
        )
    return (
        f"{why} Set {reserved_line(wanted)} or more on Triton's container, which was seen to hold up to "
        f"{size_of(figure)}{held}, so that the node keeps that much for it."
    )


def _unseen(before: Scene | None, limit: float) -> str:
    held = _held(before)
    if before is None or held is None or held >= _NEAR * limit:
        return ""
    return (
        f" It held {size_of(held)} when it was last looked at: what it wanted on top came between two looks, and "
        "nobody saw how much. Look again under the new limit."
    )
