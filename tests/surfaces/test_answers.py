from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.catalogue import CATALOGUE
from probe.facts.gates import Gate
from probe.surfaces import answers
from probe.surfaces.answers import Query, gate_answer
from probe.surfaces.plain import to_json
from tests.goldens import Golden
from tests.surfaces.snapshots import EVERYTHING, HOSTILE, SEEN, finding, initializing, model, snapshot

MODELS = ("bert", "resnet")


def text(answer: answers.GateAnswer, *, verbose: bool = False) -> str:
    """The body, for short."""
    return answer.text(verbose=verbose)


def test_an_open_gate_says_ok_and_nothing_else() -> None:
    """The plain body of an open gate is the two letters that scripts compare with."""
    answer = gate_answer(snapshot(), Gate.READY)

    assert answer.code == 200
    assert text(answer) == "ok"


def test_a_failing_gate_lists_one_line_a_finding() -> None:
    """503 with ``[-]Reason subject: message`` for each finding that fails this gate."""
    seen = snapshot(finding("StubDead", "bert", message="2 of 3 stubs ended."), finding("TritonHung"))

    answer = gate_answer(seen, Gate.READY)

    assert answer.code == 503
    assert text(answer) == (
        "[-]StubDead bert/1: 2 of 3 stubs ended.\n[-]TritonHung server: this is seen for 3 s.\n"
    )


@pytest.mark.parametrize("gate", list(Gate))
@pytest.mark.parametrize("case", ["everything", "open", "initializing"])
def test_verbose_bodies_are_golden(gate: Gate, case: str, golden: Golden) -> None:
    """Verbose bodies list every reason that can fail the gate and close with the outcome."""
    seen = {"everything": EVERYTHING, "open": snapshot(), "initializing": initializing()}[case]

    body = gate_answer(seen, gate).text(verbose=True)

    golden(f"gates/{gate}z-{case}.txt", body.encode())


def test_before_the_first_observation_only_live_is_open() -> None:
    """Ignorance never restarts anything, and never gets traffic."""
    codes = {gate: gate_answer(initializing(), gate).code for gate in Gate}

    assert codes == {Gate.LIVE: 200, Gate.READY: 503, Gate.STARTUP: 503}


def test_excluding_the_only_failing_reason_opens_the_answer() -> None:
    """``?exclude=`` leaves a reason out of code, body and JSON; since when that holds is unknown."""
    answer = gate_answer(EVERYTHING, Gate.READY, Query(exclude=("StubDead",)))

    assert (answer.code, text(answer), answer.object.since) == (200, "ok", None)
    assert "StubDead" not in text(answer, verbose=True)


def test_an_unknown_reason_to_exclude_is_a_warning_with_the_nearest() -> None:
    """A typo in ``?exclude=`` changes no code and says what was most likely meant."""
    answer = gate_answer(EVERYTHING, Gate.READY, Query(exclude=("stubded",)))

    assert answer.code == 503
    assert text(answer).startswith(
        'warn: no reason "stubded" to exclude, did you mean StubDead?\n[-]StubDead'
    )
    assert text(gate_answer(snapshot(), Gate.READY, Query(exclude=("zzz",)))) == (
        'warn: no reason "zzz" to exclude\nok\n'
    )


def test_thousands_of_unknown_reasons_are_counted() -> None:
    """A request line full of unknown names costs a bounded search and a bounded answer."""
    answer = gate_answer(snapshot(), Gate.READY, Query(exclude=tuple(f"R{each}" for each in range(2000))))

    assert len(answer.object.warnings) == 9
    assert answer.object.warnings[-1] == "and 1992 more unknown names"


def test_model_narrows_to_that_model_and_the_whole_server() -> None:
    """``?model=`` keeps that model's findings and those about no model."""
    seen = snapshot(finding("StubDead", "bert"), finding("ModelNotReady", "resnet"), finding("TritonHung"))

    found = gate_answer(seen, Gate.READY, Query(models=("bert",))).object.findings

    assert [each.reason for each in found] == ["StubDead", "TritonHung"]


def test_another_models_trouble_is_not_mine() -> None:
    """The gate is open for a model while another one fails it."""
    seen = snapshot(finding("StubDead", "bert"), models=(model("resnet"),))

    assert gate_answer(seen, Gate.READY, Query(models=("resnet",))).code == 200


@pytest.mark.parametrize("gate", list(Gate))
def test_an_unknown_model_is_missing(gate: Gate) -> None:
    """An unknown ``?model`` is a 503 with ModelMissing, on every gate, as text and as JSON."""
    answer = gate_answer(snapshot(models=(model(),)), gate, Query(models=("resnet", "nope")))

    assert answer.code == 503
    assert text(answer).startswith("[-]ModelMissing nope: ")
    assert [each.reason for each in answer.object.findings] == ["ModelMissing"]


def test_an_unknown_model_never_fails_live_before_triton_told_its_models() -> None:
    """While Triton is silent no name can be called unknown, and ignorance never restarts anything."""
    answer = gate_answer(initializing(), Gate.LIVE, Query(models=("resnet",)))

    assert answer.code == 200
    assert text(answer) == 'warn: model "resnet" is not known here\nok\n'


def test_a_required_missing_model_is_listed_once() -> None:
    """A ModelMissing finding that the engine already holds is not doubled by the question."""
    seen = snapshot(finding("ModelMissing", "nope"))
    seen = msgspec.structs.replace(seen, known_models=frozenset())

    assert len(gate_answer(seen, Gate.READY, Query(models=("nope",))).object.findings) == 1


def test_a_gate_that_the_engine_holds_open_stays_open_with_its_findings() -> None:
    """A spent restart budget answers 200 and still shows, when asked, what would fail."""
    seen = snapshot(finding("StubDead", "bert", (Gate.LIVE,)))
    held = msgspec.structs.replace(seen.status.gates[Gate.LIVE], ok=True)
    status = msgspec.structs.replace(seen.status, gates={**seen.status.gates, Gate.LIVE: held})
    answer = gate_answer(msgspec.structs.replace(seen, status=status), Gate.LIVE)

    assert text(answer) == "ok"
    assert "[-]StubDead bert/1" in text(answer, verbose=True)
    assert text(answer, verbose=True).endswith("livez check passed\n")


def test_verbose_livez_says_why_a_spent_budget_keeps_it_open() -> None:
    """Every check of it passes then, while something would fail it."""
    seen = snapshot(finding("RestartBudgetSpent", "", (Gate.READY,), message="/livez failed 3 times."))
    verbose = Query(verbose=True)
    told = "warn: RestartBudgetSpent server: /livez failed 3 times.\n"

    assert text(gate_answer(seen, Gate.LIVE, verbose), verbose=True).startswith(told)
    assert gate_answer(seen, Gate.LIVE, verbose).code == 200
    assert text(gate_answer(seen, Gate.LIVE)) == "ok"
    assert "warn:" not in text(gate_answer(seen, Gate.READY, verbose), verbose=True)


def test_a_gate_that_fails_without_a_finding_says_so() -> None:
    """A 503 is never without a line, even where the engine gave no reason."""
    seen = snapshot()
    held = msgspec.structs.replace(seen.status.gates[Gate.LIVE], ok=False)
    status = msgspec.structs.replace(seen.status, gates={**seen.status.gates, Gate.LIVE: held})
    answer = gate_answer(msgspec.structs.replace(seen, status=status), Gate.LIVE)

    assert (answer.code, text(answer)) == (503, "[-]livez fails, and no finding says why\n")


def test_hostile_names_stay_on_their_line() -> None:
    """Newlines and escapes in names are escaped: one finding is one line of valid UTF-8."""
    lines = text(gate_answer(HOSTILE, Gate.READY)).encode().splitlines()

    assert len(lines) == len(HOSTILE.status.gates[Gate.READY].findings)
    assert all(each.startswith(b"[-]StubDead ") for each in lines)


def test_the_json_object_is_the_gates_own() -> None:
    """Unasked for anything more, the JSON object is that of ``/status``."""
    found = msgspec.json.decode(to_json(gate_answer(EVERYTHING, Gate.READY).object))
    status: dict[str, Any] = msgspec.json.decode(to_json(EVERYTHING.status))

    assert found == status["gates"]["ready"]
    assert found["since"] == SEEN.isoformat().replace("+00:00", "Z")


def test_ages_grow_between_snapshots() -> None:
    """Uptime, ages and the time since a model's last success are told as of the request."""
    told = answers.status_now(EVERYTHING, EVERYTHING.taken.mono + 4.0, loop_age=0.25)

    assert told.probe.uptime_seconds == 64.0
    assert told.probe.loop_age_seconds == 0.25
    assert told.probe.sources["triton"].age_seconds == 5.0
    assert told.probe.sources["nvml"].age_seconds is None
    assert told.models[0].traffic.last_success_seconds_ago == 6.5


def test_ages_never_shrink() -> None:
    """A clock that was read before the snapshot was taken makes nothing younger."""
    told = answers.status_now(EVERYTHING, EVERYTHING.taken.mono - 4.0, loop_age=0.0)

    assert told.probe.uptime_seconds == 60.0


def test_health_tells_for_how_long_the_loop_is_stalled() -> None:
    """``/healthz`` fails with the number of seconds, and is ``ok`` otherwise."""
    assert answers.health(12.34, stalled=True) == (503, "loop has not turned for 12.3 s\n")
    assert answers.health(0.1, stalled=False) == (200, "ok")


findings_strategy = st.lists(
    st.builds(
        finding,
        st.sampled_from(sorted(CATALOGUE)),
        st.sampled_from(("", *MODELS)),
        st.lists(st.sampled_from(list(Gate)), unique=True).map(tuple),
    ),
    max_size=8,
)
queries = st.builds(
    Query,
    exclude=st.lists(st.sampled_from([*sorted(CATALOGUE), "Nonsense"]), max_size=4).map(tuple),
    models=st.lists(st.sampled_from(MODELS), max_size=2).map(tuple),
)
KNOWN = tuple(model(each) for each in MODELS)


@given(findings_strategy, st.sampled_from(list(Gate)))
def test_excluding_every_failing_reason_opens_any_gate(found: list[Any], gate: Gate) -> None:
    """Whatever is wrong, an answer that leaves all of it out is 200 ``ok``."""
    seen = snapshot(*found, models=KNOWN)
    failing = tuple({each.reason for each in found if gate in each.gates})

    answer = gate_answer(seen, gate, Query(exclude=failing))

    assert (answer.code, text(answer)) == (200, "ok")


@given(findings_strategy, st.sampled_from(list(Gate)), queries)
def test_a_finding_that_fails_not_this_gate_never_appears(found: list[Any], gate: Gate, query: Query) -> None:
    """However it is asked, an answer lists only findings that fail its gate and were not left out."""
    answer = gate_answer(snapshot(*found, models=KNOWN), gate, query)

    for each in answer.object.findings:
        assert gate in each.gates
        assert each.reason not in query.exclude
        assert not query.models or each.subject.model in ("", *query.models)
    assert (answer.code == 503) == bool(answer.object.findings)


@given(findings_strategy, st.sampled_from(list(Gate)), queries)
def test_narrowing_never_fails_an_open_gate(found: list[Any], gate: Gate, query: Query) -> None:
    """With known models, a narrower question is never answered worse than the whole one."""
    seen = snapshot(*found, models=KNOWN)

    assert gate_answer(seen, gate, query).code <= gate_answer(seen, gate).code


@given(findings_strategy, st.sampled_from(list(Gate)), queries)
def test_verbose_marks_agree_with_the_code(found: list[Any], gate: Gate, query: Query) -> None:
    """A verbose body has a ``[-]`` exactly where the code is 503, and each reason has one mark."""
    answer = gate_answer(snapshot(*found, models=KNOWN), gate, query)

    lines = text(answer, verbose=True).splitlines()

    assert any(each.startswith("[-]") for each in lines) == (answer.code == 503)
    assert lines[-1] == f"{gate}z check {'passed' if answer.code == 200 else 'failed'}"
    passed = {each[3:].split(" ")[0] for each in lines if each.startswith("[+]")}
    failed = {each[3:].split(" ")[0] for each in lines if each.startswith("[-]")}
    assert not passed & failed


def test_an_unknown_model_never_fails_live_while_the_repository_is_not_told() -> None:
    """Triton may have it all the same: only ready models are known without the repository's index."""
    seen = msgspec.structs.replace(snapshot(models=(model(),)), repository_told=False)

    assert gate_answer(seen, Gate.LIVE, Query(models=("nope",))).code == 200
    assert gate_answer(seen, Gate.READY, Query(models=("nope",))).code == 503


@pytest.mark.parametrize("ready", [False, None])
def test_who_asks_for_a_model_that_is_not_ready_is_told_so(ready: bool | None) -> None:  # noqa: FBT001
    """Required or not; the gate as a whole is not failed by it, and no other gate is."""
    loading = msgspec.structs.replace(model(), ready=ready, state="loading")
    seen = snapshot(models=(loading,))
    answer = gate_answer(seen, Gate.READY, Query(models=("resnet",)))

    assert answer.code == 503
    assert text(answer) == "[-]ModelNotReady resnet: no version of it is ready (state: loading)\n"
    assert gate_answer(seen, Gate.READY, Query()).code == 200
    assert gate_answer(seen, Gate.LIVE, Query(models=("resnet",))).code == 200
    assert gate_answer(seen, Gate.READY, Query(models=("resnet",), exclude=("ModelNotReady",))).code == 200
