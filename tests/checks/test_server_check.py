"""Is Triton there, does it answer, and is every cause of its silence told apart?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.checks import visibility
from probe.checks.server import judge
from probe.facts.findings import SERVER
from probe.facts.gates import Gate
from probe.facts.processes import ProcessState
from probe.facts.triton import Failure
from probe.settings import Settings
from probe.settings.schema import TlsSettings, TritonSettings
from tests.worlds import World, failing, python_model, row, server, serving

M = python_model("m")
UP = serving(M)
UNSEEN = serving(M, server=None)


def reasons(seen: World) -> list[str]:
    """What this check says."""
    return seen.reasons(judge)


def test_a_triton_that_answers_all_is_fine() -> None:
    """Nothing is claimed, seen or unseen."""
    assert reasons(UP) == reasons(UNSEEN) == []


# Not yet


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (World(), "first look at Triton"),
        (World(server=server()).scans(), "first look at Triton"),
        (World().polls(), "first look at processes"),
        (World().scans().fails(Failure.ERROR, detail="boom"), "has not answered yet: boom"),
        (World().scans().polls(live=None), "has not answered yet."),
        (World().scans().polls(), "has not told of its models yet."),
        (World().scans().polls(statistics=None).asks(), "has not told of its models yet."),
        (
            World().scans().polls(statistics=None, failures=(failing("statistics", Failure.TIMEOUT),)),
            "has not told of its models yet: statistics: statistics: timeout.",
        ),
    ],
)
def test_before_everything_was_told_once_it_is_initializing(seen: World, said: str) -> None:
    """The message says what is waited for."""
    claim = seen.only("Initializing")
    assert said in claim.message
    assert claim.subject == SERVER
    assert reasons(seen) == ["Initializing"]


def test_models_are_told_with_statistics_and_an_inquiry() -> None:
    """Both once, whatever the inquiry brought."""
    seen = World(rows=(row("m"),)).scans().polls()
    assert reasons(seen) == ["Initializing"]
    assert reasons(seen.asks(configs=(), index=None)) == []


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.EXITING])
def test_ports_that_never_opened_are_a_start(failure: Failure, *, visible: bool) -> None:
    """Whether the process can be seen or not; live is never failed by it."""
    claim = World(server=server() if visible else None).scans().fails(failure).only("TritonStarting")
    assert ("(pid 5)" in claim.message) == visible
    assert ("no tritonserver process" in claim.message) != visible
    assert claim.evidence == {"pid": 5 if visible else None, "grpc": "127.0.0.1:8001"}


@pytest.mark.parametrize(
    ("others", "said"), [(1, "1 tritonserver process to be"), (2, "2 tritonserver processes")]
)
def test_tritons_that_were_told_other_ports_are_named(others: int, said: str) -> None:
    """The address may be the wrong one."""
    claim = World().scans(others=others).fails(Failure.REFUSED).only("TritonStarting")
    assert said in claim.message
    assert "triton.grpc has to be their --grpc-port" in claim.message


def test_a_triton_that_says_it_is_not_live_is_starting() -> None:
    """Invalid, initializing, or failed to."""
    seen = World(server=server()).scans().polls(live=False)
    assert "not live" in seen.only("TritonStarting").message


def test_http_that_answers_beside_a_refused_grpc_is_a_wrong_address() -> None:
    """The remedy names the setting."""
    for seen in (World().scans(), World(server=server()).scans(), UP):
        refused = seen.polls(live=None, failures=(failing("live", Failure.REFUSED),))
        claim = refused.only("TritonStarting")
        assert "answers over HTTP at 127.0.0.1:8000" in claim.message
        assert "triton.grpc" in claim.remedy


def test_a_start_that_ended_says_how() -> None:
    """A model that fails to load ends Triton with code 1 by default."""
    seen = World(server=server()).scans().fails(Failure.REFUSED).server_exits(code=1)
    claim = seen.only("TritonStarting")
    assert "ended with exit code 1 before its ports opened" in claim.message
    assert "--exit-on-error" in claim.remedy
    # It is no look at Triton that tells it: there need not have been one.
    early = World(server=server()).scans().server_exits(signal=9)
    assert "ended, killed by signal 9 before" in early.only("TritonStarting").message
    assert reasons(early) == reasons(early.fails(Failure.ERROR)) == ["TritonStarting"]


# Down


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"signal": 9}, "its process is gone, killed by signal 9."),
        ({"code": 1}, "its process is gone with exit code 1."),
        ({}, "its process is gone."),
    ],
)
def test_a_triton_that_was_up_and_ended_is_down(how: dict[str, int], said: str) -> None:
    """With the moment of its end, and how, where the kernel told."""
    seen = UP.server_exits(**how)
    claim = seen.only("TritonDown")
    assert said in claim.message
    assert claim.event_at == claim.observed == UP.now
    assert claim.spares == frozenset()
    assert seen.reasons() == ["TritonDown"]
    assert seen.fails(Failure.REFUSED).scans().polls().reasons() == ["TritonDown"]


@pytest.mark.parametrize("state", [ProcessState.ZOMBIE, ProcessState.DEAD])
def test_a_triton_that_is_a_zombie_is_down(state: ProcessState) -> None:
    """It only waits for its parent."""
    assert UP.having(server=server(state=state)).scans().reasons() == ["TritonDown"]


@pytest.mark.parametrize(
    ("failure", "said"),
    [(Failure.REFUSED, "no longer listens at 127.0.0.1:8001"), (Failure.EXITING, "says that it is exiting")],
)
def test_ports_that_close_on_a_process_that_stays_are_a_shutdown(failure: Failure, said: str) -> None:
    """It may take --exit-timeout-secs, and is no event with a time."""
    claim = UP.fails(failure).only("TritonDown")
    assert said in claim.message
    assert "its process is still there" in claim.message
    assert claim.event_at is None


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.EXITING])
def test_where_processes_can_not_be_seen_refused_ports_are_a_start(failure: Failure) -> None:
    """Nobody can say that it died, so live is never failed."""
    seen = UNSEEN.fails(failure)
    assert reasons(seen) == ["TritonStarting"]
    assert reasons(seen.fails(Failure.TIMEOUT, Failure.ERROR)) == ["TritonStarting"]


# Hung


def test_both_liveness_calls_timing_out_is_a_hang() -> None:
    """The number of looks in a row is told, and what the process does."""
    seen = UP.having(server=server(state=ProcessState.STOPPED)).scans()
    seen = seen.fails(Failure.TIMEOUT).fails(Failure.TIMEOUT)
    claim = seen.only("TritonHung")
    assert "(pid 5) is alive and is stopped" in claim.message
    assert "within 2 s, 2 looks in a row" in claim.message
    assert claim.evidence == {"pid": 5, "state": "stopped", "misses": 2}
    assert claim.spares == frozenset()
    assert claim.observed == seen.now.shifted(-1)
    assert reasons(seen.polls()) == []


def test_a_hang_in_a_frozen_cgroup_names_the_cgroup() -> None:
    """Who froze it can thaw it; continuing the process would do nothing."""
    seen = UP.having(server=server(frozen="/pods/triton")).scans().fails(Failure.TIMEOUT)
    claim = seen.only("TritonHung")
    assert "is alive and is frozen by the cgroup /pods/triton;" in claim.message
    assert "thaw" in claim.remedy
    assert claim.evidence == {"pid": 5, "state": "frozen", "misses": 1, "cgroup": "/pods/triton"}


@pytest.mark.parametrize(
    ("state", "http", "spared"),
    [
        (ProcessState.SLEEPING, True, False),
        (ProcessState.SLEEPING, None, True),
        (ProcessState.STOPPED, True, False),
        (ProcessState.STOPPED, None, False),
        (ProcessState.FROZEN, None, False),
        (None, True, True),
        (None, None, True),
    ],
)
def test_a_hang_fails_live_only_where_a_restart_would_surely_cure_it(
    state: ProcessState | None, *, http: bool | None, spared: bool
) -> None:
    """The process is seen and HTTP, which had answered, agrees; or it is stopped, which is past doubt."""
    found = None if state is None else server(state=state)
    seen = World(server=found).scans().polls(http_live=http)
    claim = seen.fails(Failure.TIMEOUT).only("TritonHung")
    assert claim.spares == (frozenset((Gate.LIVE,)) if spared else frozenset())
    assert ("HTTP never answered" in claim.message) == (http is None)
    assert ("accepts connections" in claim.message) == (state is None)
    assert claim.evidence["state"] == (None if state is None else state.value)


@pytest.mark.parametrize("http", [each for each in Failure if each is not Failure.TIMEOUT])
def test_one_liveness_call_timing_out_is_no_hang(http: Failure) -> None:
    """GRPC has one control thread; HTTP's word counts too, where it ever gave one."""
    assert reasons(UP.fails(Failure.TIMEOUT, http)) == []
    deaf = World(rows=(row("m"),), server=server()).scans().polls(http_live=None).asks()
    assert reasons(deaf.fails(Failure.TIMEOUT, http)) == ["TritonHung"]


def test_a_hang_displaces_no_claim_that_stands() -> None:
    """It waits for its looks; what was told before still fails its gates meanwhile."""
    assert reasons(World(server=server()).scans().fails(Failure.TIMEOUT)) == ["TritonHung", "Initializing"]
    restricted = UP.asks(index=None, failures=(failing("index", Failure.RESTRICTED),))
    assert reasons(restricted.fails(Failure.TIMEOUT)) == ["TritonHung", "ProtocolRestricted"]
    refused = World(server=server()).scans().fails(Failure.REFUSED).fails(Failure.TIMEOUT)
    assert reasons(refused) == ["TritonHung", "TritonStarting"]


# Draining


def test_http_that_refuses_after_it_had_answered_is_a_shutdown() -> None:
    """Triton stops HTTP first; gRPC answers on, so live is spared, and one look is none."""
    refusing = {"http_live": None, "failures": (failing("http_live", Failure.REFUSED),)}
    seen = UP.polls(**refusing)
    assert reasons(seen) == []
    claim = seen.polls(**refusing).only("TritonDown")
    assert claim.spares == {Gate.LIVE}
    assert "refuses connections there now, while gRPC still answers" in claim.message
    assert claim.evidence == {"pid": 5, "http": "127.0.0.1:8000"}
    assert reasons(seen.polls(**refusing).polls()) == []
    assert reasons(seen.polls(**refusing).polls(**refusing).fails(Failure.EXITING)) == ["TritonDown"]


def test_http_that_never_answered_drains_nothing() -> None:
    """--allow-http=false, or another port."""
    refusing = {"http_live": None, "failures": (failing("http_live", Failure.REFUSED),)}
    seen = World(server=server(), rows=(row("m"),)).scans().polls(**refusing).asks()
    assert reasons(seen.polls(**refusing).polls(**refusing)) == []


# Restricted and TLS


@pytest.mark.parametrize("call", ["ready", "statistics"])
def test_a_restricted_call_of_the_poll_is_told(call: str) -> None:
    """With the header that Triton names."""
    text = "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'"
    seen = UP.polls(statistics=None, failures=(failing(call, Failure.RESTRICTED, text),))
    claim = seen.only("ProtocolRestricted")
    assert text in claim.message
    assert claim.evidence == {"detail": text}
    assert "triton.headers" in claim.remedy


@pytest.mark.parametrize("call", ["metadata", "http_live", "metrics"])
def test_a_restricted_call_that_only_informs_is_not_told(call: str) -> None:
    """Its answer has a substitute."""
    assert reasons(UP.polls(failures=(failing(call, Failure.RESTRICTED),))) == []


def test_a_restricted_inquiry_is_told() -> None:
    """Pytriton restricts the repository by default."""
    seen = UP.asks(index=None, failures=(failing("index", Failure.RESTRICTED, "need a header"),))
    assert "need a header" in seen.only("ProtocolRestricted").message
    assert reasons(seen.asks()) == []


def test_a_triton_that_restricts_health_is_not_taken_for_down() -> None:
    """The same code as a refused port, with another text."""
    for seen in (UP, UNSEEN):
        assert reasons(seen.fails(Failure.RESTRICTED)) == ["ProtocolRestricted"]


@pytest.mark.parametrize(
    ("failure", "reason"), [(Failure.RESTRICTED, "ProtocolRestricted"), (Failure.TLS, "TlsMismatch")]
)
def test_a_triton_that_refuses_from_the_start_has_not_told_of_its_models(
    failure: Failure, reason: str
) -> None:
    """Nothing was ever observed, so startup is not done either."""
    assert reasons(World().scans().fails(failure)) == [reason, "Initializing"]
    assert reasons(UP.fails(failure)) == [reason]


@pytest.mark.parametrize(
    ("tls", "said"), [(TlsSettings(), "without TLS"), (TlsSettings(enabled=True), "with TLS")]
)
def test_a_tls_mismatch_says_what_the_probe_speaks(tls: TlsSettings, said: str) -> None:
    """And what to make agree."""
    seen = World(settings=Settings(triton=TritonSettings(tls=tls))).scans()
    claim = seen.fails(Failure.TLS, detail="wrong version number").only("TlsMismatch")
    assert said in claim.message
    assert claim.message.endswith("wrong version number")
    assert claim.evidence == {"detail": "wrong version number"}
    assert "--grpc-use-ssl" in claim.remedy


# Ignorance restarts nothing


@given(
    visible=st.booleans(),
    looks=st.lists(st.tuples(st.sampled_from(Failure), st.sampled_from(Failure)) | st.none(), max_size=8),
)
def test_a_triton_that_can_not_be_seen_never_fails_live(
    looks: list[tuple[Failure, Failure] | None], *, visible: bool
) -> None:
    """Whatever its ports say; and where it is seen alive, only a hang or a shutdown may."""
    seen = World(server=server() if visible else None).scans()
    for look in looks:
        seen = seen.polls() if look is None else seen.fails(*look)
        for claim in seen.claims(judge):
            fails_live = claim.reason in ("TritonDown", "TritonHung") and Gate.LIVE not in claim.spares
            assert visible or not fails_live
        assert len(set(reasons(seen))) == len(reasons(seen)) <= 3


# Visibility


def test_a_triton_that_answers_and_can_not_be_seen_is_told() -> None:
    """With what can not be judged because of it, and the cure."""
    claim = UNSEEN.only("ProcessesNotShared")
    assert "can not be judged" in claim.message
    assert "shareProcessNamespace: true" in claim.remedy
    assert UNSEEN.book.server.seen == claim.observed


@pytest.mark.parametrize(
    "seen",
    [UP, UP.server_exits(), World().scans(), World().polls(), World().scans().fails(Failure.REFUSED)],
)
def test_nobody_is_missed_who_was_seen_or_does_not_answer(seen: World) -> None:
    """Before a scan, before an answer, and where it was ever seen."""
    assert seen.reasons(visibility.judge) == []
