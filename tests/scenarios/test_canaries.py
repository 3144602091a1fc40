"""Canaries: what the probe sends to models that nobody asks, and what it says of their answers."""

from __future__ import annotations

import re
import struct
import threading
import time
from collections.abc import Callable

from probe.facts.findings import Action, Severity
from probe.facts.gates import Gate
from probe.facts.status import CanaryStatus, ModelStatus
from probe.sandbox.daemon import CLOSED, OPEN, Daemon
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from tests.scenarios.conftest import StartDaemon

StartTriton = Callable[..., TritonServer]

NONE = CanaryStatus(None, 0.0, None, None)

DECOUPLED = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            sender = request.get_response_sender()
            for each in values:
                output = pb_utils.Tensor("OUTPUT", values[:1] * 0 + each)
                sender.send(pb_utils.InferenceResponse(output_tensors=[output]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
"""Answers a response for each value that it was asked."""

DECOUPLING = "model_transaction_policy { decoupled: True }"


def warmup(how: str) -> str:
    """A warmup of two values, zeros or whatever ``how`` says."""
    return (
        'model_warmup { name: "sample" batch_size: 1 inputs { key: "INPUT" value '
        f"{{ data_type: TYPE_FP32 dims: [2] {how} }} }} }}"
    )


def model(probe: Daemon, name: str) -> ModelStatus:
    """What ``/status`` says of it."""
    return next(each for each in probe.status().models if each.name == name)


def canary(probe: Daemon, name: str) -> CanaryStatus:
    """Its first canary, once it was sent."""
    return probe.wait_until(f"a canary of {name}", lambda: model(probe, name).canary)


def sent(probe: Daemon, name: str) -> int:
    """How many canaries of it came to their end."""
    page = probe.ask("/metrics").body
    found = re.search(
        rf'^triton_probe_canary_duration_seconds_count{{model="{name}"}} (\d+)', page, re.MULTILINE
    )
    assert found is not None, f"no series of canaries for {name}"
    return int(found[1])


def test_models_that_work_pass_and_their_traffic_stays_theirs(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Given inputs, a warmup of zeros and one of a file, generated ones, an ensemble, and a decoupled model."""
    (
        repository.add_echo(kind="KIND_CPU")
        .add_echo("zeros", kind="KIND_CPU", more=warmup("zero_data: true"))
        .add_echo(
            "file",
            kind="KIND_CPU",
            parameters={"triton_probe.canary": "warmup"},
            more=warmup('input_data_file: "raw"'),
        )
        .add_echo(
            "made_up", kind="KIND_CPU", max_batch_size=4, parameters={"triton_probe.canary": "generate"}
        )
        .add_echo("off", kind="KIND_CPU", parameters={"triton_probe.canary": "off"})
        .add_echo("nobody", kind="KIND_CPU")
        .add_ensemble("pipeline", steps=("echo", "echo"))
        .add_python("stream", kind="KIND_CPU", source=DECOUPLED, more=DECOUPLING)
    )
    folder = repository.path / "file" / "warmup"
    folder.mkdir()
    (folder / "raw").write_bytes(struct.pack("<2f", 1.5, -2.0))
    server = triton().wait_ready()
    probe = daemon(
        server,
        settings=(
            "interval: 1s\n"
            "canary:\n"
            "  echo: {inputs: {INPUT: [1.0, 2.5]}, expected: {OUTPUT: [1.0, 2.5001]}, idle: 1s}\n"
            "  zeros: {idle: 1s, expected: {OUTPUT: [0, 0]}}\n"
            "  file: {idle: 1s, expected: {OUTPUT: [1.5, -2.0]}}\n"
            "  made_up: {idle: 1s}\n"
            "  off: {idle: 1s, inputs: {INPUT: [1.0]}}\n"
            "  pipeline: {idle: 1s, inputs: {INPUT: [3.0]}, expected: {OUTPUT: [3.0]}}\n"
            "  stream: {idle: 1s, inputs: {INPUT: [1.0, 2.0, 3.0]}, expected: {OUTPUT: [1.0, 2.0, 3.0]}}\n"
        ),
    )
    probe.wait_code("/readyz", OPEN)
    for name in ("echo", "zeros", "file", "made_up", "pipeline", "stream"):
        told = canary(probe, name)
        assert (name, told.ok, told.error) == (name, True, None)
        assert sent(probe, name) >= 1
    probe.wait_until("the second canary of echo", lambda: sent(probe, "echo") >= 2)
    assert model(probe, "off").canary is None
    assert model(probe, "nobody").canary is None
    assert probe.finding("CanaryFailed") is None
    # Triton counts after it has answered: two canaries of its own, and twice in the ensemble's.
    probe.wait_until(
        "Triton to count them",
        lambda: server.client.statistics("echo")["inference_stats"]["success"]["count"] >= 4,
    )
    # Two of the samples are Triton's own, which warmed the models up before the probe came.
    figures = {
        each.name: (each.traffic.success_total, each.traffic.failure_total) for each in probe.status().models
    }
    assert figures == {
        "echo": (0, 0),
        "zeros": (1, 0),
        "file": (1, 0),
        "made_up": (0, 0),
        "off": (0, 0),
        "nobody": (0, 0),
        "pipeline": (0, 0),
        "stream": (0, 0),
    }
    assert model(probe, "echo").traffic.last_success_seconds_ago is None
    server.client.infer("echo", (1.0,))
    probe.wait_until("the one request", lambda: model(probe, "echo").traffic.success_total == 1)
    assert 'triton_probe_canary_failures_total{model="echo"} 0' in probe.ask("/metrics").body


def test_each_way_to_fail_is_told_with_its_cure(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """A model that raises and one that answers wrongly close ready; what can not be sent closes nothing."""
    (
        repository.add_raise("raises", kind="KIND_CPU")
        .add_echo("wrong", kind="KIND_CPU")
        .add_echo("mistyped", kind="KIND_CPU")
        .add_echo("without", kind="KIND_CPU")
        .add_echo("misspelt", kind="KIND_CPU", parameters={"triton_probe.canary": "warmpu"})
    )
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(
        server,
        settings=(
            "interval: 1s\n"
            "canary:\n"
            "  raises: {inputs: {INPUT: [1.0]}, idle: 1s}\n"
            "  wrong: {inputs: {INPUT: [1.0, 2.0]}, expected: {OUTPUT: [1.0, 2.1]}, idle: 1s}\n"
            "  mistyped: {inputs: {INPTU: [1.0]}, idle: 1s}\n"
            "  without: {idle: 1s}\n"
            "  misspelt: {idle: 1s}\n"
            "  ehco: {}\n"
        ),
    )
    raised = probe.wait_finding("CanaryFailed", "raises")
    assert "RuntimeError: this sample model always fails" in raised.message
    assert raised.severity is Severity.CRITICAL
    wrong = probe.wait_finding("CanaryFailed", "wrong")
    assert "the output OUTPUT is 2 in value 2 of 2, expected 2.1" in wrong.message
    told = {}
    for name in ("mistyped", "without", "misspelt", "ehco"):
        finding = probe.wait_finding("CanaryFailed", name)
        told[name] = finding.message
        assert (finding.severity, finding.action) == (Severity.WARNING, Action.CHECK_CONFIG)
        assert (finding.gates, finding.pending) == ((), ())
    assert (
        "canary.mistyped.inputs.INPTU: the model has no such input, did you mean INPUT?" in told["mistyped"]
    )
    assert "the model has no model_warmup, expected canary.without.inputs" in told["without"]
    assert "found 'warmpu', expected warmup, generate or off" in told["misspelt"]
    assert "canary.ehco names a model that Triton's repository does not have" in told["ehco"]
    body = probe.wait_code("/readyz", CLOSED).body
    probe.wait_until("both", lambda: "CanaryFailed wrong/1" in probe.ask("/readyz").body)
    assert "CanaryFailed raises/1" in probe.ask("/readyz").body
    assert "mistyped" not in body
    assert probe.ask("/livez").code == OPEN
    assert probe.ask("/readyz?exclude=CanaryFailed").code == OPEN
    for name in ("raises", "wrong"):
        assert model(probe, name).traffic.failure_total == 0
        assert model(probe, name).traffic.success_total == 0
    assert not re.search(
        r'canary_failures_total{model="raises"} [01]$', probe.ask("/metrics").body, re.MULTILINE
    )
    assert sent(probe, "mistyped") == 0

    repository.add_echo("raises", kind="KIND_CPU")
    server.client.load("raises")
    probe.wait_clear("CanaryFailed", "raises")
    probe.wait_until("a canary of the new load", lambda: (model(probe, "raises").canary or NONE).ok)


def test_a_model_that_hangs_without_any_traffic_closes_ready_and_a_reload_opens_it(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """Triton says ready, nothing is counted; two canaries time out, while polls go on as ever."""
    repository.add_hang("stuck", kind="KIND_CPU").add_echo("other", kind="KIND_CPU")
    server = triton(control_mode="explicit", load_models=("*",)).wait_ready()
    probe = daemon(
        server,
        settings=(
            "interval: 1s\n"
            "canary:\n"
            "  stuck: {inputs: {INPUT: [1.0]}, idle: 1s, deadline: 3s}\n"
            "  other: {inputs: {INPUT: [1.0]}, idle: 1s}\n"
        ),
    )
    probe.wait_code("/readyz", OPEN)
    closed = probe.wait_code("/readyz", CLOSED)
    assert "CanaryFailed stuck/1: A canary inference was not answered: no answer within 3 s" in closed.body
    assert server.client.server_ready()
    finding = probe.finding("CanaryFailed", "stuck")
    assert finding is not None
    assert finding.gates == (Gate.READY,)
    assert "/v2/repository/models/stuck/load" in finding.remedy
    assert "canary.stuck.deadline" in finding.remedy
    took = probe.status().probe.sources["triton"].duration_seconds
    assert took is not None
    assert took < 2.5, "a canary that is out delays no poll"
    assert canary(probe, "other").ok

    repository.add_echo("stuck", kind="KIND_CPU")
    server.client.load("stuck")
    probe.wait_clear("CanaryFailed", "stuck")
    probe.wait_code("/readyz", OPEN)


def test_under_traffic_no_canary_is_sent(
    triton: StartTriton, repository: Repository, daemon: StartDaemon
) -> None:
    """The requests themselves show that the model works; when they end, the canary comes."""
    repository.add_echo(kind="KIND_CPU")
    server = triton().wait_ready()
    asked = 0
    ended = threading.Event()

    def ask() -> None:
        nonlocal asked
        while not ended.wait(0.1):
            server.client.infer("echo", (1.0,))
            asked += 1

    traffic = threading.Thread(target=ask)
    traffic.start()
    try:
        probe = daemon(server, settings="interval: 1s\ncanary: {echo: {inputs: {INPUT: [1.0]}, idle: 4s}}\n")
        begun = time.monotonic()
        probe.wait_until("traffic for twice as long as it must be idle", lambda: time.monotonic() > begun + 8)
        assert sent(probe, "echo") == 0
        assert model(probe, "echo").canary is None
    finally:
        ended.set()
        traffic.join()
    assert canary(probe, "echo").ok
    assert model(probe, "echo").traffic.success_total == asked
