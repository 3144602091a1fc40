"""Where each model runs: what is declared, what policy expects, what can be observed.

Three things are told apart: *declared* (the resolved configuration), *expected* (policy), and *observed*
(process evidence), and what can not be observed here is never concluded.
"""

from __future__ import annotations

from probe.checks import inside, outside, policies
from probe.checks.expectations import (
    Expectation,
    declared,
    expectation,
    is_explicit,
    is_fallback_count,
    resolved_to_cpu,
)
from probe.checks.observation import Observation
from probe.facts.models import ModelConfig, ModelVersion
from probe.facts.placement import Expected, Observed, Placement, Verdict
from probe.ledgers.models import ModelRecord
from probe.settings import Policy

_DEPTH = 16


def placement_of(
    seen: Observation, record: ModelRecord, above: frozenset[ModelVersion] = frozenset()
) -> Placement:
    """The verdict on one model version, with its evidence in sentences.

    ``above``: the ensembles that led here, which are not followed again.
    """
    config = record.config
    if config is None:
        entry = seen.settings.placement.models.get(record.key.name)
        policy = (
            entry.device
            if entry is not None and entry.device is not None
            else seen.settings.placement.default
        )
        return Placement(
            Verdict.UNKNOWN,
            Expected.ANY if policy is Policy.AUTO else Expected(policy.value),
            None,
            None,
            (),
            None,
            ("Its configuration has not been read yet.",),
        )
    wanted = expectation(seen, record, config)
    if config.ensemble:
        return _of_ensemble(seen, config, wanted, above | {record.key})
    found = observed(seen, record, config)
    return Placement(
        found.verdict,
        wanted.expected,
        declared(config),
        is_explicit(config),
        found.gpus,
        found.gpu_memory_bytes,
        (*found.why, *words(seen, config, wanted)),
        found.memory_bytes_by_gpu,
    )


def words(seen: Observation, config: ModelConfig, wanted: Expectation) -> tuple[str, ...]:
    """What to know of what is declared and expected, in sentences, the expectation last."""
    said = [
        f"{each.parameter} {each.value!r} is not obeyed: it is not {each.expected}."
        for each in policies.mistakes(config)
    ]
    if is_fallback_count(config):
        said.append(
            f"Two CPU instances are what Triton makes of {config.backend} where it finds no usable GPU."
        )
    if resolved_to_cpu(config) and is_explicit(config) and seen.has_gpu:
        said.append("An instance_group written without a kind looks like KIND_CPU where Triton found no GPU.")
    if (allowed := policies.allowed_gpus(seen, config)) is not None:
        said.append(f"It may run on {', '.join(allowed.gpus)} ({allowed.by}).")
    least = policies.entry(seen, config).min_instances
    if least is not None and wanted.expected is not Expected.GPU:
        said.append(f"min_instances {least} means nothing: no GPU is expected.")
    return (*said, f"Expected: {wanted.by}.")


def observed(seen: Observation, record: ModelRecord, config: ModelConfig) -> Observed:
    """Where it was found, by its own processes where it has any."""
    if seen.book.stubs.of(record.key) or config.backend == "python":
        return outside.of_stubs(seen, record, config)
    return inside.of_server(seen, record, config)


def _of_ensemble(
    seen: Observation, config: ModelConfig, wanted: Expectation, above: frozenset[ModelVersion]
) -> Placement:
    verdicts = set()
    for step in dict.fromkeys(config.steps):
        record = seen.meant(step)
        if record is None or record.key in above or len(above) > _DEPTH:
            verdicts.add(Verdict.UNKNOWN)
        else:
            verdicts.add(placement_of(seen, record, above).verdict)
    if Verdict.UNKNOWN in verdicts or not verdicts:
        verdict = Verdict.UNKNOWN
    else:
        verdict = verdicts.pop() if len(verdicts) == 1 else Verdict.MIXED
    names = ", ".join(step.name for step in config.steps)
    return Placement(
        verdict, wanted.expected, "ensemble", None, (), None, (f"It runs where its steps run: {names}.",)
    )
