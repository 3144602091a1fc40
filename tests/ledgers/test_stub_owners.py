"""Whose is a stub, is it stopped, and how many should there be?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.models import InstanceKind, ModelConfig, ModelVersion
from probe.facts.processes import ProcessState
from probe.ledgers.models import ModelsLedger
from probe.ledgers.ownership import copies, owner
from tests.worlds import World, config, ensemble, group, key, python_model, server, serving, stub

VLLM = "/opt/tritonserver/backends/vllm"
LLM = config("llm", group("llm_0", InstanceKind.MODEL), backend="vllm")


def models(*configs: ModelConfig) -> ModelsLedger:
    """A ledger in which these are loaded."""
    return serving(*configs, server=None).book.models


@pytest.mark.parametrize(
    ("name", "path", "runtime", "expected"),
    [
        ("m_0_0", "/models/m/1/model.py", "DEFAULT", key("m")),
        ("m_0_1", "/models/m/1/model.py", "", key("m")),
        ("m_0_0", "/deep/er/m/1/other.py", "DEFAULT", key("m")),
        ("m_0_0", "s3/cache dir/m/1/model.py", "DEFAULT", key("m")),
        ("m_0_12", "m/1/model.py", "DEFAULT", key("m")),
        # Another version, or another model: not one of a loaded model.
        ("m_0_0", "/models/m/2/model.py", "DEFAULT", None),
        ("x_0_0", "/models/x/1/model.py", "DEFAULT", None),
        # Not named like an instance, or like one of a group that the model does not have.
        ("m", "/models/m/1/model.py", "DEFAULT", None),
        ("m_0", "/models/m/1/model.py", "DEFAULT", None),
        ("m_7_0", "/models/m/1/model.py", "DEFAULT", None),
        ("", "", "DEFAULT", None),
        ("m_0_0", "1/model.py", "DEFAULT", None),
        # A backend written in python may run its own file: the group leads to the model.
        ("llm_0_0", f"{VLLM}/model.py", VLLM, key("llm")),
        ("llm_0_0", f"{VLLM}/model.py", f"{VLLM}/", key("llm")),
        ("llm_0_0", "/models/llm/1/model.py", VLLM, key("llm")),
        ("llm_9_0", f"{VLLM}/model.py", VLLM, None),
        ("llm_0_0", "/opt/other/model.py", "/opt/other", None),
    ],
)
def test_a_stub_is_of_the_model_that_its_command_line_names(
    name: str, path: str, runtime: str, expected: ModelVersion | None
) -> None:
    """By the model's file, or by the instance's name where the backend runs a file of its own."""
    arguments = stub(1, name, "m", path=path, runtime=runtime).arguments
    assert owner(arguments, models(python_model("m"), LLM)) == expected


def test_a_group_named_by_its_author_leads_to_its_model() -> None:
    """Group names are free."""
    loaded = models(config("m", group("fast"), group("slow_1")))
    for name in ("fast_0", "slow_1_0"):
        assert owner(stub(1, name, "m").arguments, loaded) == key("m")


def test_a_model_without_a_configuration_has_no_backend_to_compare() -> None:
    """Right after a start nothing but the path can be told."""
    loaded = serving(LLM, server=None, rows=()).book.models
    assert owner(stub(1, "llm_0_0", path=f"{VLLM}/model.py", runtime=VLLM).arguments, loaded) is None
    seen = World(rows=serving(LLM, server=None).rows).polls()
    assert (
        owner(stub(1, "llm_0_0", path=f"{VLLM}/model.py", runtime=VLLM).arguments, seen.book.models) is None
    )


def test_a_repository_that_was_copied_from_an_object_store_is_told_by_version_and_group() -> None:
    """Its folder has a random name, which is no model's; two that fit are none."""
    arguments = stub(1, "m_0_0", path="/tmp/folderAbC123/1/model.py").arguments
    assert owner(arguments, models(python_model("m"), LLM)) == key("m")
    assert owner(arguments, models(python_model("m", version="2"))) is None
    assert owner(arguments, models(config("m", group("m_0"), backend="onnxruntime"))) is None
    assert owner(arguments, models(config("m", group("g")), config("n", group("g")))) is None
    same = (config("m", group("m_0")), config("n", group("m_0")))
    assert owner(arguments, models(*same)) is None


@given(name=st.text(max_size=12), path=st.text(max_size=20), runtime=st.text(max_size=12))
def test_any_command_line_is_read_without_a_fault(name: str, path: str, runtime: str) -> None:
    """Garbage has no owner among the loaded, or one of them."""
    found = owner(stub(1, name, "m", path=path, runtime=runtime).arguments, models(python_model("m"), LLM))
    assert found in (None, key("m"), key("llm"))


@pytest.mark.parametrize(
    ("instance", "expected"),
    [("m_0_0", 1), ("wide_0", 3), ("wide_1", 3), ("unknown_0", 1), ("m", 1), ("", 1)],
)
def test_an_instance_name_is_carried_once_for_each_gpu_of_its_group(instance: str, expected: int) -> None:
    """Triton numbers counts, not GPUs."""
    given_config = config("m", group("m_0"), group("wide", InstanceKind.GPU, 2, 0, 1, 2))
    assert copies(instance, given_config) == expected
    assert copies(instance, None) == 1


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (python_model("m", 3), 3),
        (python_model("m", 2, InstanceKind.GPU, (0, 1)), 4),
        (config("m", group("a", InstanceKind.CPU, 2), group("b", InstanceKind.GPU, 1, 0)), 3),
        (ensemble("m", "x"), None),
        (config("m", group("m_0"), backend="onnxruntime"), None),
    ],
)
def test_the_configuration_says_how_many_stubs_there_should_be(
    model: ModelConfig, expected: int | None
) -> None:
    """One for each count and GPU, of backends that have stubs."""
    seen = serving(model)
    assert seen.book.stubs.expected(key("m"), model) == expected
    assert seen.book.stubs.expected(key("m"), None) is None


def test_a_backend_that_was_seen_with_stubs_is_expected_to_have_them() -> None:
    """A vLLM stub counts like a python model's, and after its death too."""
    seen = serving(LLM).with_stub(stub(50, "llm_0_0", path=f"{VLLM}/model.py", runtime=VLLM)).scans()
    assert seen.book.stubs.expected(key("llm"), LLM) == 1
    died = seen.exits(50, signal=9).polls().scans()
    assert died.book.stubs.expected(key("llm"), LLM) == 1
    assert died.reasons()[0] == "StubDead"


def test_stubs_are_told_in_order_of_their_instances() -> None:
    """Whatever order ``/proc`` has."""
    seen = serving(python_model("m", 3))
    turned = World(server=server(), rows=seen.rows, configs=seen.configs, stubs=seen.stubs[::-1])
    told = [each.stub.arguments.name for each in turned.scans().polls().asks().alive("m")]
    assert told == ["m_0_0", "m_0_1", "m_0_2"]


# Stopped


def stopped(seen: World) -> tuple[float | None, int]:
    """Since when (in seconds of the world's clock) its one stub is stopped, and in how many looks."""
    (only,) = seen.alive("m")
    since = only.stopped_since
    return (None if since is None else since.mono - 1000.0, only.stopped_looks)


def in_state(seen: World, state: ProcessState, ticks: int = 10) -> World:
    """The stub is scanned in this state."""
    return seen.with_stub(stub(100, "m_0_0", state=state, ticks=ticks)).scans()


def test_a_stopped_stub_is_stopped_from_the_first_look_on() -> None:
    """State T is a fact at once, and its beginning is kept."""
    seen = in_state(serving(python_model("m")), ProcessState.STOPPED)
    began = seen.now.mono - 1001.0
    assert stopped(seen) == (began, 1)
    assert stopped(seen.scans().scans()) == (began, 3)


@pytest.mark.parametrize("state", [ProcessState.RUNNING, ProcessState.SLEEPING])
def test_a_stub_that_goes_on_is_stopped_no_more(state: ProcessState) -> None:
    """And starts anew when it stops again."""
    seen = in_state(in_state(serving(python_model("m")), ProcessState.STOPPED).scans(), state)
    assert stopped(seen) == (None, 0)
    assert stopped(in_state(seen, ProcessState.STOPPED))[1] == 1


def test_uninterruptible_sleep_counts_from_the_second_look_without_a_tick() -> None:
    """A disk access is a moment; a hang is the same moment at two looks."""
    seen = in_state(serving(python_model("m")), ProcessState.UNINTERRUPTIBLE)
    assert stopped(seen) == (None, 0)
    assert stopped(seen.scans())[1] == 1
    assert stopped(seen.scans().scans())[1] == 2
    moved = in_state(seen, ProcessState.UNINTERRUPTIBLE, ticks=11)
    assert stopped(moved) == (None, 0)
    first = World(server=server(), rows=seen.rows, stubs=seen.stubs).polls().scans()
    assert stopped(first) == (None, 0)
