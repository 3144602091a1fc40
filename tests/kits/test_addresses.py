from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.kits.addresses import parse_endpoint, parse_listen, split_host_port


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        ("triton.models.svc.cluster.local:8001", "triton.models.svc.cluster.local:8001"),
        ("[::1]:8001", "[::1]:8001"),
        ("[fe80::1%eth0]:8001", "[fe80::1%eth0]:8001"),
        ("unix:/run/triton.sock", "unix:/run/triton.sock"),
        ("unix:///run/triton.sock", "unix:/run/triton.sock"),
    ],
)
def test_an_endpoint_is_a_host_and_port_or_a_socket(text: str, plain: str) -> None:
    """Every form that gRPC and HTTP clients take, the socket's in one spelling."""
    assert parse_endpoint(text) == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found nothing"),
        ("8001", "expected host:port"),
        ("localhost", "expected host:port"),
        ("localhost:", "a port from 1 to 65535"),
        ("localhost:0", "a port from 1 to 65535"),
        ("localhost:65536", "a port from 1 to 65535"),
        ("localhost:-1", "a port from 1 to 65535"),
        ("localhost:http", "a port from 1 to 65535"),
        ("localhost:٨٠٠١", "a port from 1 to 65535"),
        ("http://localhost:8001", "without a scheme"),
        ("::1:8001", "an IPv6 address in brackets"),
        ("[::1:8001", "expected host:port"),
        ("[nonsense]:8001", "expected host:port"),
        ("300.0.0.1:8001", "expected host:port"),
        ("a b:8001", "expected host:port"),
        (":8001", "expected host:port"),
        ("unix:run/x.sock", "absolute"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    """Each mistake has its own advice."""
    with pytest.raises(ValueError, match=expected):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("[::]:8003", "[::]:8003"),
        (":8003", "[::]:8003"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("localhost:1", "localhost:1"),
    ],
)
def test_one_listens_on_a_host_and_port(text: str, plain: str) -> None:
    """Without a host it is every interface, and port 0 lets the kernel pick one."""
    assert parse_listen(text) == plain


def test_one_does_not_listen_on_a_socket_file() -> None:
    """The probe's own surface is for kubelets and scrapers, which speak TCP."""
    with pytest.raises(ValueError, match="expected a port"):
        parse_listen("unix:/run/x")


@given(st.ip_addresses(), st.integers(min_value=0, max_value=65535))
def test_every_ip_address_is_split_as_it_was_written(address: object, port: int) -> None:
    """IPv6 loses its brackets, as the socket functions want it."""
    host = f"[{address}]" if ":" in str(address) else str(address)

    assert split_host_port(parse_listen(f"{host}:{port}")) == (str(address), port)


def test_a_socket_file_has_no_port_to_split_off() -> None:
    """Asking for it is an error, not a guess."""
    with pytest.raises(ValueError, match="expected host:port"):
        split_host_port("unix:/run/x:1")
