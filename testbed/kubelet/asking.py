"""One HTTP probe as the kubelet asks it (``pkg/probe/http``): what is 200 to 399 in time is a success."""

from __future__ import annotations

import http.client
import time

from testbed.kubelet.probing import Result

_MOST_BYTES = 10 * 1024
"""Of a body the kubelet reads no more."""


def ask(port: int, path: str, seconds: float) -> tuple[Result, str]:
    """``GET`` this path of 127.0.0.1; the result and what was said.

    What is refused, breaks off or takes longer is a failure, never an error.  A redirect is not followed.
    """
    deadline = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"User-Agent": "kube-probe", "Connection": "close"})
        if connection.sock is not None:
            connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES).decode(errors="replace").strip()
        if time.monotonic() > deadline:
            # What comes in pieces is in time for the socket each time, and late as a whole.
            return Result.FAILURE, "timed out"
    except (OSError, http.client.HTTPException) as error:
        return Result.FAILURE, str(error) or type(error).__name__
    finally:
        connection.close()
    good = http.client.OK <= answer.status < http.client.BAD_REQUEST
    return Result.SUCCESS if good else Result.FAILURE, f"{answer.status} {body}".rstrip()
