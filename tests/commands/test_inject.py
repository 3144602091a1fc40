"""`triton-probe inject` as it is typed: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from probe.cli import group
from probe.facts import wiring

TRITON = """\
apiVersion: v1
kind: Pod
metadata:
  name: triton   # ours
spec:
  containers:
  - name: triton
    image: tritonserver:24.10
    securityContext: {runAsUser: 1000}
    resources: {limits: {memory: 8Gi}}
"""
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"


def run(*arguments: object, stdin: str | bytes = "") -> Result:
    """Run the command."""
    words = ["inject", *(str(each) for each in arguments)]
    return CliRunner().invoke(group, words, input=stdin, prog_name="triton-probe")


def laid(folder: Path, text: str = TRITON, name: str = "pod.yaml") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_standard_input_becomes_standard_output() -> None:
    """The manifests on stdout alone; what was done on stderr, a line each with file, document and object."""
    result = run(stdin=f"{OTHER}---\n{TRITON}")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{OTHER}---\n")
    assert [each["kind"] for each in yaml.safe_load_all(result.stdout)] == ["ConfigMap", "Pod"]
    about = "standard input:4: document 2: Pod/triton"
    assert result.stderr.splitlines() == [
        f"{about}: {each}"
        for each in (
            "added the container triton-probe (triton-probe:0.1.0) beside triton (found by its image)",
            "runs as uid 1000, as Triton's runAsUser says, gid 1000",
            "added shareProcessNamespace: true",
            "added a volume of 1Gi in memory at /dev/shm, which is 64Mi without",
        )
    ]


def test_warnings_name_the_line_of_what_they_are_about(tmp_path: Path) -> None:
    """As an editor takes it."""
    path = laid(tmp_path, TRITON.replace("{limits: {memory: 8Gi}}", "{}"))

    assert (
        f"{path}:10: document 1: Pod/triton: warning: Triton has no resources (BestEffort)"
        in run("-f", path).stderr
    )


def test_several_files_become_one_stream(tmp_path: Path) -> None:
    """With a separator between them, also where one ends without a newline or begins with its own."""
    files = [
        laid(tmp_path, TRITON.rstrip("\n"), "a.yaml"),
        laid(tmp_path, f"---\n{OTHER}", "b.yaml"),
        laid(tmp_path, OTHER, "c.yaml"),
    ]
    result = run(*(word for each in files for word in ("-f", each)))

    assert [each["kind"] for each in yaml.safe_load_all(result.stdout)] == ["Pod", "ConfigMap", "ConfigMap"]


def test_in_place_writes_the_files_and_remove_gives_them_back(tmp_path: Path) -> None:
    """Byte for byte, with mode and link as they were; the second time nothing changes."""
    path = laid(tmp_path)
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)

    first = run("-f", link, "-i")
    once = path.read_bytes()
    before = path.stat()
    second = run("-f", link, "-i")

    assert (first.exit_code, first.stdout, second.exit_code) == (0, "", 0)
    assert b"triton-probe" in once
    assert path.read_bytes() == once
    assert path.stat() == before
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert run("-f", path, "-i", "--remove").exit_code == 0
    assert path.read_bytes() == TRITON.encode()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.yaml", "pod.yaml"]


def test_nothing_is_written_where_one_file_is_bad(tmp_path: Path) -> None:
    """The good ones stay as they were."""
    good, bad = laid(tmp_path), laid(tmp_path, "a: [\nb: 1\n", "bad.yaml")
    result = run("-f", good, "-f", bad, "-i")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"triton-probe: {bad}:2: is not YAML: ")
    assert good.read_bytes() == TRITON.encode()


def test_a_diff_can_be_applied(tmp_path: Path) -> None:
    """By patch, to files with and without a newline at their end; nothing is written."""
    for name, text in (
        ("with.yaml", TRITON),
        ("without.yaml", TRITON.rstrip()),
        ("dos.yaml", TRITON.replace("\n", "\r\n")),
    ):
        path = laid(tmp_path, text, name)
        diff = run("-f", path, "--diff")
        assert path.read_bytes() == text.encode()
        subprocess.run(
            ["patch", "--binary", "-s", str(path)], input=diff.stdout_bytes, check=True, cwd=tmp_path
        )
        wanted = run("-f", "-", stdin=text).stdout_bytes

        assert path.read_bytes() == wanted
        assert run("-f", path, "--diff").stdout == ""


@pytest.mark.parametrize(
    "text", [TRITON.replace("\n", "\r\n"), f"\ufeff{TRITON}", TRITON.rstrip("\n"), f"{TRITON}...\n"]
)
def test_marks_and_line_ends_stay(text: str) -> None:
    """DOS line ends, a byte order mark, no newline at the end, and an end of document."""
    result = run(stdin=text.encode())
    added = result.stdout_bytes

    assert result.exit_code == 0
    assert added.count(b"\r\n") in (0, added.count(b"\n"))
    assert run("--remove", stdin=added).stdout_bytes == text.encode()


def test_nothing_to_inject_into_exits_1() -> None:
    """No workload, none of Triton, or more than one container that may be it; stdout is empty."""
    nginx = TRITON.replace("tritonserver:24.10", "nginx")
    two = f"{TRITON}  - {{name: second, image: tritonserver}}\n"
    for text, says in (
        (OTHER, "found no workload"),
        ("", "found no workload"),
        (nginx, "Pod/triton: has no container that runs Triton; found: triton"),
        (two, "several containers may run Triton: triton (by its image), second (by its image)"),
    ):
        result = run(stdin=text)
        assert (result.exit_code, result.stdout) == (1, "")
        assert says in result.stderr
    assert run("--container", "second", stdin=two).exit_code == 0


def test_one_triton_among_others_is_enough() -> None:
    """A stream has other workloads too; they are named and go through."""
    nginx = TRITON.replace("tritonserver:24.10", "nginx").replace("name: triton ", "name: web ")
    result = run(stdin=f"{nginx}---\n{TRITON}")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{nginx}---\n")
    assert "Pod/web: has no container that runs Triton" in result.stderr


def test_removing_where_nothing_is_changes_nothing() -> None:
    """And is no failure: the manifests are as they were before."""
    result = run("--remove", stdin=TRITON)

    assert (result.exit_code, result.stdout) == (0, TRITON)
    assert result.stderr == "triton-probe: found nothing that inject had put in\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: [\n", "standard input:1: is not YAML"),
        (b"a: 1\n\xff\n", "standard input:2: is not UTF-8, expected YAML or JSON in UTF-8"),
        (b"{{ if .x }}\n", "a Helm template has to be rendered first"),
        (TRITON.encode() + b"kind: Pod\n", "standard input:11: found the key 'kind' twice, expected once"),
        (b"[" * 500, "standard input:1: is nested deeper than 100 levels"),
    ],
)
def test_bad_input_exits_2_with_file_and_line(text: bytes, says: str) -> None:
    """And what was expected; stdout is empty."""
    result = run(stdin=text)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_a_file_that_can_not_be_read_exits_2(tmp_path: Path) -> None:
    """A name that there is not, and a folder."""
    assert run("-f", tmp_path / "none").exit_code == 2
    assert "none: can not be read: No such file or directory" in run("-f", tmp_path / "none").stderr
    assert run("-f", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gates", "ready"], "expected some of readiness, liveness and startup"),
        (["--shm", "much"], "expected a size"),
        (["--user", "root"], "expected UID, UID:GID or none"),
        (["--user", "0:2147483648"], "expected UID, UID:GID or none"),
        (["--kubernetes", "new"], "expected a release such as 1.29"),
        (["--requests", "gpu=1"], "expected cpu=AMOUNT or memory=AMOUNT"),
        (["--requests", "memory=1ki"], "expected cpu=AMOUNT or memory=AMOUNT"),
        (["--requests", f"memory={10**30}"], "expected cpu=AMOUNT or memory=AMOUNT"),
        (["--limits", "memory"], "expected cpu=AMOUNT or memory=AMOUNT"),
        (["--image", "a b"], "expected an image"),
        (["--port", "0"], "0 is not in the range"),
        (["-i"], "goes with -f FILE"),
        (["-f", "x", "-i", "--diff"], "goes with -f FILE"),
        (["-f", "x", "-f", "x"], "found a file twice"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], says: str) -> None:
    """With what was found and what was expected."""
    result = run(*arguments, stdin=TRITON)

    assert result.exit_code == 2
    assert says in result.stderr


def test_options_reach_the_manifest() -> None:
    """As they are typed."""
    words = (
        "--image r/p:1 --gates readiness,startup --native always --kubernetes v1.33.2 --shm 512Mi --port 9003"
    )
    more = "--user 1000:5 --requests cpu=1,memory=1Gi --limits memory=2Gi"
    pod = yaml.safe_load(run(*words.split(), *more.split(), stdin=TRITON).stdout)["spec"]
    (sidecar,) = pod["initContainers"]

    assert sidecar["image"] == "r/p:1"
    assert sidecar["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert sidecar["securityContext"]["runAsGroup"] == 5
    assert sidecar["ports"][0]["containerPort"] == 9003
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "512Mi"
    assert [each for each in pod["containers"][0] if each.endswith("Probe")] == [
        "startupProbe",
        "readinessProbe",
    ]
    none = yaml.safe_load(run("--shm", "none", "--user", "none", stdin=TRITON).stdout)["spec"]
    assert "volumes" not in none
    assert "runAsUser" not in none["containers"][1]["securityContext"]


def test_it_does_not_wait_for_somebody_to_type() -> None:
    """Without a file and without a pipe there is nothing to read."""
    ours, theirs = os.openpty()
    try:
        result = subprocess.run(
            [sys.executable, "-m", "probe", "inject"], stdin=theirs, capture_output=True, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert result.returncode == 2
    assert b"found neither -f FILE nor a pipe" in result.stderr


def test_names_of_files_are_printed_on_one_line(tmp_path: Path) -> None:
    """Whatever characters they have."""
    path = laid(tmp_path, "a: [", "a\nb.yaml")

    assert "a\\nb.yaml:1: is not YAML" in run("-f", path).stderr


def test_it_runs_as_a_program() -> None:
    """In a pipe, as people use it; nothing else that starts is slowed by what it reads."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    text = TRITON.replace("# ours", "# ünsere")
    result = subprocess.run(
        [sys.executable, "-m", "probe", "inject"],
        input=text.encode(),
        capture_output=True,
        check=True,
        env=environment,
    )

    assert "# ünsere".encode() in result.stdout
    loaded = "import sys, probe.cli; print([each for each in sys.modules if 'yaml' in each or 'manifests' in each])"
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_what_is_not_said_is_what_the_wiring_decides() -> None:
    """The command line may not import the wiring to start quickly, so its defaults are written there again."""
    defaults = {each.name: each.default for each in group.commands["inject"].params}

    assert (defaults["port"], defaults["shm"]) == (wiring.PORT, wiring.SHM_SIZE)


def test_several_files_are_written_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second one can not be written, the first stays as it was too, and nothing is left beside them."""
    first, second = laid(tmp_path, name="a.yaml"), laid(tmp_path, name="b.yaml")
    make = tempfile.mkstemp

    def full(*, prefix: str, dir: str) -> tuple[int, str]:  # noqa: A002 - as mkstemp names it
        if "b.yaml" in prefix:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    result = run("-f", first, "-f", second, "-i")

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        f"triton-probe: {second}: can not be written: No space left on device",
    )
    assert (first.read_text(), second.read_text()) == (TRITON, TRITON)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]


def test_one_file_by_two_names_is_a_mistake(tmp_path: Path) -> None:
    """Through a link it is the same file, and would be written twice."""
    path = laid(tmp_path)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    result = run("-f", path, "-f", link, "-i")

    assert result.exit_code == 2
    assert "found a file twice" in result.stderr
    assert path.read_text() == TRITON


def test_a_uid_of_openshift_has_ten_digits() -> None:
    """The ranges that it gives its namespaces begin there."""
    result = run("--user", "1000650000:0", stdin=TRITON)

    assert "runAsUser: 1000650000" in result.stdout


def test_a_pipe_is_not_written_in_place(tmp_path: Path) -> None:
    """It was read to its end, and reading it once more would wait for good."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text(TRITON))
    writer.start()
    result = run("-f", path, "-i")
    writer.join()

    assert result.exit_code == 2
    assert "is no file that can be written in place" in result.stderr


def test_a_full_disk_is_told_and_no_traceback() -> None:
    """What came through is not the whole of it, and the exit says so."""
    command = [sys.executable, "-m", "probe", "inject"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, input=TRITON.encode(), stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1] == (
        "triton-probe: standard output: can not be written: No space left on device"
    )
