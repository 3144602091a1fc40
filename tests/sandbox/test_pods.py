from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.facts.processes import ProcessState
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod, Pod
from probe.sandbox.processes import read_process
from testbed.tools import PATIENCE, until

OpenPod = Callable[[int], Pod]


def said(pod: BarePod, *command: str) -> str:
    """What a program says in the pod, once it ended."""
    program = pod.popen(command, stdout=subprocess.PIPE)
    assert program.process.stdout is not None
    text = program.process.stdout.read().decode()
    program.wait(PATIENCE)
    return text


def test_processes_of_a_pod_see_only_each_other(pod: Pod) -> None:
    """A program counts pids from the pod's first process and finds nothing of the machine."""
    seen = said(
        pod, sys.executable, "-c", "import os; print([p for p in os.listdir('/proc') if p.isdigit()])"
    )
    assert "'1'" in seen
    assert f"'{os.getpid()}'" not in seen


def test_a_program_is_known_by_two_pids(pod: Pod) -> None:
    """The pid inside and the pid here name the same process, both ways."""
    program = pod.popen(["sleep", "100"])
    until(lambda: (program.look() or pytest.fail("gone")).name == "sleep")
    inside = pod.inside_pid(program.pid)
    assert inside not in (None, program.pid)
    assert pod.outer_pid(inside or 0) == program.pid
    assert pod.inside_pid(os.getpid()) is None


def test_shared_memory_is_the_pods_own_and_as_large_as_asked(open_pod: OpenPod) -> None:
    """``/dev/shm`` inside has the given size, and what is written there does not show outside."""
    pod = open_pod(3 << 20)
    size = said(pod, "stat", "--file-system", "--format", "%S %b", "/dev/shm")
    block, blocks = (int(each) for each in size.split())
    said(pod, "touch", "/dev/shm/only-inside")
    assert block * blocks == 3 << 20
    assert not Path("/dev/shm/only-inside").exists()


def test_orphans_in_a_pod_are_reaped(pod: Pod) -> None:
    """A process whose parent is gone leaves no zombie when it ends."""
    pod.popen(["sh", "-c", "sleep 0.1 & exit"]).wait(PATIENCE)
    until(lambda: [each.inside_pid for each in pod.processes()] == [1])


def test_a_zombie_shows_with_its_pod(pod: Pod) -> None:
    """A child that nobody waited for is listed as a zombie, without arguments."""
    code = "import subprocess, time; child = subprocess.Popen(['true']); time.sleep(100)"
    pod.popen([sys.executable, "-c", code])
    until(lambda: any(each.state is ProcessState.ZOMBIE for each in pod.processes()))
    zombie = next(each for each in pod.processes() if each.state is ProcessState.ZOMBIE)
    assert (zombie.name, zombie.arguments) == ("true", ())


def test_closing_a_pod_ends_everything_in_it(pod: Pod) -> None:
    """Nothing outlives its pod, and closing twice does no harm."""
    code = "import os, time; os.setsid(); os.fork(); time.sleep(100)"
    pod.popen([sys.executable, "-c", code])
    until(lambda: len(pod.processes()) == 3)
    pids = [each.pid for each in pod.processes()]
    pod.close()
    pod.close()
    assert [read_process(each) for each in pids] == [None] * 3


def test_a_pod_dies_with_the_process_that_opened_it(pods_work: None) -> None:
    """A killed test run or demo leaves no Triton behind."""
    code = (
        "from probe.sandbox.pods import Pod\n"
        "pod = Pod.open()\n"
        "print(pod.init_pid, pod.popen(['sleep', '100']).pid, flush=True)\n"
        "pod.popen(['sleep', '100']).wait(100)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pids = [int(each) for each in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.kill()
    owner.communicate()
    until(lambda: all(read_process(each) is None for each in pids))


def test_signals_reach_the_program_and_its_end_is_told(pod: Pod) -> None:
    """A signal goes to the program rather than to what entered the pod for it."""
    program = pod.popen(["sleep", "100"])
    program.send_signal(signal.SIGUSR1)
    assert program.wait(PATIENCE) == -signal.SIGUSR1
    assert pod.popen(["sh", "-c", "exit 7"]).wait(PATIENCE) == 7


def test_a_program_that_was_stopped_goes_on(pod: Pod) -> None:
    """SIGSTOP and SIGCONT work, and the end is still told."""
    program = pod.popen(["cat"], stdin=subprocess.PIPE)
    program.send_signal(signal.SIGSTOP)
    until(lambda: (program.look() or pytest.fail("gone")).state is ProcessState.STOPPED)
    program.send_signal(signal.SIGCONT)
    assert program.process.stdin is not None
    program.process.stdin.close()
    assert program.wait(PATIENCE) == 0


def test_a_program_that_ignores_sigterm_is_killed(pod: Pod) -> None:
    """``stop`` does not wait for ever."""
    program = pod.popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], stdout=subprocess.PIPE
    )
    assert program.process.stdout is not None
    assert program.process.stdout.readline() == b"ready\n"
    assert program.stop(0.1) == -signal.SIGKILL


def test_the_working_directory_and_environment_are_the_callers(pod: Pod) -> None:
    """Relative paths mean the same inside, and the environment is exactly what was given."""
    assert said(pod, "pwd").strip() == str(Path.cwd())
    program = pod.popen(["env"], {"ONLY": "this", "PATH": os.environ["PATH"]}, stdout=subprocess.PIPE)
    assert program.process.stdout is not None
    names = {line.partition(b"=")[0] for line in program.process.stdout.read().splitlines()}
    assert names - {b"PWD", b"OLDPWD", b"_", b"SHLVL"} == {b"ONLY", b"PATH"}


def test_a_machine_without_namespaces_is_an_error_that_says_what_to_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where ``unshare`` is refused, its own words are passed on with a remedy."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"Operation not permitted.*user namespaces"):
        Pod.open()


def test_a_bare_pod_ends_what_it_started_and_what_that_started() -> None:
    """Without isolation, a grandchild that was orphaned is still found and ended."""
    with BarePod() as pod:
        program = pod.popen(["sh", "-c", "(sleep 100 &) ; sleep 100"])
        until(lambda: len(pod.processes()) == 3)
        pids = [each.pid for each in pod.processes()]
        assert pod.inside_pid(program.pid) == program.pid
    until(
        lambda: all(
            (seen := read_process(each)) is None or seen.state is ProcessState.ZOMBIE for each in pids
        )
    )


def test_a_bare_pod_says_what_it_could_not_start() -> None:
    """A program that does not exist is a clear error."""
    with BarePod() as pod, pytest.raises(SandboxError, match="no-such-program can not be started"):
        pod.popen(["no-such-program"])
