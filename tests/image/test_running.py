"""Does the image run with everything taken away: a read-only root, no network, no capability, no Triton?"""

from __future__ import annotations

import json
import signal

from probe.sandbox.repositories import Repository
from testbed.pods.podman import Podman
from testbed.tools import until
from tests.image.conftest import Run, RunImage


def health_command(podman: Podman, image: str) -> list[str]:
    """What the image says is to be run for its health, as a runtime reads it."""
    (told,) = json.loads(podman.call("image", "inspect", image).stdout)
    form, *command = told["Healthcheck"]["Test"]
    assert form == "CMD"
    return [str(each) for each in command]


def test_it_answers_where_there_is_nothing_to_watch(served: Run) -> None:
    """It is well itself, restarts nobody, and is not ready."""
    assert served.ask("/healthz") == (200, "ok")
    assert served.ask("/livez") == (200, "ok")
    code, body = served.ask("/readyz")
    assert code == 503
    assert body.startswith(("[-]Initializing", "[-]TritonStarting"))


def test_a_signal_ends_it_cleanly(run_image: RunImage) -> None:
    """Exit status 0, as the kubelet stops a container."""
    run = run_image()
    until(lambda: run.ask("/healthz")[0] == 200)
    run.program.send_signal(signal.SIGTERM)
    code, log = run.ended()
    assert code == 0
    assert "stopped by a signal" in log


def test_a_wrong_setting_is_named_at_once(run_image: RunImage) -> None:
    """Exit status 2, with the variable and what was expected."""
    code, log = run_image(flags=("--env=TRITON_PROBE_INTERVAL=5", "--network=none", "--read-only")).ended()
    assert code == 2
    assert "TRITON_PROBE_INTERVAL" in log
    assert "expected a duration" in log


def test_the_health_check_is_the_daemons_own_health(podman: Podman, image: str, run_image: RunImage) -> None:
    """It passes beside a Triton that is not there, and fails where the daemon is stopped."""
    command = health_command(podman, image)
    run = run_image()
    until(lambda: run.ask("/healthz")[0] == 200)
    assert run.ask("/readyz")[0] == 503
    assert run.container.execute(*command).returncode == 0
    run.program.send_signal(signal.SIGSTOP)
    stopped = run.container.execute(*command)
    assert stopped.returncode == 3
    assert "no answer" in stopped.stderr
    run.program.send_signal(signal.SIGCONT)


def test_every_command_helps(served: Run) -> None:
    """And what needs neither Triton nor a network works."""
    commands = served.python(
        "import json; from probe.cli import group; print(json.dumps(sorted(group.commands)))"
    )
    assert {"serve", "check", "doctor", "audit", "size", "reasons", "config", "demo"} <= set(commands)
    for command in commands:
        told = served.container.execute("triton-probe", command, "--help")
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith(f"Usage: triton-probe {command}")
    assert "StubDead" in served.container.execute("triton-probe", "reasons").stdout
    assert served.container.execute("triton-probe", "config").returncode == 0


def test_doctor_says_that_there_is_nothing_to_look_at(served: Run) -> None:
    """Exit status 3 is "could not look", as it is everywhere."""
    told = served.container.execute("triton-probe", "doctor", "--format=json")
    assert told.returncode in (1, 3)
    assert json.loads(told.stdout)["triton"]["reachable"] is not True


def test_a_mounted_repository_is_audited(run_image: RunImage, repository: Repository) -> None:
    """As in the build of an image with models."""
    repository.add_echo("implicit")
    mounted = f"--volume={repository.path}:/models:ro"
    code, log = run_image(
        "audit", "/models", "--device=gpu", flags=(mounted, "--network=none", "--read-only")
    ).ended()
    assert code == 1
    assert "PlacementImplicit  implicit" in log


def test_a_demo_that_can_not_be_says_why(served: Run) -> None:
    """There is no Triton in the image, and no place for one: an error in words, and not a traceback."""
    told = served.container.execute("triton-probe", "demo")
    assert told.returncode == 1
    assert "demo: it needs a folder for temporary files" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
