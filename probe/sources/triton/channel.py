"""The gRPC channel to Triton: how it connects, again after a restart, and with which credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio

from probe.settings import TritonSettings

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A proxy from the environment must never stand between a sidecar and its own pod.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # 10,000 models make a statistics answer of about 1 MB; the default limit is 4 MB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A restarted Triton must be seen within a second, not after the default back-off of up to 120 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def open_channel(settings: TritonSettings) -> grpc.aio.Channel:
    """A channel that connects with its first call.  Raises OSError for a TLS file that can not be read."""
    # The C core would write of each failed handshake to stderr, between the lines of our own log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    tls = settings.tls
    if not tls.active:
        return grpc.aio.insecure_channel(settings.grpc, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_bytes_of(tls.ca),
        private_key=_bytes_of(tls.key),
        certificate_chain=_bytes_of(tls.cert),
    )
    name = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return grpc.aio.secure_channel(settings.grpc, credentials, options=(*_OPTIONS, *name))


def _bytes_of(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str | bytes], ...]:
    """The headers as gRPC wants them: names in lower case, bytes for a name that ends in ``-bin``."""
    named = ((name.lower(), value) for name, value in headers.items())
    return tuple((name, value.encode() if name.endswith("-bin") else value) for name, value in named)
