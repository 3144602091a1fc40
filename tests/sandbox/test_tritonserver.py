"""What the real Triton does, as far as the product's judgement rests on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from probe.facts.processes import ProcessState
from probe.sandbox.client import TritonError
from probe.sandbox.errors import SandboxError
from probe.sandbox.pods import BarePod, Pod
from probe.sandbox.repositories import Repository
from probe.sandbox.tritonserver import TritonServer
from probe.sandbox.wheel import TritonInstallation
from testbed.crashes import lives
from testbed.cuda import cuda_double
from testbed.tools import PATIENCE, until

OpenPod = Callable[[int], Pod]
StartTriton = Callable[..., TritonServer]


def entry(server: TritonServer, model: str) -> dict[str, str]:
    """The model's line of the index."""
    return next(each for each in server.client.index() if each["name"] == model)


def outcome(server: TritonServer, model: str) -> tuple[str, float]:
    """How one inference ended: Triton's error or nothing, and the seconds that it took."""
    started = time.monotonic()
    try:
        server.client.infer(model)
    except TritonError as error:
        return error.text, time.monotonic() - started
    return "", time.monotonic() - started


def groups(server: TritonServer, model: str) -> list[tuple[str, str, int, list[int]]]:
    """Name, kind, count and GPUs of the model's resolved instance groups."""
    written = server.client.config(model)["instance_group"]
    return [(each["name"], each["kind"], each["count"], each["gpus"]) for each in written]


def test_a_model_without_instance_group_falls_back_to_the_cpu_in_silence(shared_triton: TritonServer) -> None:
    """It is READY, resolved as KIND_CPU, and its group carries the bare model name."""
    assert entry(shared_triton, "implicit")["state"] == "READY"
    assert groups(shared_triton, "implicit") == [("implicit", "KIND_CPU", 1, [])]
    assert groups(shared_triton, "echo") == [("echo_0", "KIND_CPU", 2, [])]


def test_a_declared_gpu_without_gpus_is_refused(shared_triton: TritonServer) -> None:
    """An explicit KIND_GPU never falls back; the index carries the reason."""
    assert entry(shared_triton, "wants_gpu")["state"] == "UNAVAILABLE"
    assert "has kind KIND_GPU but no GPUs are available" in entry(shared_triton, "wants_gpu")["reason"]


def test_samples_answer_what_they_were_asked(shared_triton: TritonServer) -> None:
    """Echo, batch and ensemble carry the numbers through, every version is served."""
    client = shared_triton.client
    assert client.infer("echo", [1.0, 2.5]) == [1.0, 2.5]
    assert client.infer("batched", [3.0], batched=True) == [3.0]
    assert client.infer("pipeline", [4.0, 5.0, 6.0]) == [4.0, 5.0, 6.0]
    assert client.infer("ensemble_0002", [7.0]) == [7.0]
    assert client.model_ready("batched", "1")
    assert client.model_ready("batched", "3")
    assert not client.model_ready("no_such_model")


def test_a_model_that_raises_counts_failures_and_stays_ready(shared_triton: TritonServer) -> None:
    """The error carries the model's own words; nothing else shows it but a counter."""
    client = shared_triton.client
    assert client.infer("raise", [-1.0]) == [-1.0]
    with pytest.raises(TritonError, match="this sample model always fails") as caught:
        client.infer("raise", [1.0])
    assert caught.value.status == 500
    # Triton counts after it has answered.
    until(lambda: client.statistics("raise")["inference_stats"]["fail"]["count"] >= 1)
    assert client.model_ready("raise")


def test_a_model_that_raises_while_it_loads_tells_its_own_words(shared_triton: TritonServer) -> None:
    """The text of the exception is the reason in the index."""
    assert "this sample model always fails" in entry(shared_triton, "raises_at_once")["reason"]


def test_a_stub_killed_while_it_loads_is_only_not_healthy(shared_triton: TritonServer) -> None:
    """Triton's text names the instance and no cause."""
    assert entry(shared_triton, "killed_at_once")["reason"] == (
        "Internal: Stub process 'killed_at_once_0_0' is not healthy."
    )


def test_a_killed_stub_is_a_zombie_while_everything_stays_ready_until_a_reload(
    triton: StartTriton, repository: Repository
) -> None:
    """Model and index say READY, its share of requests fails after a second each; a reload cures it."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    server = triton(control_mode="explicit", load_models=("echo",)).wait_ready()
    victim, other = server.stubs()
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: server.stubs() == (other,))
    seen = {each.pid: each.state for each in server.pod.processes()}
    assert seen[victim.pid] is ProcessState.ZOMBIE
    assert server.client.server_ready()
    assert server.client.model_ready("echo")
    assert entry(server, "echo")["state"] == "READY"
    outcomes = [outcome(server, "echo") for _ in range(2)]
    failed = [(text, seconds) for text, seconds in outcomes if text]
    assert failed
    assert all("is not healthy" in text and seconds > 0.9 for text, seconds in failed)
    server.client.unload("echo")
    server.client.load("echo")
    assert [outcome(server, "echo")[0] for _ in range(4)] == [""] * 4


def test_a_model_that_hangs_stays_ready(triton: StartTriton, repository: Repository) -> None:
    """No answer comes, yet server and model are ready, and no counter moves."""
    repository.add_hang()
    server = triton().wait_ready()
    client = server.client
    with pytest.raises(TimeoutError):
        client.infer("hang", [1.0], seconds=0.5)
    assert client.server_ready()
    assert client.model_ready("hang")
    counters = client.statistics("hang")["inference_stats"]
    assert (counters["success"]["count"], counters["fail"]["count"]) == (0, 0)


def test_pretended_gpus_give_one_stub_a_device(triton: StartTriton, repository: Repository) -> None:
    """With two devices at the CUDA boundary KIND_GPU loads, resolved to both, and infers."""
    repository.add_echo(kind="KIND_GPU").add_echo("second", kind="KIND_GPU", gpus=[1]).add_echo("implicit")
    server = triton(environment=cuda_double(2)).wait_ready()
    assert groups(server, "echo") == [("echo_0", "KIND_GPU", 1, [0, 1])]
    assert groups(server, "second") == [("second_0", "KIND_GPU", 1, [1])]
    assert groups(server, "implicit") == [("implicit", "KIND_GPU", 1, [0, 1])]
    assert [each.instance for each in server.stubs("echo")] == ["echo_0_0", "echo_0_0"]
    assert len(server.stubs("second")) == 1
    assert server.client.infer("echo", [1.0, 2.0]) == [1.0, 2.0]


def test_a_driver_that_is_too_old_looks_like_no_gpu_at_all(
    triton: StartTriton, repository: Repository
) -> None:
    """CUDA's error 35 is swallowed: an implicit model loads on the CPU and is READY."""
    repository.add_echo("implicit")
    server = triton(environment=cuda_double(2, error=35)).wait_ready()
    assert groups(server, "implicit") == [("implicit", "KIND_CPU", 1, [])]


def test_too_little_shared_memory_fails_the_load_with_its_own_text(
    triton_installation: TritonInstallation, repository: Repository, open_pod: OpenPod
) -> None:
    """Two instances in 1.5 MiB of ``/dev/shm``: the second one does not fit."""
    repository.add_echo(instances=2, kind="KIND_CPU")
    started: list[TritonServer] = []

    for life in lives(started):
        with life:
            log = repository.path.parent / f"log-{len(started)}"
            started.append(TritonServer(open_pod(3 << 19), triton_installation, repository.path, log=log))
            reason = entry(started[-1].wait_live(), "echo")["reason"]
            assert "Unable to initialize shared memory key" in reason
            assert "No space left on device" in reason


def test_a_server_that_ends_while_it_is_waited_for_is_an_error_with_its_last_words(
    triton: StartTriton, repository: Repository
) -> None:
    """With exit-on-error a model that can not load ends the server."""
    repository.add_echo(kind="KIND_GPU")
    with pytest.raises(SandboxError, match="no GPUs are available"):
        triton(exit_on_error=True)


def test_ports_stay_closed_while_the_first_models_load(triton: StartTriton, repository: Repository) -> None:
    """Waiting longer than the deadline says for what, and the server is still there to be waited for."""
    loaded = repository.path.parent / "loaded"
    repository.add_waiting_initialize("slow", loaded)
    server = triton(live=False)
    with pytest.raises(SandboxError, match=r"is not live after 0\.5 s"):
        server.wait_live(0.5)
    with pytest.raises(ConnectionRefusedError):
        server.client.server_live()
    loaded.touch()
    server.wait_ready()


def test_stubs_of_a_killed_server_go_away_by_themselves(triton: StartTriton, repository: Repository) -> None:
    """Once the server was reaped, its stubs notice within moments."""
    repository.add_echo(kind="KIND_CPU", instances=2)
    server = triton().wait_ready()
    assert len(server.stubs()) == 2
    server.kill()
    assert server.program.wait(PATIENCE) == -signal.SIGKILL
    until(lambda: server.stubs() == ())


def test_a_server_can_be_started_again_on_its_ports(triton: StartTriton, repository: Repository) -> None:
    """What a restarted container looks like: another process at the same addresses, a clean end before."""
    server = triton().wait_ready()
    assert server.stop(PATIENCE) == 0
    again = triton(ports=server.ports).wait_ready()
    assert again.grpc == server.grpc
    assert again.outer_pid != server.outer_pid


def test_a_triton_runs_without_isolation_too(
    triton_installation: TritonInstallation, repository: Repository
) -> None:
    """Where a machine grants no namespaces, the same server runs beside everything else."""
    repository.add_echo()
    log = repository.path.parent / "log"
    with BarePod() as pod:
        server = TritonServer(pod, triton_installation, repository.path, log=log).wait_ready()
        (stub,) = server.stubs()
        assert stub.inside_pid == stub.pid
        assert server.stop(PATIENCE) == 0


def test_a_program_in_the_pod_sees_the_server_by_its_inside_pid(shared_triton: TritonServer) -> None:
    """What runs beside Triton in its pod finds it under the pid that stubs were told."""
    inside = shared_triton.pod.inside_pid(shared_triton.outer_pid)
    program = shared_triton.pod.popen(["cat", f"/proc/{inside}/comm"], stdout=subprocess.PIPE)
    assert program.process.stdout is not None
    assert program.process.stdout.read() == b"tritonserver\n"


def test_a_sample_model_can_break_in_each_way_that_a_real_one_does(
    triton: StartTriton, repository: Repository
) -> None:
    """A segmentation fault, a context that stays broken, and code that never gives up the GIL."""
    for how in ("segv", "poison", "hold_gil"):
        repository.add_crash(how, how=how, kind="KIND_CPU")
    server = triton().wait_ready()
    for how in ("segv", "poison"):
        with pytest.raises(TritonError):
            server.client.infer(how, (1.0,))
    until(lambda: not server.stubs("segv"))
    assert outcome(server, "poison")[0]
    assert server.stubs("poison")
    for value in (1.0, 0.0):
        with pytest.raises(TimeoutError):
            server.client.infer("hold_gil", (value,), seconds=1.0)
    until(lambda: server.stubs("hold_gil")[0].state is ProcessState.RUNNING)
