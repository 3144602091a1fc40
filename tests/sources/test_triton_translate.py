"""The pure part of the Triton source: errors, messages and metrics pages become facts."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st

from probe.facts.models import DeviceMemory, InstanceGroup, InstanceKind, ModelState, ModelVersion
from probe.facts.triton import CallFailure, Failure, FailureReasons
from probe.sources.triton import translate
from probe.sources.triton.failures import DETAIL_LIMIT, classify, clipped, closed_while_connecting
from probe.sources.triton.http import http_headers, read_families, read_reasons
from probe.sources.triton.protos import messages

Code = grpc.StatusCode
_ALL = "failed to connect to all addresses; last error: "


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (Code.DEADLINE_EXCEEDED, "Stream removed (Deadline Exceeded)", Failure.TIMEOUT),
        (Code.UNIMPLEMENTED, "", Failure.UNIMPLEMENTED),
        (
            Code.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (67108865 vs. 67108864)",
            Failure.GARBAGE,
        ),
        (
            Code.UNAVAILABLE,
            "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
            Failure.RESTRICTED,
        ),
        (Code.UNAVAILABLE, "Server exiting", Failure.EXITING),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused",
            Failure.REFUSED,
        ),
        (
            Code.UNAVAILABLE,
            _ALL
            + "FAILED_PRECONDITION: unix:/a: connect failed: addr: unix:/a error: No such file or directory",
            Failure.REFUSED,
        ),
        (
            Code.UNAVAILABLE,
            "errors resolving certificate-tls.example:1: [field:hostname lookup error:address lookup failed]",
            Failure.REFUSED,
        ),
        (
            Code.UNAVAILABLE,
            "handshake.example:1: Failed to connect to remote host: Connection refused",
            Failure.REFUSED,
        ),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:127.0.0.1:1: connection attempt timed out before receiving SETTINGS frame",
            Failure.TIMEOUT,
        ),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:10.0.0.1:1: Failed to connect to remote host: Connection timed out",
            Failure.TIMEOUT,
        ),
        (
            Code.UNAVAILABLE,
            _ALL
            + "UNAVAILABLE: ipv4:127.0.0.1:1: Failed parsing HTTP/2 (Expected SETTINGS frame as the first)",
            Failure.GARBAGE,
        ),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: "
            "error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
            Failure.TLS,
        ),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:127.0.0.1:1: Failed to create security handshaker.",
            Failure.TLS,
        ),
        (
            Code.UNAVAILABLE,
            _ALL + "UNKNOWN: ipv4:127.0.0.1:1: Custom verification check failed with error: UNAUTHENTICATED: "
            "Hostname Verification Check failed.",
            Failure.TLS,
        ),
        (Code.UNAVAILABLE, _ALL + "UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", Failure.REFUSED),
        (Code.UNAVAILABLE, "recvmsg:Connection reset by peer", Failure.REFUSED),
        (Code.UNAVAILABLE, "something new", Failure.REFUSED),
        (Code.UNAVAILABLE, None, Failure.REFUSED),
        (Code.INTERNAL, "Exception deserializing response!", Failure.GARBAGE),
        (Code.UNKNOWN, "Received http2 header with status: 404 (HTTP status 404)", Failure.GARBAGE),
        (Code.INTERNAL, "CUDA error: an illegal memory access was encountered", Failure.ERROR),
        (Code.INVALID_ARGUMENT, "requested model 'm' is not available", Failure.ERROR),
        (Code.NOT_FOUND, "Request for unknown model: 'm' is not found", Failure.ERROR),
        (Code.CANCELLED, None, Failure.ERROR),
    ],
)
def test_each_error_has_its_cure(code: grpc.StatusCode, text: str | None, expected: Failure) -> None:
    """Texts as Triton 24.10 and grpcio 1.85 wrote them; a mark in an address misleads nobody."""
    assert classify(code, text) is expected


@given(st.sampled_from(list(Code)), st.none() | st.text())
def test_any_error_is_some_failure(code: grpc.StatusCode, text: str | None) -> None:
    """Whatever is in it."""
    assert classify(code, text) in Failure


@pytest.mark.parametrize(
    ("failure", "text", "expected"),
    [
        (Failure.REFUSED, _ALL + "UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", True),
        (Failure.REFUSED, _ALL + "UNAVAILABLE: recvmsg:Connection reset by peer", True),
        (Failure.REFUSED, "Socket closed", False),
        (Failure.REFUSED, _ALL + "Failed to connect to remote host: Connection refused", False),
        (Failure.TLS, _ALL + "Socket closed", False),
    ],
)
def test_a_connection_that_ends_before_it_begins_is_told_from_one_that_breaks(
    failure: Failure, text: str, *, expected: bool
) -> None:
    """Only the first may be a matter of TLS; a server that was killed closes the connections that it had."""
    assert closed_while_connecting(CallFailure("live", failure, text, 0.0)) is expected


@given(st.none() | st.text(max_size=2000))
@example("a\n\n\tb  c")
@example("\x00\x1b[31m" * 500)
@example("\ud800")
def test_a_foreign_text_is_one_printable_line(text: str | None) -> None:
    """Bounded, without control characters, and still the same words where it was harmless."""
    told = clipped(text)
    assert len(told) <= DETAIL_LIMIT
    assert told.isprintable()
    assert told == clipped(told)


def test_statistics_are_told_field_by_field() -> None:
    """Counts of requests, of batches, and nanoseconds are different fields that are easily confused."""
    duration = messages.StatisticDuration
    row = messages.ModelStatistics(
        name="m",
        version="3",
        last_inference=1700000000123,
        inference_count=40,
        execution_count=10,
        inference_stats=messages.InferStatistics(
            success=duration(count=39, ns=390),
            fail=duration(count=2, ns=20),
            queue=duration(count=99, ns=990),
            compute_infer=duration(count=38, ns=380),
        ),
        batch_stats=[
            messages.InferBatchStatistics(batch_size=1, compute_infer=duration(count=4, ns=200)),
            messages.InferBatchStatistics(batch_size=6, compute_infer=duration(count=6, ns=100)),
        ],
        memory_usage=[messages.MemoryUsage(type="GPU", id=1, byte_size=2**33)],
    )
    (told,) = translate.statistics(messages.ModelStatisticsResponse(model_stats=[row]))
    assert told.key == ModelVersion("m", "3")
    assert (told.success, told.failure, told.success_ns) == (39, 2, 390)
    assert (told.inferences, told.executions) == (40, 10)
    assert (told.compute_infer_count, told.compute_infer_ns) == (38, 380)
    assert told.batch_infer_ns == 300
    assert told.last_inference_ms == 1700000000123
    assert told.memory == (DeviceMemory("GPU", 1, 2**33),)
    assert translate.statistics(messages.ModelStatisticsResponse()) == ()


def config_message() -> Any:  # noqa: ANN401  (generated code has no types)
    """An empty configuration in its envelope, and the configuration."""
    envelope = messages.ModelConfigResponse()
    return envelope, envelope.config


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KIND_AUTO", InstanceKind.AUTO),
        ("KIND_GPU", InstanceKind.GPU),
        ("KIND_CPU", InstanceKind.CPU),
        ("KIND_MODEL", InstanceKind.MODEL),
    ],
)
def test_instance_kinds_are_those_of_the_protocol(name: str, kind: InstanceKind) -> None:
    """The numbers are the protocol's, checked by their names there."""
    envelope, config = config_message()
    config.name = "m"
    row = config.instance_group.add(name="m_0", count=2, gpus=[0, 3], passive=True)
    row.kind = type(row).Kind.Value(name)
    told = translate.config(envelope, "7")
    assert told.key == ModelVersion("m", "7")
    assert told.groups == (InstanceGroup("m_0", kind, 2, (0, 3), passive=True),)
    assert told.groups[0].instances == 4


def test_a_kind_that_is_not_known_yet_is_auto() -> None:
    """A later release may add one."""
    envelope, config = config_message()
    config.instance_group.add(name="g", count=1).kind = 99
    assert translate.config(envelope, "1").groups[0].kind is InstanceKind.AUTO


def test_a_configuration_is_told_whole() -> None:
    """Backend, platform, steps with their latest version, parameters, decoupled mode, file."""
    envelope, config = config_message()
    config.name, config.backend, config.platform = "m", "python", "ensemble"
    config.default_model_filename = "other.py"
    config.model_transaction_policy.decoupled = True
    config.parameters["b"].string_value = "2"
    config.parameters["a"].string_value = "1"
    config.ensemble_scheduling.step.add(model_name="x", model_version=-1)
    config.ensemble_scheduling.step.add(model_name="y", model_version=4)
    told = translate.config(envelope, "1")
    assert (told.backend, told.platform, told.default_file) == ("python", "ensemble", "other.py")
    assert told.decoupled
    assert told.ensemble
    assert told.parameters == (("a", "1"), ("b", "2"))
    assert told.parameter("b") == "2"
    assert told.parameter("c") is None
    assert told.steps == (ModelVersion("x", ""), ModelVersion("y", "4"))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("READY", ModelState.READY),
        ("LOADING", ModelState.LOADING),
        ("UNLOADING", ModelState.UNLOADING),
        ("UNAVAILABLE", ModelState.UNAVAILABLE),
        ("UNKNOWN", ModelState.UNKNOWN),
        ("", ModelState.UNKNOWN),
        ("ready", ModelState.UNKNOWN),
    ],
)
def test_states_of_the_index_are_told(state: str, expected: ModelState) -> None:
    """An empty state is a folder that was never loaded."""
    answer = messages.RepositoryIndexResponse()
    answer.models.add(name="m", version="1", state=state, reason="Internal: a\nb")
    (told,) = translate.index(answer)
    assert (told.key, told.state, told.reason) == (ModelVersion("m", "1"), expected, "Internal: a b")


def test_headers_lose_grpcs_prefix_over_http() -> None:
    """Triton wants one name over gRPC and another over HTTP, and ignores the case of both."""
    headers = {"triton-grpc-protocol-key": "a", "Triton-Grpc-Protocol-Other": "b", "X-Mine": "c"}
    assert http_headers(headers) == {"key": "a", "other": "b", "x-mine": "c"}


PENDING = "nv_inference_pending_request_count"
USED = "nv_gpu_memory_used_bytes"


@pytest.mark.parametrize(
    ("line", "pending"),
    [
        (f'{PENDING}{{model="m",version="1"}} 3', (("m", "1", 3),)),
        (f'{PENDING}{{version="1",namespace="n",model="m"}} 3.000000', (("m", "1", 3),)),
        (f'{PENDING}{{model="m"}} 1e3 1700000000000', (("m", "", 1000),)),
        (f'{PENDING}{{model="a\\"b\\\\c\\nd",version="1"}} 0', (('a"b\\c\nd', "1", 0),)),
        (f'{PENDING}{{model="}} {{",version="1"}} 0', (("} {", "1", 0),)),
        (f'{PENDING}{{version="1"}} 3', ()),
        (f'{PENDING}{{model="m",version="1"}}', ()),
        (f'{PENDING}{{model="m",version="1"}} many', ()),
        (f'{PENDING}{{model="m",version="1"}} NaN', ()),
        (f'{PENDING}{{model="m",version="1"}} +Inf', ()),
        (f'{PENDING}{{model="m",version="1"}} -1', ()),
        (f'{PENDING}{{model="m",version="1"}} 1e300', ()),
        (f"{PENDING} 3", ()),
        (f"{PENDING}{{", ()),
        (f'# {PENDING}{{model="m",version="1"}} 3', ()),
        (f'other_{PENDING}{{model="m",version="1"}} 3', ()),
        (f'{PENDING}_other{{model="m",version="1"}} 3', ()),
    ],
)
def test_a_line_of_metrics_is_a_figure_or_nothing(
    line: str, pending: tuple[tuple[str, str, int], ...]
) -> None:
    """Alone, after others, and before others."""
    expected = tuple((ModelVersion(model, version), figure) for model, version, figure in pending)
    gpu = f'{USED}{{gpu_uuid="GPU-1"}} 1048576.000000'
    for page in (line, f"# TYPE x gauge\n{line}\n{gpu}\n", f"{gpu}\n{line}"):
        told, used = read_families(page)
        assert told == expected
        assert used == ((("GPU-1", 1048576),) if gpu in page else ())


_PIECE = st.sampled_from(
    (
        PENDING,
        USED,
        "{",
        "}",
        "\n",
        'model="m"',
        ",",
        'gpu_uuid="',
        '"',
        "\\",
        " 1",
        " 1e999",
        "\x00",
        "9" * 400,
    )
)


@given(st.text() | st.lists(_PIECE, max_size=30).map("".join))
def test_any_page_is_read_without_an_error(page: str) -> None:
    """What is found are names and figures that every consumer can carry."""
    pending, used = read_families(page)
    for _, figure in (*pending, *used):
        assert 0 <= figure < 2**63
    for key, reasons in read_reasons(page, frozenset((ModelVersion("m", ""), ModelVersion("m", "1")))):
        assert key.name == "m"
        assert 0 <= reasons.other < 2**63


FAILURE = "nv_inference_request_failure"
_M1 = ModelVersion("m", "1")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("", ()),
        (f'{FAILURE}{{model="m",version="1"}} 3', ()),
        (f'{FAILURE}{{model="m",reason="BACKEND",version="1"}} 3', ((_M1, FailureReasons(other=3)),)),
        (f'{FAILURE}{{model="m",reason="BACKEND",version="2"}} 3', ()),
        (f'{FAILURE}{{model="n",reason="BACKEND",version="1"}} 3', ()),
        (f'{FAILURE}{{_model="m",model="n",reason="OTHER",version="1"}} 3', ()),
        (f'{FAILURE}{{reason="BACKEND",version="1"}} 3', ()),
        (
            (
                f'{FAILURE}{{model="m",reason="REJECTED",version="1"}} 1\n'
                f'{FAILURE}{{model="m",reason="CANCELED",version="1"}} 2\n'
                f'{FAILURE}{{model="m",reason="OTHER",version="1"}} 4\n'
                f'{FAILURE}{{gpu_uuid="GPU-1",model="m",reason="BACKEND",version="1"}} 8\n'
                f'{FAILURE}{{model="m",reason="BACKEND",version="1"}} 16\n'
            ),
            ((_M1, FailureReasons(rejected=1, canceled=2, other=28)),),
        ),
    ],
)
def test_why_requests_failed_is_summed_by_version(
    page: str, expected: tuple[tuple[ModelVersion, FailureReasons], ...]
) -> None:
    """Of those that are asked for; releases before the label say nothing of it."""
    assert read_reasons(page, frozenset((_M1,))) == expected
    assert read_reasons(page, frozenset()) == ()


def test_a_name_with_a_quote_is_found() -> None:
    """As Prometheus escapes it."""
    odd = ModelVersion('a"b\\c', "1")
    page = f'{FAILURE}{{model="a\\"b\\\\c",reason="OTHER",version="1"}} 3'
    assert read_reasons(page, frozenset((odd,))) == ((odd, FailureReasons(other=3)),)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("", 0.0),
        ("dynamic_batching { }", 0.0),
        ("dynamic_batching { max_queue_delay_microseconds: 500000 }", 0.5),
        ("sequence_batching { }", 1.0),
        ("sequence_batching { max_sequence_idle_microseconds: 60000000 }", 60.0),
        (
            "sequence_batching { max_sequence_idle_microseconds: 1000 oldest { max_queue_delay_microseconds: 2000 } }",
            0.002,
        ),
    ],
)
def test_how_long_triton_may_hold_a_request_back_is_told(written: str, seconds: float) -> None:
    """For a batch to fill, or for a sequence's slot."""
    answer = messages.ModelConfigResponse()
    text_format.Parse(written, answer.config)
    assert translate.config(answer, "1").held_back_seconds == seconds
    assert translate.config(answer, "1").sequences == ("sequence" in written)
