"""Is Triton's ``/dev/shm`` nearly full, smaller than its stubs can need, or taken by what nobody owns?"""

from __future__ import annotations

from collections.abc import Iterator

from probe.checks.container.shm_needs import Need, need_of
from probe.checks.container.shm_remedies import INODES, removal, room, suggested_size
from probe.checks.load_failures import classify
from probe.checks.observation import Observation
from probe.facts.container import ShmFile, ShmLevel
from probe.facts.findings import CONTAINER, Action, Claim, Scalar
from probe.facts.models import ModelState
from probe.ledgers.shm import ShmLedger

_MIB = 1 << 20
_PLENTY = 64 * _MIB
"""Free bytes that are enough for stubs that hold less than these, however small a part of a huge file system."""
_FILLED = 0.75
"""From this part on, steps by which regions were seen to grow count: after a first request, a region may well have
all that it will ever need."""
_NAMED = 5
"""Regions that a message names."""
_MUCH = 4
"""What nobody owns is much where it is a quarter of the file system."""


def judge(seen: Observation) -> Iterator[Claim]:
    """One claim of each at most; none while no tritonserver is there whose ``/dev/shm`` it would be."""
    server, shm = seen.book.server, seen.book.shm
    if server.process is None or server.gone is not None or shm.level is None:
        return
    need = need_of(seen)
    if _pressed(shm.level, shm, need):
        yield _pressure(shm.level, shm, need)
    yield from _too_small(seen, shm.level, need)
    if shm.orphans:
        yield _leaked(shm.level, shm, need)


def _pressed(level: ShmLevel, shm: ShmLedger, need: Need) -> bool:
    # Any stub may be the next to grow.
    if level.free_bytes < need.step_bytes:
        return True
    if level.free_bytes < _largest_step(shm) and level.used_bytes >= _FILLED * level.size_bytes:
        return True
    regions = sum(each.held_bytes for each in shm.regions.values())
    few_bytes = level.free_bytes < max(_PLENTY, regions + need.growth_bytes)
    full = level.used_bytes * 10 >= level.size_bytes * 9
    return level.nearly_full and (few_bytes or not full)


def _largest_step(shm: ShmLedger) -> int:
    return max((each.step_bytes for each in shm.growths.values()), default=0)


def _pressure(level: ShmLevel, shm: ShmLedger, need: Need) -> Claim:
    wanted = suggested_size(max(need.total_bytes, level.used_bytes))
    inodes = level.used_bytes * 10 < level.size_bytes * 9 and level.nearly_full
    largest = max(shm.regions.values(), key=lambda each: each.held_bytes, default=None)
    told = [f"/dev/shm holds {_size(level.used_bytes)} of {_size(level.size_bytes)} ({_share(level):.0f} %)"]
    if inodes:
        told.append(f"{level.inodes_free} of {level.inodes_total} inodes are free")
    if need.step_bytes:
        told.append(
            f"{_size(level.free_bytes)} are free, and a stub's region grows by {_size(need.step_bytes)} at least: "
            "where that fails, so does the request"
        )
    if (step := _largest_step(shm)) > max(need.step_bytes, level.free_bytes):
        told.append(f"one has grown by {_size(step)} at once")
    if largest is not None:
        told.append(f"the largest region is {_named(shm, largest)}{_grown(shm, largest)}")
    if shm.others_bytes:
        told.append(f"{_size(shm.others_bytes)} are in files that are no stub's region")
    # More bytes bring no inodes, and there may be more than anybody needs.
    roomy = inodes and wanted <= level.size_bytes
    cures = [removal([each.name for each in shm.orphans])] if shm.orphans else []
    cures += [] if roomy else [room(wanted)]
    cures += [INODES] if inodes else []
    return Claim(
        "ShmPressure",
        CONTAINER,
        "; ".join(told) + ".",
        " ".join(cures),
        level.observed,
        {
            **_figures(level, shm),
            "growth_step_bytes": need.step_bytes,
            "growth_step_seen_bytes": _largest_step(shm),
            "largest_region": largest.name if largest is not None else None,
            "largest_region_bytes": largest.held_bytes if largest is not None else None,
            "suggested_bytes": None if roomy else wanted,
        },
    )


def _too_small(seen: Observation, level: ShmLevel, need: Need) -> Iterator[Claim]:
    shm = seen.book.shm
    failed = [
        str(each.key)
        for each in seen.records()
        if each.state is ModelState.UNAVAILABLE and classify(each.reason).cause == "shm_exhausted"
    ]
    short = need.total_bytes > level.size_bytes
    if not short and not failed:
        return
    told = [f"/dev/shm has {_size(level.size_bytes)}"]
    if short:
        stubs = need.stubs + need.missing
        lack = f", {need.missing} of them not there now," if need.missing else ""
        others = f", beside {_size(need.other_bytes)} that are no stub's" if need.other_bytes else ""
        told.append(
            f"{stubs} stub{'s' if stubs != 1 else ''} ({need.named}){lack} need {_size(need.total_bytes)} as soon as "
            f"each has grown once (by {_size(need.growth_bytes)} in all){others}. A region never shrinks"
        )
    if failed:
        most = f"; {_size(shm.peak.used_bytes)} were in use at most" if shm.peak is not None else ""
        told.append(f"{', '.join(failed)} could not be loaded for want of it{most}")
    wanted = suggested_size(max(need.total_bytes, level.size_bytes if failed else 0))
    yield Claim(
        "ShmTooSmall",
        CONTAINER,
        "; ".join(told) + ".",
        f"{room(wanted)} Or fewer instances (count in instance_group of the models' config.pbtxt).",
        level.observed,
        {
            **_figures(level, shm),
            "needed_bytes": need.total_bytes,
            "stubs": need.stubs,
            "stubs_missing": need.missing,
            "stub_bytes": need.held_bytes,
            "growth_bytes": need.growth_bytes,
            "other_bytes": need.other_bytes,
            "failed_loads": " ".join(failed) or None,
            "suggested_bytes": wanted,
        },
    )


def _leaked(level: ShmLevel, shm: ShmLedger, need: Need) -> Claim:
    left = shm.orphans
    held = sum(each.held_bytes for each in left)
    many = len(left) != 1
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    models = sorted({str(shm.owners[each.name].model) for each in left if each.name in shm.owners})
    # A few MiB that nobody needs are no reason to move a pod.
    pressing = held * _MUCH >= level.size_bytes or level.free_bytes < need.step_bytes
    return Claim(
        "ShmLeaked",
        CONTAINER,
        f"{len(left)} region{'s' if many else ''} in /dev/shm belong{'' if many else 's'} to no live process and "
        f"hold{'' if many else 's'} {_size(held)} of its {_size(level.size_bytes)}: "
        f"{', '.join(_named(shm, each) for each in left[:_NAMED])}{more}. A tritonserver that was killed, or left "
        "before its instances had ended, leaves them behind.",
        removal([each.name for each in left]),
        shm.looked or level.observed,
        {
            **_figures(level, shm),
            "leaked": len(left),
            "leaked_bytes": held,
            "names": " ".join(each.name for each in left[:_NAMED]),
            "models": " ".join(models) or None,
        },
        action=Action.RESCHEDULE_POD if pressing else Action.NONE,
    )


def _figures(level: ShmLevel, shm: ShmLedger) -> dict[str, Scalar]:
    listed = shm.use is not None and shm.use.files is not None
    return {
        "size_bytes": level.size_bytes,
        "used_bytes": level.used_bytes,
        "inodes_free": level.inodes_free,
        "peak_bytes": shm.peak.used_bytes if shm.peak is not None else None,
        "regions": len(shm.regions) if listed else None,
        "other_files": len(shm.files) - len(shm.regions) if listed else None,
        "other_files_bytes": shm.others_bytes if listed else None,
    }


def _named(shm: ShmLedger, file: ShmFile) -> str:
    owner = shm.owners.get(file.name)
    whose = f"{owner.model} {owner.instance}, " if owner is not None else ""
    return f"{file.name} ({whose}{_size(file.held_bytes)})"


def _grown(shm: ShmLedger, file: ShmFile) -> str:
    growth = shm.growths.get(file.name)
    if growth is None or growth.at is None:
        return ""
    return f", grown from {_size(growth.first_bytes)}"


def _share(level: ShmLevel) -> float:
    return 100 * level.used_bytes / level.size_bytes if level.size_bytes else 100.0


def _size(size: int) -> str:
    return f"{size / (1 << 30):.4g} GiB" if size >= 1 << 30 else f"{size / _MIB:.4g} MiB"
