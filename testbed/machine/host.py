"""Boots the machine from this one, asks it for plays, and turns it off."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, get_type_hints

import msgspec

from probe.sandbox.wheel import sandbox_folder
from testbed.machine.initramfs import LayoutError, Share, initramfs
from testbed.machine.wire import PORT, Answer, Call

T = TypeVar("T")

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_TOOLS = _CHECKOUT / ".cache" / "tools" / "machine"
_COMPILED = _CHECKOUT / ".cache" / "machine" / "compiled"
_MEMORY_MIB = 2560
_SECONDS_TO_BOOT = 180.0
_SECONDS_TO_END = 10.0
# What an emulated processor pays dearly for and nobody here needs: mitigations, and addresses at random, for
# which the same code would be translated anew in each process.  Huge pages make a killed
# process's memory come back at once at its very end, in which time the kernel may choose another (see careless).
_KERNEL = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr norandmaps apparmor=0 transparent_hugepage=never"
)
_ACCELERATED = ("-accel", "kvm", "-cpu", "host")
# Enough for Triton and numpy; the more an emulated processor can, the slower it is (five levels of pages…).
_EMULATED = ("-accel", "tcg,thread=multi", "-cpu", "Nehalem")


class MachineError(Exception):
    """The machine can not be had, or a play failed in it; the message carries its own words."""


class ToolMissingError(MachineError):
    """This machine lacks what boots the other; the message says how it comes."""


class Machine:
    """A booted machine.  :meth:`close` it, or use it as a context manager."""

    def __init__(self, emulator: subprocess.Popen[bytes], wire: socket.socket, console: Path) -> None:
        self.processor = ""
        """What its processors are, by the emulator's option."""
        self._emulator = emulator
        self._wire = wire
        self._console = console
        self._rest = b""

    @classmethod
    def boot(cls, folder: Path) -> Self:
        """Boot one; ``folder`` gets what its kernel is given and what it writes on its console.

        Raises :class:`ToolMissingError`, or :class:`MachineError` where it does not come up.
        """
        emulator = shutil.which("qemu-system-x86_64")
        kernel = next(_TOOLS.glob("vmlinuz-*"), None)
        if emulator is None or kernel is None:
            raise ToolMissingError(
                "no emulator or no kernel for the small virtual machine; run: tools/setup.sh test"
            )
        _compile()
        for processor in _processors():
            machine = cls._start([emulator, *processor, "-kernel", str(kernel)], folder)
            try:
                machine._answer(time.monotonic() + _SECONDS_TO_BOOT)  # noqa: SLF001  (its own)
                machine.processor = " ".join(processor[:2])
            except MachineError as error:
                machine.close()
                refused = error
            else:
                return machine
        raise refused

    @classmethod
    def _start(cls, command: list[str], folder: Path) -> Self:
        shares, links = _root()
        image, console = folder / "initramfs", folder / "console"
        try:
            image.write_bytes(initramfs(_TOOLS, shares, links, _script()))
        except LayoutError as error:
            raise MachineError(str(error)) from error
        here, there = socket.socketpair()
        command += ["-initrd", str(image), "-append", _KERNEL, "-smp", "2", "-m", str(_MEMORY_MIB)]
        command += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", f"file:{console}"]
        command += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=wire,fd={there.fileno()}"]
        command += ["-device", f"virtserialport,chardev=wire,name={PORT}"]
        for each in shares:
            path = str(each.path).replace(",", ",,")
            share = f"local,path={path},mount_tag={each.tag},security_model=none,readonly=on,multidevs=remap"
            command += ["-virtfs", share]
        with there, (folder / "emulator").open("wb") as words:
            # It must not outlive whoever started it, however that ends.
            emulator = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                pass_fds=(there.fileno(),),
            )
        return cls(emulator, here, console)

    def play(self, act: Callable[..., T], *, seconds: float = 60.0, **arguments: object) -> T:
        """Call a function in the machine, by its name and with plain arguments; what it returns.

        It returns what msgspec can write, and says so in its annotation.  Raises :class:`MachineError` where
        it raised, or where there was no answer in ``seconds``.
        """
        call = Call(f"{act.__module__}:{act.__qualname__}", dict(arguments))
        self._wire.settimeout(seconds)
        try:
            self._wire.sendall(msgspec.json.encode(call) + b"\n")
        except OSError as error:
            raise MachineError(f"the machine is gone ({error}); {self._last_words()}") from error
        told = self._answer(time.monotonic() + seconds)
        returned: Any = get_type_hints(act)["return"]
        kept: T = msgspec.json.decode(told, type=returned)
        return kept

    def close(self) -> None:
        """Turn it off; twice is the same as once."""
        self._wire.close()
        try:
            self._emulator.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._emulator.kill()
            self._emulator.wait()

    def _answer(self, deadline: float) -> msgspec.Raw:
        while b"\n" not in self._rest:
            self._wire.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._wire.recv(65_536)
            except TimeoutError:
                raise MachineError(f"no answer from the machine in time; {self._last_words()}") from None
            if not piece:
                raise MachineError(f"the machine ended; {self._last_words()}")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise MachineError(answer.error)
        return answer.told

    def _last_words(self) -> str:
        words = [
            line
            for name in ("emulator", "console")
            for line in self._console.with_name(name).read_text(errors="replace").splitlines()[-20:]
        ]
        return "its last words:\n" + "\n".join(words)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _processors() -> Iterator[tuple[str, ...]]:
    """Real ones where this machine can lend them, and emulated ones where it can not, or only says so."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if flags & {"vmx", "svm"} and os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield _ACCELERATED
    yield _EMULATED


def _root() -> tuple[list[Share], list[tuple[str, str]]]:
    """What the machine's root is made of: folders, and links such as ``/lib`` on today's distributions."""
    wanted = {
        Path("/usr"),
        Path("/etc"),
        _CHECKOUT,
        sandbox_folder(),
        *map(Path, (sys.prefix, sys.base_prefix)),
    }
    links = []
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")):
        if path.is_symlink():
            links.append((str(path.readlink()), str(path)))
        elif path.is_dir():
            wanted.add(path)
    resolved = {each.resolve() for each in wanted}
    outermost = sorted(each for each in resolved if not resolved & set(each.parents))
    return [Share(f"share{number}", path) for number, path in enumerate(outermost)], links


def _script() -> str:
    environment = {
        **_environment(),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TRITON_PROBE_SANDBOX": str(sandbox_folder().resolve()),
    }
    told = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    agent = shlex.join([sys.executable, "-m", "testbed.machine.agent"])
    # The shell stays the first process: somebody has to reap what others left.
    return f"export {told}\ncd {shlex.quote(str(_CHECKOUT))}\n{agent} &\nwait $!\n"


def _compile() -> None:
    """Import once here what is run there: an emulated processor takes a minute to compile it."""
    names = "testbed.machine.agent, testbed.machine.kubelet, probe.daemon, probe.cli"
    environment: Mapping[str, str] = {**os.environ, **_environment()}
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", f"import {names}"], env=environment, cwd=_CHECKOUT, check=True)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(_CHECKOUT), "PYTHONPYCACHEPREFIX": str(_COMPILED)}
