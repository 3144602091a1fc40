"""Blocking connections to Triton's ports, with one deadline for everything that is read."""

from __future__ import annotations

import math
import socket
import ssl
import time
from typing import Any

from probe.kits.addresses import split_host_port


class BoundedSocket(socket.socket):
    """A socket whose reads share one deadline: an answer that drips would outlive a timeout for each."""

    until = math.inf

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ANN401
        """As of any socket; raises TimeoutError once the deadline has passed."""
        left = self.until - time.monotonic()
        if left <= 0:
            message = "the answer did not end within the timeout"
            raise TimeoutError(message)
        self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)


def connected(address: str, timeout: float) -> BoundedSocket:
    """A connection to ``host:port`` or ``unix:/path``, good for ``timeout`` seconds from now.

    No proxy of the environment comes between.  Raises OSError.
    """
    until = time.monotonic() + timeout
    if address.startswith("unix:"):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(timeout)
        try:
            plain.connect(address.removeprefix("unix:"))
        except OSError:
            plain.close()
            raise
    else:
        plain = socket.create_connection(split_host_port(address), timeout)
    # The timeout of a socket goes with its object, not with its descriptor.
    bounded = BoundedSocket(fileno=plain.detach())
    bounded.settimeout(timeout)
    bounded.until = until
    return bounded


def speaks_tls(address: str, timeout: float) -> bool:
    """Whether what listens there answers a TLS hello; blocking.

    No certificate is looked at and nothing is sent but the hello.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with connected(address, timeout) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # An alert is TLS too: the other side understood, and refuses (a version, a missing name).
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
