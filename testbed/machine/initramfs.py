"""What the machine's kernel unpacks at boot: a busybox, the modules that it needs, and what its root is made of."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p")
"""What must work before anything else does; what these need themselves is found in them."""

_INIT = Path(__file__).with_name("init.sh")
_DEPENDS = re.compile(rb"(?:\A|\0)depends=([^\0]*)\0")
_FOLDERS = ("bin", "dev", "modules", "new", "proc", "sys")


class LayoutError(Exception):
    """The kernel at hand can not be booted this way; the message says what it lacks."""


class Share(msgspec.Struct, frozen=True):
    """A folder of this machine that the other one mounts at the same path."""

    tag: str
    path: Path


def initramfs(tools: Path, shares: Sequence[Share], links: Sequence[tuple[str, str]], script: str) -> bytes:
    """The archive, for the kernel and busybox in ``tools``; ``script`` goes on when the root is laid out.

    ``links`` are symbolic links, target and path.  Raises :class:`LayoutError`, or OSError where ``tools`` is
    not whole.
    """
    modules = list(_ordered(tools))
    return b"".join(
        (
            *(_entry(number, name, stat.S_IFDIR | 0o755) for number, name in enumerate(_FOLDERS, 1)),
            _file("init", _INIT.read_bytes()),
            _file("bin/busybox", (tools / "busybox").read_bytes()),
            _file("shares", _lines((each.tag, str(each.path)) for each in shares)),
            _file("links", _lines(links)),
            _file("next", script.encode()),
            _file("modules/order", _lines((each.name,) for each in modules)),
            *(_file(f"modules/{each.name}", each.read_bytes()) for each in modules),
            _entry(0, "TRAILER!!!", 0),
        )
    )


def _ordered(tools: Path) -> Iterator[Path]:
    """The modules' files, each after those that it needs."""
    there = {_plain(each.name): each for each in (tools / "kernel").rglob("*.ko")}
    builtin = {_plain(Path(line).name) for line in (tools / "modules.builtin").read_text().splitlines()}
    wanted, done = list(MODULES), set(builtin)
    while wanted:
        name = wanted[0]
        if name in done:
            wanted.pop(0)
            continue
        if name not in there:
            raise LayoutError(
                f"this kernel has no module {name!r} that can be read; remove {tools} and set up again"
            )
        needs = _DEPENDS.search(there[name].read_bytes())
        names = [_plain(each.decode()) for each in needs[1].split(b",") if each] if needs else []
        if missing := [each for each in names if each not in done]:
            wanted[:0] = missing
            continue
        done.add(name)
        yield there[name]


def _plain(name: str) -> str:
    return name.removesuffix(".ko").replace("-", "_")


def _lines(rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> bytes:
    return "".join(" ".join(row) + "\n" for row in rows).encode()


def _file(name: str, content: bytes) -> bytes:
    return _entry(0, name, stat.S_IFREG | 0o755, content)


def _entry(number: int, name: str, mode: int, content: bytes = b"") -> bytes:
    """One entry in cpio's ``newc`` form, the only one that Linux unpacks (initramfs/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
