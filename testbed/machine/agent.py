"""Plays in the machine what it is asked for, and turns the machine off when nobody asks any more."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from testbed.machine.wire import HELLO, PORT, Answer, Call

_PORTS = Path("/sys/class/virtio-ports")
_REBOOT_NOW = 0x01234567  # LINUX_REBOOT_CMD_RESTART: the emulator was told not to start again


def main() -> None:
    """Until the other end closes; never returns."""
    try:
        with _port() as port:
            _say(port, HELLO)
            for line in _lines(port):
                _say(port, _played(line))
    except BaseException:  # noqa: BLE001  (whatever it was: on the console, and then off)
        traceback.print_exc()
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(_REBOOT_NOW)


def _played(line: bytes) -> Answer:
    try:
        call = msgspec.json.decode(line, type=Call)
        module, _, name = call.act.partition(":")
        told = getattr(importlib.import_module(module), name)(**call.arguments)
        return Answer(told=msgspec.Raw(msgspec.json.encode(told)))
    except Exception:  # noqa: BLE001  (told to who asked)
        return Answer(error=traceback.format_exc())


@contextlib.contextmanager
def _port() -> Iterator[int]:
    (name,) = (each.parent.name for each in _PORTS.glob("*/name") if each.read_text().strip() == PORT)
    port = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield port
    finally:
        os.close(port)


def _lines(port: int) -> Iterator[bytes]:
    """Lines as they come; the end is a read of nothing, which the port gives when the other end is closed."""
    rest = b""
    while piece := os.read(port, 65_536):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _say(port: int, answer: Answer) -> None:
    left = memoryview(msgspec.json.encode(answer) + b"\n")
    while left:
        left = left[os.write(port, left) :]


if __name__ == "__main__":
    main()
