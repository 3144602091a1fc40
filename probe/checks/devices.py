"""Is each model on the GPUs that it may be on, and on as many as it was declared for?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from probe.checks import outside, policies
from probe.checks.config_files import config_file, group_line
from probe.checks.coverage import allows, visible
from probe.checks.expectations import expectation
from probe.checks.observation import Observation
from probe.checks.outside import BARE_CONTEXT_BYTES, Use
from probe.facts.findings import Claim, Subject, SubjectKind
from probe.facts.models import InstanceKind, ModelConfig
from probe.facts.nvml import Gpu, NvmlReading
from probe.facts.placement import EvidenceMode
from probe.ledgers.models import ModelRecord


def judge(seen: Observation) -> Iterator[Claim]:
    """The claims on every ready model with processes of its own, where lists show all GPUs that Triton has.

    Where a GPU is hidden, a process may hold there what makes all that is seen of it a bare context.
    """
    good = seen.book.evidence.good
    if not seen.watching or good is None or seen.gap is not None:
        return
    for record in seen.records():
        config = record.config
        if not record.ready or config is None or not seen.book.stubs.of(record.key):
            continue
        # Who wrote "any" does not care for what the groups say, but for the GPUs that are named for the model.
        indifferent = expectation(seen, record, config).indifferent
        if not indifferent or policies.named_gpus(seen, config) is not None:
            yield from _wrong(seen, record, config, good)
        if not indifferent:
            yield from _skewed(seen, record, config, good)


def _wrong(seen: Observation, record: ModelRecord, config: ModelConfig, good: NvmlReading) -> Iterator[Claim]:
    allowed = policies.allowed_gpus(seen, config)
    if allowed is None:
        return
    by_uuid = {gpu.uuid: gpu for gpu in good.gpus}
    settled = outside.all_exercised(seen, record, config)
    wrong: dict[int, tuple[str, ...]] = {}
    uses = [outside.use_of(seen, each.stub).working for each in seen.book.stubs.of(record.key)]
    for use in uses:
        found = {pid: _stray(seen, on, allowed.gpus, by_uuid) for pid, on in use.items()}
        # A stub's bare context above the worker that is where it may be is nothing wrong, nor the other way round.
        excused = not settled or not all(found.values())
        for pid, on in use.items():
            if found[pid] and not (excused and outside.held(on) <= BARE_CONTEXT_BYTES):
                wrong[pid] = found[pid]
    if not wrong:
        return
    strayed = sorted({uuid for each in wrong.values() for uuid in each})
    yield Claim(
        "WrongGpu",
        _subject(record),
        f"{len(wrong)} of the {sum(map(len, uses))} processes that the model has on a GPU run on {', '.join(strayed)}, "
        f"and it may run on {', '.join(allowed.gpus)} alone ({allowed.by}).",
        _wrong_remedy(seen, record, config, allowed, good),
        good.observed,
        {
            "allowed": ",".join(allowed.gpus),
            "allowed_by": allowed.by,
            "found": ",".join(strayed),
            "pids": " ".join(map(str, sorted(wrong))),
            "mode": seen.book.evidence.evidence.mode.value,
        },
    )


def _stray(
    seen: Observation, on: Mapping[str, int | None], allowed: tuple[str, ...], gpus: dict[str, Gpu]
) -> tuple[str, ...]:
    # Beside the GPU that it works with, a process may have a bare context on another: with figures the GPU with
    # the most decides, without them any that is allowed excuses the rest.
    main = outside.main_of(on) if seen.book.evidence.evidence.mode is EvidenceMode.FULL else None
    decisive = tuple(sorted(on)) if main is None else (main,)
    fits = any(allows(named, gpus[uuid]) for uuid in decisive for named in allowed)
    return () if fits else decisive


def _wrong_remedy(
    seen: Observation, record: ModelRecord, config: ModelConfig, allowed: policies.Allowed, good: NvmlReading
) -> str:
    here = [gpu for gpu in good.gpus if any(allows(named, gpu) for named in allowed.gpus)]
    if not here:
        return (
            f"None of these GPUs is in this machine's list (nvidia-smi -L): correct {allowed.by}, or schedule the pod "
            "where they are."
        )
    code = "have the model's code use args['model_instance_device_id'] (e.g. .to(f'cuda:{device_id}'))"
    shown = visible(seen.book.server.server, good.gpus)
    ordinals = [index for index, gpu in enumerate(shown or ()) if gpu in here]
    count = max(1, max((group.count for group in config.groups), default=1))
    if ordinals:
        return f"Write in {config_file(seen, record)}: {group_line(InstanceKind.GPU, count, ordinals)}, and {code}."
    return (
        f"Name the GPU in the instance_group of {config_file(seen, record)} (gpus: [ N ], where N counts as CUDA does "
        f"in Triton's container; with CUDA_VISIBLE_DEVICES set to UUIDs, in their order), and {code}."
    )


def _skewed(
    seen: Observation, record: ModelRecord, config: ModelConfig, good: NvmlReading
) -> Iterator[Claim]:
    ordinals = policies.declared_ordinals(config)
    groups = {group.name: group for group in config.groups if group.kind is InstanceKind.GPU}
    uses = [
        outside.use_of(seen, each.stub)
        for each in seen.book.stubs.of(record.key)
        if each.stub.arguments.name.rpartition("_")[0] in groups
    ]
    complete = len(uses) == sum(group.instances for group in groups.values())
    if len(ordinals) < 2 or not complete or not any(use.gpus for use in uses):  # noqa: PLR2004
        return
    found = _found(seen, uses)
    if found is None or len(found) >= len(ordinals):
        return
    absent = sum(not use.gpus for use in uses)
    if outside.all_exercised(seen, record, config):
        if absent and seen.strays:
            return
    elif not all(_settled(use) for use in uses):
        return
    yield Claim(
        "PlacementSkewed",
        _subject(record),
        f"The model is declared over {len(ordinals)} GPUs, and its {len(uses)} stub processes are on {len(found)}: "
        f"{', '.join(sorted(found))}{f', and {absent} of them on none' if absent else ''}.",
        "Make the model's code use the device that Triton gives it: args['model_instance_device_id'] in initialize(), "
        "e.g. .to(f'cuda:{device_id}'); a bare 'cuda' is GPU 0 for every instance.",
        good.observed,
        {
            "declared_ordinals": ",".join(map(str, ordinals)),
            "found": ",".join(sorted(found)),
            "stubs": len(uses),
            "stubs_on_none": absent,
            "mode": seen.book.evidence.evidence.mode.value,
        },
    )


def _found(seen: Observation, uses: list[Use]) -> frozenset[str] | None:
    if seen.book.evidence.evidence.mode is not EvidenceMode.FULL:
        return frozenset[str]().union(*(use.gpus for use in uses))
    mains = [use.main for use in uses]
    return None if None in mains else frozenset(uuid for each in mains for uuid in each or ())


def _settled(use: Use) -> bool:
    return sum(use.memory.values()) > BARE_CONTEXT_BYTES


def _subject(record: ModelRecord) -> Subject:
    return Subject(SubjectKind.MODEL, model=record.key.name, version=record.key.version)
