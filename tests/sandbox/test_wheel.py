from __future__ import annotations

import threading
from pathlib import Path

import pytest

from probe.sandbox import wheel
from probe.sandbox.errors import SandboxError
from probe.sandbox.wheel import TritonInstallation, installed_triton, sandbox_folder


def test_the_environment_variable_decides_where_the_sandbox_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``TRITON_PROBE_SANDBOX`` wins over every default."""
    monkeypatch.setenv("TRITON_PROBE_SANDBOX", str(tmp_path / "here"))
    assert sandbox_folder() == tmp_path / "here"


def test_a_checkout_keeps_its_sandbox_in_its_own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, a checkout uses the folder that git ignores."""
    monkeypatch.delenv("TRITON_PROBE_SANDBOX", raising=False)
    assert sandbox_folder().parts[-2:] == (".cache", "triton")


def test_the_installation_holds_what_the_server_needs(triton_installation: TritonInstallation) -> None:
    """Binary, backend, stub and libpython are where the record says."""
    backend = triton_installation.backends / "python"
    assert triton_installation.binary.is_file()
    assert (backend / "libtriton_python.so").is_file()
    assert (backend / "triton_python_backend_utils.py").is_file()
    assert (backend / "triton_python_backend_stub").stat().st_mode & 0o111
    first, *_ = triton_installation.environment["PATH"].split(":")
    assert (Path(first) / "python3").exists()
    libpython, *_ = triton_installation.environment["LD_LIBRARY_PATH"].split(":")
    assert list(Path(libpython).glob("libpython3.*.so.1.0"))


def test_two_callers_at_once_install_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second caller waits for the first and takes what it made."""
    built: list[Path] = []
    both_called = threading.Barrier(2)

    def install(home: Path) -> None:
        built.append(home)
        home.mkdir()

    def call() -> None:
        both_called.wait(10)
        installed_triton(tmp_path)

    monkeypatch.setattr(wheel, "_install", install)
    threads = [threading.Thread(target=call) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(built) == 1


def test_an_installation_that_fails_says_why_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No package index within reach is an error with a remedy, not half an installation."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SandboxError, match="package index within reach"):
        installed_triton(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]


def test_a_missing_libpython_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stub links libpython, which no wheel can carry for every Python."""
    monkeypatch.setattr(wheel, "_PYTHON", "3.99")
    with pytest.raises(SandboxError, match=r"apt-get install libpython3\.99"):
        installed_triton(tmp_path)


def test_a_folder_that_can_not_be_written_names_the_variable(tmp_path: Path) -> None:
    """Where nothing can be kept, the error says how to choose another place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match="set TRITON_PROBE_SANDBOX"):
        installed_triton(tmp_path / "file" / "below")
