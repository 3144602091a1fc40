"""A real tritonserver out of the ``nvidia-pytriton`` wheel, in a virtual environment of its own.

The wheel carries the server, its python backend and stubs for several Pythons.  The environment is its own
because the backend wants ``numpy<2``: with numpy 2 a stub sees tensors of length zero and nothing says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from probe.sandbox.errors import SandboxError

PYTRITON_VERSION = "0.7.0"
"""Carries tritonserver 2.51.0 (24.10); later releases of the wheel were not tried."""

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = "triton_python_backend_stub"
_REQUIREMENTS = (f"nvidia-pytriton=={PYTRITON_VERSION}", "numpy<2")
_INSTALL = ("-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check")
# Without its dependencies: they serve the wheel's Python interface, which nothing here uses.
_SECONDS_TO_INSTALL = 900


class TritonInstallation(msgspec.Struct, frozen=True):
    """Where the server is, and what it must find in its environment (``PATH``, ``LD_LIBRARY_PATH``)."""

    binary: Path
    backends: Path
    environment: dict[str, str]


def sandbox_folder() -> Path:
    """Where installations are kept.

    ``TRITON_PROBE_SANDBOX`` wins; a checkout of the project uses its own ``.cache/triton``; an installed
    package uses ``$XDG_CACHE_HOME/triton-probe/triton``.
    """
    if chosen := os.environ.get("TRITON_PROBE_SANDBOX"):
        return Path(chosen).expanduser().absolute()
    root = Path(__file__).resolve().parent.parent.parent
    if (root / "pyproject.toml").is_file():
        return root / ".cache" / "triton"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "triton-probe" / "triton"


def installed_triton(folder: Path | None = None) -> TritonInstallation:
    """Return the installation; make it first where there is none (55 MB from the package index).

    Two callers at once make it once.  Raises :class:`SandboxError`.
    """
    folder = folder or sandbox_folder()
    home = folder / f"pytriton-{PYTRITON_VERSION}-python-{_PYTHON}"
    libpython = _libpython_folder()
    if not home.is_dir():
        with _lock(folder):
            if not home.is_dir():
                _install(home)
    site = _site(home)
    return TritonInstallation(
        binary=site / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        backends=home / "backends",
        environment={
            # The stub's embedded interpreter finds its packages through the first python3 on PATH;
            # PYTHONPATH is ignored by it.
            "PATH": os.pathsep.join((str(home / "bin"), os.environ.get("PATH", os.defpath))),
            "LD_LIBRARY_PATH": os.pathsep.join((str(libpython), str(site / "nvidia_pytriton.libs"))),
        },
    )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("w")
    except OSError as error:
        raise SandboxError(
            f"{folder} can not be written ({error.strerror}); set TRITON_PROBE_SANDBOX to a folder that can"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install(home: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        _run(
            [sys.executable, "-m", "venv", str(scratch)],
            "no virtual environment could be made; on Debian: apt-get install python3-venv",
        )
        _run(
            [str(scratch / "bin" / "python"), *_INSTALL, *_REQUIREMENTS],
            f"{' and '.join(_REQUIREMENTS)} could not be installed; is the package index within reach?",
        )
        _lay_out_backends(scratch)
        # A virtual environment can be moved as long as only its python is used: pip's scripts are not.
        scratch.chmod(0o755)
        scratch.rename(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lay_out_backends(home: Path) -> None:
    carried = _site(home) / "pytriton" / "tritonserver"
    stubs = carried / "python_backend_stubs"
    stub = stubs / _PYTHON / _STUB
    if not stub.is_file():
        known = ", ".join(sorted((each.name for each in stubs.glob("*")), key=_as_numbers)) or "none"
        raise SandboxError(
            f"nvidia-pytriton {PYTRITON_VERSION} has no stub for Python {_PYTHON} (it has: {known});"
            " run with one of those"
        )
    target = home / "backends" / "python"
    target.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copy2(carried / "backends" / "python" / name, target)
    shutil.copy2(stub, target)
    (target / _STUB).chmod(0o755)


def _libpython_folder() -> Path:
    """Find the shared libpython that the stub links; the wheel can not carry it for every Python."""
    name = f"libpython{_PYTHON}.so.1.0"
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    candidates = (
        sysconfig.get_config_var("LIBDIR"),
        Path(sys.base_prefix) / "lib",
        Path("/usr/lib") / multiarch,
        "/usr/lib64",
        "/usr/lib",
    )
    for each in candidates:
        if each and (Path(each) / name).exists():
            return Path(each)
    raise SandboxError(f"{name} is not on this machine; on Debian: apt-get install libpython{_PYTHON}")


def _site(home: Path) -> Path:
    return home / "lib" / f"python{_PYTHON}" / "site-packages"


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split(".") if each.isdigit())


def _run(command: list[str], remedy: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_TO_INSTALL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{remedy} ({error})") from error
    if result.returncode != 0:
        words = (result.stderr or result.stdout).strip().splitlines()
        raise SandboxError(f"{remedy}\n" + "\n".join(words[-10:]))
