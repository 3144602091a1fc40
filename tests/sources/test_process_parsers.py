"""What is read of processes: ``stat`` lines and stubs' command lines, of every release and of none."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.facts.processes import ProcessState, Server, StubArguments
from probe.sources.processes.arguments import parse_stub_arguments
from probe.sources.processes.procfs import PAGE_BYTES, Procfs, parse_stat

STUB = "/opt/tritonserver/backends/python/triton_python_backend_stub"
LIB = "/opt/tritonserver/backends/python"


def stat_line(
    *,
    pid: int = 7,
    name: bytes = b"triton_python_b",
    state: str = "S",
    parent: int = 1,
    ticks: tuple[int, int] = (3, 4),
    start: int = 100,
    pages: int = 5,
    status: int = 0,
) -> bytes:
    """A line as the kernel writes it (proc(5)): 52 fields."""
    fields = ["0"] * 50
    fields[0], fields[1] = state, str(parent)
    fields[11], fields[12] = (str(each) for each in ticks)
    fields[19], fields[21], fields[49] = str(start), str(pages), str(status)
    return b"%d (%s) %s\n" % (pid, name, " ".join(fields).encode())


@given(st.binary(max_size=400))
@example(b"")
@example(b")(")
@example(b"1 () S")
@example(b"1 (a) S " + b"9" * 5000)
@example(b"1 (a) \xff\xff " + b"1 " * 60)
def test_any_bytes_are_a_stat_line_or_none(raw: bytes) -> None:
    """Nothing that a file may hold raises."""
    parse_stat(raw)


@given(
    name=st.binary(min_size=0, max_size=15).filter(lambda name: b"\0" not in name),
    state=st.sampled_from("RSDTtZXxIWKP"),
    numbers=st.tuples(*(st.integers(0, 2**31) for _ in range(6))),
)
@example(name=b") S 1 (", state="Z", numbers=(1, 2, 3, 4, 5, 6))
@example(name=b"a\nb ) c", state="S", numbers=(1, 2, 3, 4, 5, 6))
def test_a_stat_line_tells_what_was_written(name: bytes, state: str, numbers: tuple[int, ...]) -> None:
    """Whatever the process calls itself: parentheses, blanks, newlines, bytes that are no text."""
    pid, parent, user, system, start, pages = numbers
    line = stat_line(
        pid=pid,
        name=name,
        state=state,
        parent=parent,
        ticks=(user, system),
        start=start,
        pages=pages,
        status=9,
    )
    told = parse_stat(line)
    assert told is not None
    assert told.name == name.decode(errors="replace")
    assert (told.pid, told.parent, told.cpu_ticks) == (pid, parent, user + system)
    assert (told.start_ticks, told.rss_bytes, told.exit_status) == (start, pages * PAGE_BYTES, 9)
    known = {"S": "sleeping", "I": "sleeping", "D": "uninterruptible", "T": "stopped", "t": "stopped"}
    known |= {"Z": "zombie", "X": "dead", "x": "dead"}
    assert told.state == known.get(state, "running")


def test_our_own_stat_line_is_read() -> None:
    """The real file of a real kernel."""
    told = parse_stat(Path("/proc/self/stat").read_bytes())
    assert told is not None
    assert told.state is ProcessState.RUNNING
    assert told.rss_bytes > 2**20
    assert told.exit_status == 0


def test_threads_are_counted_as_a_limit_on_processes_counts_them() -> None:
    """The first one too; a figure that no kernel can tell is none."""
    done = threading.Event()
    waiting = [threading.Thread(target=done.wait) for _ in range(3)]
    for each in waiting:
        each.start()
    line = Path("/proc/self/stat").read_bytes()
    done.set()
    for each in waiting:
        each.join()
    told = parse_stat(line)
    assert told is not None
    assert told.threads is not None
    assert 4 <= told.threads < 1000
    for nonsense in (b"0", b"-1", b"9" * 30):
        told = parse_stat(b"1 (a) S " + b"1 " * 16 + nonsense + b" 1" * 40)
        assert told is not None
        assert told.threads is None


REAL = {
    "24.10": (
        (
            f"{STUB} /m/models/pycount/1/model.py triton_python_backend_shm_region_051f6f90-aa 1048576 1048576 5 "
            f"{LIB} 336 pycount_0_0 DEFAULT "
        ),
        StubArguments(
            "/m/models/pycount/1/model.py",
            "triton_python_backend_shm_region_051f6f90-aa",
            1048576,
            1048576,
            5,
            "pycount_0_0",
            "DEFAULT",
        ),
    ),
    "vLLM": (
        (
            f"{STUB} /root/model_repository/vllm/1/model.py triton_vllm_backend_shm_region_1f 1048576 1048576 2568 "
            f"{LIB} 336 vllm_0_0 /opt/tritonserver/backends/vllm"
        ),
        StubArguments(
            "/root/model_repository/vllm/1/model.py",
            "triton_vllm_backend_shm_region_1f",
            1048576,
            1048576,
            2568,
            "vllm_0_0",
            "/opt/tritonserver/backends/vllm",
        ),
    ),
    "22.06": (
        f"{STUB} /m/a/1/model.py triton_python_backend_shm_region_3 67108864 67108864 1 {LIB} 592 a_0_1",
        StubArguments(
            "/m/a/1/model.py", "triton_python_backend_shm_region_3", 67108864, 67108864, 1, "a_0_1"
        ),
    ),
    "auto-complete of a model that is a number": (
        f"{STUB} /m/7/1/model.py region 1 2 3 {LIB} 336 7 DEFAULT",
        StubArguments("/m/7/1/model.py", "region", 1, 2, 3, "7", "DEFAULT"),
    ),
    "the same before 23.10": (
        f"{STUB} /m/7/1/model.py region 1 2 3 {LIB} 336 7",
        StubArguments("/m/7/1/model.py", "region", 1, 2, 3, "7"),
    ),
    "numbers in every path, split": (
        f"{STUB} /m 1 2 x/a/1/model.py region 1 2 3 /opt/my 5 lib 336 a_0 /opt/back 6 end",
        StubArguments("/m 1 2 x/a/1/model.py", "region", 1, 2, 3, "a_0", "/opt/back 6 end"),
    ),
    "a name that was split": (
        f"{STUB} /m/my model/1/model.py region 1 2 3 {LIB} 336 my model_0 DEFAULT",
        StubArguments("/m/my model/1/model.py", "region", 1, 2, 3, "my model_0", "DEFAULT"),
    ),
}
"""Command lines as a shell would split them, and what they say."""


@pytest.mark.parametrize("case", REAL)
def test_real_command_lines_are_understood(case: str) -> None:
    """Lines of releases as they were seen, and those that their shells made of blanks."""
    line, expected = REAL[case]
    assert parse_stub_arguments(line.split(" ")) == expected


_WORD = st.from_regex(r"\A[A-Za-z_.-][A-Za-z0-9_.-]{0,12}\Z")
_PATH = st.lists(st.from_regex(r"\A[A-Za-z][A-Za-z0-9_. -]{0,10}[A-Za-z0-9]\Z"), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
_NAME = st.one_of(_WORD, st.from_regex(r"\A[0-9]{1,6}\Z"), st.from_regex(r"\A[0-9]{1,3}_[0-9]\Z"))
_SIZE = st.integers(1, 2**40)


@given(
    model=_PATH,
    region=_WORD,
    sizes=st.tuples(_SIZE, _SIZE, st.integers(1, 2**22)),
    lib=_PATH,
    handle=st.integers(0, 9999),
    name=_NAME,
    data=st.data(),
)
def test_the_arguments_of_every_release_come_back(
    *,
    model: str,
    region: str,
    sizes: tuple[int, int, int],
    lib: str,
    handle: int,
    name: str,
    data: st.DataObject,
) -> None:
    """Nine arguments before 23.10, ten since, whole since 25.08 and split at blanks before.

    A split folder's blanks in a row are one blank afterwards, as after any shell.
    """
    runtime = data.draw(st.one_of(st.just(None), st.just("DEFAULT"), _PATH), label="runtime folder")
    split = data.draw(st.booleans(), label="split by a shell")
    # A shell's words that are bare numbers in just these places could be read in more than one way.
    plain = re.sub(r" (?=[0-9]+( |$))", "_", lib) if split else lib
    given_words = [STUB, f"{model}/1/model.py", region, *(str(each) for each in sizes), plain]
    given_words += [str(handle), name, *([] if runtime is None else [runtime])]
    words = " ".join(given_words).split() if split else given_words
    words += data.draw(st.sampled_from(([], [""], ["", ""])), label="trailing")
    told = parse_stub_arguments(words)
    assert told is not None

    def once(text: str) -> str:
        return " ".join(text.split()) if split else text

    assert told == StubArguments(once(f"{model}/1/model.py"), region, *sizes, name, once(runtime or ""))


@given(
    st.lists(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(("1", "9" * 5000, "", "/a", "DEFAULT", STUB, "\ud800", "٣", "²")),
        ),
        max_size=30,
    )
)
@example(["1"] * 30)
@example([STUB, "m", "r", "9" * 5000, "9" * 5000, "1", LIB, "336", "n"])
def test_garbage_is_no_stub_and_raises_nothing(words: list[str]) -> None:
    """A process may call itself what it likes and be started with what it likes."""
    parse_stub_arguments(words)


@pytest.mark.parametrize("words", [["1"] * 200_000, ["1", "1", "1", "a", "1", "b", "c"] * 30_000])
def test_an_endless_command_line_is_not_searched_at_length(words: list[str]) -> None:
    """A hostile line costs nothing."""
    assert parse_stub_arguments(words) is None


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    """A process that is gone, and one whose folder is closed to us."""
    (tmp_path / "5").mkdir()
    proc = Procfs(tmp_path)
    assert proc.pids() == [5]
    assert proc.stat(5) is None
    assert proc.arguments(5) == ()
    assert proc.gpu_minors(5) is None
    assert proc.shm_bytes(5, "region") is None
    assert proc.same_network(5) is None
    assert proc.in_initial_namespace() is False
    with pytest.raises(OSError, match="absent"):
        Procfs(tmp_path / "absent").pids()


@pytest.mark.parametrize("region", ["", "../../etc/passwd", "/etc/passwd", "a\0b"])
def test_a_region_never_leads_out_of_shm(region: str) -> None:
    """The name comes from a command line: only a plain file's name is looked up."""
    assert Procfs().shm_bytes(1, region) is None


def test_a_command_line_is_bounded_and_printable(tmp_path: Path) -> None:
    """Megabytes of arguments are read in part, bytes that are no text are replaced."""
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "cmdline").write_bytes(b"a\xff\0" + b"x" * 2**20)
    first, rest = Procfs(tmp_path).arguments(5)
    assert first == "a\N{REPLACEMENT CHARACTER}"
    assert len(rest) < 2**18


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), None),
        (("--grpc-port=1",), "1"),
        (("--grpc-port", "2"), "2"),
        (("--grpc-port=1", "--grpc-port=3"), "3"),
        (("--grpc-port",), None),
        (("--grpc-port=",), ""),
        (("--grpc-portable=4",), None),
    ],
)
def test_an_option_of_the_server_is_found_in_both_spellings(
    arguments: tuple[str, ...], expected: str | None
) -> None:
    """As Triton reads them: with an equals sign or as two words, and the last one wins."""
    stat = parse_stat(stat_line())
    assert stat is not None
    assert Server(None, ("tritonserver", *arguments)).option("grpc-port") == expected  # type: ignore[arg-type]
