"""Ports that answer by the byte, for what neither the real Triton nor a scripted one would send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(talk: Talk) -> Iterator[str]:
    """Accept connections one after the other, let ``talk`` do what it likes with each; the address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    talk(connection)

    thread = threading.Thread(target=serve, name="listener")
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        thread.join()
        listener.close()
