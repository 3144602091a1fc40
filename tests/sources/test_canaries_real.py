"""Canaries to the real tritonserver: every datatype, sequences, streams, and what Triton counts of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from probe.facts.canaries import CanaryOrder, CanaryOrigin, CanaryOutcome, CanaryResult
from probe.facts.models import ModelStatistics
from probe.sandbox.pods import Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from probe.settings import TritonSettings
from probe.sources.triton.source import TritonSource
from testbed.tools import PATIENCE
from tests.worlds import key

PASSED, ERROR, TIMEOUT, WRONG, UNSENDABLE = CanaryOutcome
TYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING"),
)
"""Those that the python backend can give back; BF16 it can not (2.51)."""

ECHO_ALL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                output_tensors=[pb_utils.Tensor("O_" + each.name(), each.as_numpy()) for each in request.inputs()]
            )
            for request in requests
        ]
"""

STREAM = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            sender = request.get_response_sender()
            for each in range(int(values[0])):
                sender.send(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", values)]))
            if values[0] == 2:
                failed = pb_utils.TritonError("this stream broke")
                sender.send(pb_utils.InferenceResponse(output_tensors=[], error=failed))
            if values[0] == 3:
                time.sleep(4)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

SEQUENCE = """
sequence_batching {{ control_input [
  {{ name: "START" control [{{ kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] }}] }},
  {{ name: "ID" control [{{ kind: CONTROL_SEQUENCE_CORRID data_type: {kind} }}] }}
] }}
"""


def _every_type(repository: Repository) -> None:
    folder = repository.path / "types"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(ECHO_ALL)
    inputs = ", ".join(f'{{ name: "{each}" data_type: TYPE_{each} dims: [-1, 2] }}' for each in TYPES)
    outputs = ", ".join(f'{{ name: "O_{each}" data_type: TYPE_{each} dims: [-1, 2] }}' for each in TYPES)
    (folder / "config.pbtxt").write_text(
        f'backend: "python"\ninput [{inputs}]\noutput [{outputs}]\ninstance_group [{{ kind: KIND_CPU }}]\n'
    )


@pytest.fixture(scope="module")
def server(
    pods_work: None, triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """One Triton for all."""
    folder = tmp_path_factory.mktemp("canaries")
    repository = Repository(folder / "models")
    _every_type(repository)
    decoupled = "model_transaction_policy { decoupled: True }"
    (
        repository.add_echo(kind="KIND_CPU")
        .add_raise("raises", kind="KIND_CPU")
        .add_echo("slow", kind="KIND_CPU", parameters={"execute_seconds": "2.0"})
        .add_python("stream", kind="KIND_CPU", source=STREAM, more=decoupled)
        .add_echo("numbered", kind="KIND_CPU", max_batch_size=1, more=SEQUENCE.format(kind="TYPE_INT32"))
        .add_echo("named", kind="KIND_CPU", max_batch_size=1, more=SEQUENCE.format(kind="TYPE_STRING"))
        .add_ensemble("through_stream", steps=("stream", "echo"))
        .add_ensemble("broken", steps=("echo", "raises"))
        .add_ensemble("twice", steps=("echo", "echo"))
    )
    with Pod.open() as pod:
        started = TritonServer(pod, triton_installation, repository.path, log=folder / "triton.log")
        yield started.wait_live()


@pytest.fixture
async def source(server: TritonServer) -> AsyncIterator[TritonSource]:
    """A source for it."""
    settings = TritonSettings(grpc=server.grpc, http=server.http, metrics=server.metrics, timeout=20.0)
    opened = TritonSource(settings)
    yield opened
    await opened.close()


def order(name: str, *origins: CanaryOrigin, **more: Any) -> CanaryOrder:  # noqa: ANN401
    """A canary with one value above 0."""
    told = {"inputs": {"INPUT": [1.0]}, "deadline": 30.0, **more}
    return CanaryOrder(key(name), origins or (CanaryOrigin.INPUTS,), **told)


def ended(result: CanaryResult | None) -> tuple[CanaryOutcome, str]:
    """Its outcome and detail."""
    assert result is not None
    return result.outcome, result.detail


async def test_every_datatype_goes_and_comes_back(source: TritonSource) -> None:
    """Given, and made up; what differs is found in each."""
    given: dict[str, Any] = {
        "BOOL": [[True, False]],
        "STRING": [["", "grüße"]],
        **{each: [[0, 1]] for each in TYPES if "INT" in each},
        **{each: [[-0.5, 2]] for each in TYPES if each.startswith("FP")},
    }
    expected = {f"O_{name}": value for name, value in given.items()}
    assert ended(await source.canary(order("types", inputs=given, expected=expected))) == (PASSED, "")
    made_up = order(
        "types", CanaryOrigin.GENERATED, inputs={}, expected={"O_INT8": [[0, 0]], "O_STRING": [["", ""]]}
    )
    assert ended(await source.canary(made_up)) == (PASSED, "")
    for name, value in (
        ("BOOL", [[True, True]]),
        ("STRING", [["", "x"]]),
        ("UINT64", [[0, 2]]),
        ("FP16", [[0, 2]]),
    ):
        outcome, detail = ended(
            await source.canary(order("types", inputs=given, expected={f"O_{name}": value}))
        )
        assert outcome is WRONG
        assert f"the output O_{name} is " in detail


async def test_a_sequence_model_gets_a_whole_sequence(source: TritonSource) -> None:
    """Begun and ended by one request; two of them do not meet."""
    for _ in range(3):
        assert ended(await source.canary(order("numbered", expected={"OUTPUT": [1.0]}))) == (PASSED, "")


async def test_a_sequence_by_name_is_refused_by_triton_itself(source: TritonSource) -> None:
    """Release 24.10 takes no string as a correlation id, whatever its length: that is told, and fails nothing."""
    outcome, detail = ended(await source.canary(order("named")))
    assert outcome is UNSENDABLE
    assert "unexpected number of string elements" in detail


async def test_a_stream_is_read_to_its_end(source: TritonSource) -> None:
    """Its error is told although a good response came first, and its silence too."""
    one = {"INPUT": [1.0]}
    assert ended(await source.canary(order("stream", inputs=one, expected={"OUTPUT": [1.0]}))) == (PASSED, "")
    none = await source.canary(order("stream", inputs={"INPUT": [0.0]}))
    assert ended(none) == (WRONG, "the stream ended without any response")
    assert ended(await source.canary(order("stream", inputs={"INPUT": [2.0]}))) == (
        ERROR,
        "this stream broke",
    )
    late = await source.canary(order("stream", inputs={"INPUT": [3.0]}, deadline=1.5))
    assert ended(late) == (TIMEOUT, "3 responses and no end within 1.5 s")


async def test_an_ensemble_over_a_stream_is_one(source: TritonSource) -> None:
    """Triton resolves it as decoupled."""
    assert ended(await source.canary(order("through_stream", expected={"OUTPUT": [1.0]}))) == (PASSED, "")


Counts = dict[str, tuple[int, int]]


async def counts(source: TritonSource) -> Counts:
    """Successes and failures of every model."""
    rows: tuple[ModelStatistics, ...] = (await source.poll()).statistics or ()
    return {each.key.name: (each.success, each.failure) for each in rows}


async def moved(source: TritonSource, before: Counts, wanted: Counts) -> Counts:
    """What was counted since, once it is what is wanted (Triton may count a moment after it answered)."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = await counts(source)
        found = {
            name: (now[name][0] - before[name][0], now[name][1] - before[name][1])
            for name in now
            if now[name] != before[name]
        }
        if found == wanted or time.monotonic() > deadline:
            return found


@pytest.mark.parametrize(
    ("name", "outcome", "wanted"),
    [
        ("echo", PASSED, {"echo": (1, 0)}),
        ("raises", ERROR, {"raises": (0, 1)}),
        ("twice", PASSED, {"twice": (1, 0), "echo": (2, 0)}),
        ("broken", ERROR, {"broken": (0, 2), "echo": (1, 0), "raises": (0, 1)}),
        ("stream", PASSED, {"stream": (1, 0)}),
        ("slow", TIMEOUT, {"slow": (1, 0)}),
    ],
)
async def test_triton_counts_a_canary_as_the_ledger_supposes(
    source: TritonSource, name: str, outcome: CanaryOutcome, wanted: Counts
) -> None:
    """Whoever discounts must know what is counted: here it is, also of one that nobody waits for any more."""
    await moved(source, await counts(source), {})
    before = await counts(source)
    assert ended(await source.canary(order(name, deadline=1.0 if name == "slow" else 30.0)))[0] is outcome
    assert await moved(source, before, wanted) == wanted
