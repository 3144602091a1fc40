from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import compile as compiling
from testbed.compile import CompileError, build_shared_library
from testbed.cuda import cuda_double, cuda_double_from


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep what these tests build out of the cache of the checkout."""
    monkeypatch.setattr(compiling, "_CACHE", tmp_path / "cache")


def source(folder: Path, answer: int) -> Path:
    """A library of one function."""
    path = folder / "answer.c"
    path.write_text(f"int answer(void);\nint answer(void) {{ return {answer}; }}\n")
    return path


def test_a_library_is_built_once_and_again_when_its_source_changes(tmp_path: Path) -> None:
    """The same source is the same file; another source another one, beside it."""
    first = build_shared_library(source(tmp_path, 1), "libanswer.so.1")
    built_at = first.stat().st_mtime_ns
    assert build_shared_library(source(tmp_path, 1), "libanswer.so.1") == first
    assert first.stat().st_mtime_ns == built_at
    second = build_shared_library(source(tmp_path, 2), "libanswer.so.1")
    assert second.name == first.name == "libanswer.so.1"
    assert [ctypes.CDLL(str(each)).answer() for each in (first, second)] == [1, 2]


def test_a_header_beside_the_source_counts_as_its_source(tmp_path: Path) -> None:
    """A changed header is another library too."""
    path = tmp_path / "answer.c"
    path.write_text('#include "answer.h"\nint answer(void);\nint answer(void) { return ANSWER; }\n')
    answers = []
    for number in (3, 4):
        (tmp_path / "answer.h").write_text(f"#define ANSWER {number}\n")
        answers.append(ctypes.CDLL(str(build_shared_library(path, "libanswer.so"))).answer())
    assert answers == [3, 4]


def test_a_source_that_does_not_compile_tells_the_compilers_words(tmp_path: Path) -> None:
    """The error names the file and where it is wrong, and nothing is kept."""
    path = tmp_path / "wrong.c"
    path.write_text("this is no C\n")
    with pytest.raises(CompileError, match=r"wrong\.c does not compile:\n.*error"):
        build_shared_library(path, "libwrong.so")
    assert not list(tmp_path.glob("cache/**/*.so"))


def test_a_machine_without_a_compiler_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No gcc is an error with a remedy."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompileError, match="apt-get install gcc"):
        build_shared_library(source(tmp_path, 1), "libanswer.so")


def counted(environment: dict[str, str]) -> list[int]:
    """What a program under the CUDA double is told: cudaGetDeviceCount's error and count."""
    code = (
        "import ctypes; c = ctypes.c_int(-1); e = ctypes.CDLL(None).cudaGetDeviceCount(ctypes.byref(c));"
        "print(e, c.value)"
    )
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    return [int(each) for each in said.stdout.split()]


@pytest.mark.parametrize(
    ("devices", "error", "told"), [(2, 0, [0, 2]), (0, 0, [100, 0]), (2, 35, [35, 0]), (2, 999, [999, 0])]
)
def test_the_cuda_double_counts_as_it_is_told(devices: int, error: int, told: list[int]) -> None:
    """Devices, none of them, or an error in their place."""
    assert counted(cuda_double(devices, error=error)) == told


def test_the_cuda_double_reads_its_state_anew(tmp_path: Path) -> None:
    """A state file wins over the environment; a missing or senseless one is a machine without a GPU."""
    state = tmp_path / "state"
    environment = {"CUDA_DOUBLE_DEVICES": "8", **cuda_double_from(state)}
    assert counted(environment) == [100, 0]
    state.write_text("3")
    assert counted(environment) == [0, 3]
    state.write_text("3 46\n")
    assert counted(environment) == [46, 0]
    state.write_text("no number")
    assert counted(environment) == [100, 0]
