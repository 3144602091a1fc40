"""Is a dead worker told, with whose it was, why it ended, and what to do?"""

from __future__ import annotations

from probe.checks.workers import judge
from probe.facts.container import MemoryUse
from probe.facts.findings import SubjectKind
from probe.settings import ModelsSettings, Settings
from tests.worlds import GIB, World, python_model, serving, worker

ONE = python_model("m")


def running(settings: Settings = Settings()) -> World:  # noqa: B008  (frozen)
    """A model whose stub has an engine and a worker."""
    seen = serving(ONE, settings=settings)
    both = (worker(110, parent=100), worker(111, "VLLM::Worker_TP0", parent=110))
    return seen.with_worker(100, *both).scans()


def killed(seen: World, pid: int = 110) -> World:
    """The engine was killed, and everybody looked."""
    return seen.worker_exits(pid, signal=9).explains("m")


def test_a_dead_worker_is_told_with_its_name_its_cause_and_who_is_left() -> None:
    """The moment is the exit's own, the subject the instance; live follows as for a stub."""
    seen = running()
    moment = seen.now
    claim = killed(seen).only("WorkerDead", judge)
    assert (claim.subject.kind, claim.subject.model) == (SubjectKind.INSTANCE, "m")
    assert (claim.subject.version, claim.subject.instance) == ("1", "m_0_0")
    assert claim.event_at == claim.observed == moment
    assert claim.spares == frozenset()
    assert claim.message.startswith(
        "Its worker VLLM::EngineCore (pid 110) exited, killed by SIGKILL, while the model stayed loaded; "
        "1 other process of the same stub runs on."
    )
    assert "the model can not be reloaded alone" in claim.remedy
    assert claim.evidence == {
        "pid": 110,
        "title": "VLLM::EngineCore",
        "kind": "engine",
        "cause": "killed by SIGKILL",
        "cause_rests_on": "the exit status that the kernel told; the container's count of OOM kills can not be read "
        "here",
        "signal": 9,
        "exit_code": None,
        "stub_pid": 100,
        "last_rss_bytes": GIB,
        "workers_dead": 1,
        "workers_alive": 1,
        "tree_rss_bytes": GIB,
    }


def test_several_dead_workers_of_an_instance_are_one_claim() -> None:
    """The first of them is named: the others followed it."""
    seen = running().worker_exits(110, signal=9).worker_exits(111, signal=15).explains("m")
    claim = seen.only("WorkerDead", judge)
    assert "(pid 110) exited, killed by SIGKILL, and 1 more ended, while" in claim.message
    assert "no other process of the same stub is left" in claim.message
    assert (claim.evidence["workers_dead"], claim.evidence["workers_alive"]) == (2, 0)


def test_a_worker_that_was_killed_for_want_of_memory_needs_memory() -> None:
    """The engine holds the most, so that it is whom the kernel chooses."""
    seen = running().contained(memory=MemoryUse(oom_kills=0, oom_kills_path="/x/memory.events"))
    seen = seen.worker_exits(110, signal=9)
    seen = seen.contained(memory=MemoryUse(oom_kills=1, oom_kills_path="/x/memory.events")).explains("m")
    claim = seen.only("WorkerDead", judge)
    assert "killed by the kernel for want of memory (SIGKILL)" in claim.message
    assert claim.evidence["cause_rests_on"] == "oom_kill of /x/memory.events rose from 0 to 1"
    assert "Raise resources.limits.memory" in claim.remedy
    assert "(the process last held 1.0 GiB)" in claim.remedy


def test_a_count_that_is_read_after_the_verdict_mends_it() -> None:
    """The reader was busy at first."""
    seen = running().contained(memory=MemoryUse(oom_kills=0))
    seen = killed(seen)
    assert seen.only("WorkerDead", judge).evidence["cause"] == "killed by SIGKILL"
    seen = seen.contained(memory=MemoryUse(oom_kills=1))
    assert "want of memory" in str(seen.only("WorkerDead", judge).evidence["cause"])


def test_nothing_is_said_of_workers_once_triton_is_gone_or_policy_ignores_the_model() -> None:
    """Others say it, or nobody wants to know."""
    assert killed(running()).server_exits(signal=9).claims(judge) == ()
    ignoring = Settings(models=ModelsSettings(ignore=("m",)))
    assert killed(running(ignoring)).claims(judge) == ()


def test_nothing_is_said_of_a_model_that_is_not_ready_yet() -> None:
    """Triton said so when it was asked, and the next poll shows it."""
    world = running()
    loading = World(server=world.server, configs=(ONE,), stubs=world.stubs, rows=world.rows)
    assert loading.scans().polls().claims(judge) == ()
    assert World().claims(judge) == ()
