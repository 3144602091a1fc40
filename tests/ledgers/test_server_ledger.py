"""Which tritonserver is this, was it ever up, and when does the next epoch begin?"""

from __future__ import annotations

import pytest

from probe.facts.processes import ProcessId, ProcessState
from probe.facts.triton import CallFailure, Failure
from probe.ledgers.book import Book, age
from probe.ledgers.server import ServerLedger
from tests.worlds import START, World, at, failing, python_model, row, server, serving

M = python_model("m")
REFUSED = (failing("live", Failure.REFUSED),)


def ledger(seen: World) -> ServerLedger:
    """What is known of the server."""
    return seen.book.server


def test_nothing_is_known_before_the_first_look() -> None:
    """No epoch, and unknown is None."""
    empty = ServerLedger()
    assert (empty.epoch, empty.alive, empty.reachable, empty.refused) == (0, None, None, False)


def test_the_first_process_begins_the_first_epoch() -> None:
    """Scanned again, it is the same."""
    seen = World(server=server()).scans()
    assert (ledger(seen).epoch, ledger(seen).alive, ledger(seen).up) == (1, True, False)
    assert ledger(seen).began == START
    again = seen.scans()
    assert ledger(again).epoch == 1
    assert ledger(again).seen == START.shifted(1)


def test_a_server_is_up_when_it_answers() -> None:
    """The first answer, whatever it says."""
    seen = World(server=server()).scans().fails(Failure.REFUSED)
    assert (ledger(seen).up, ledger(seen).reachable, ledger(seen).refused) == (False, False, True)
    seen = seen.polls(live=False, ready=False)
    assert (ledger(seen).up, ledger(seen).reachable, ledger(seen).refused) == (True, True, False)
    assert ledger(seen).version == "2.51.0"
    assert ledger(seen.polls(version=None)).version == "2.51.0"


def test_a_server_that_is_only_reached_begins_an_epoch_too() -> None:
    """Where its processes can not be seen; a refused port is no server yet."""
    seen = World().scans().fails(Failure.REFUSED)
    assert ledger(seen).epoch == 0
    assert ledger(seen).alive is None
    seen = seen.polls()
    assert (ledger(seen).epoch, ledger(seen).alive, ledger(seen).up) == (1, None, True)


def test_a_server_first_seen_after_it_answered_is_the_same() -> None:
    """It becomes visible (a shared namespace after all): no new epoch, nothing forgotten."""
    seen = World(rows=(row("m"),), configs=(M,)).scans().polls().asks()
    visible = seen.having(server=server()).scans()
    assert ledger(visible).epoch == 1
    assert ledger(visible).up
    assert ledger(visible).last is ledger(seen).last
    assert visible.record("m").config == M


@pytest.mark.parametrize("pid", [5, 6], ids=["same pid", "another pid"])
@pytest.mark.parametrize("told", [True, False], ids=["exit told", "between two scans"])
def test_another_process_is_another_epoch(pid: int, *, told: bool) -> None:
    """A pid alone names nobody; verdicts go, Triton has not answered in the new epoch."""
    seen = serving(M).with_row(row("m", success=4)).polls(gpu_memory_used=(("GPU-a", 1),)).contained()
    assert ledger(seen).gpus_told
    if told:
        seen = seen.server_exits(code=1)
    new = seen.having(server=server(pid=pid, start=9000), stubs=()).scans()
    assert (ledger(new).epoch, ledger(new).up, ledger(new).alive) == (2, False, True)
    forgotten = ("gone", "exit_status", "told", "last", "version", "ready")
    assert [getattr(ledger(new), name) for name in forgotten] == [None] * len(forgotten)
    assert not ledger(new).gpus_told
    assert new.book.models.records == {}
    assert new.book.stubs.live == {}
    assert new.book.container is None
    back = new.with_row(row("m", success=1)).polls()
    assert back.record("m").traffic.success == 5
    assert back.record("m").config is None


def test_a_port_that_opens_again_unseen_is_another_epoch() -> None:
    """Where processes can not be seen, refused and then answered is a restart; a timeout is not."""
    seen = serving(M, server=None)
    slow = seen.fails(Failure.TIMEOUT).polls()
    assert ledger(slow).epoch == 1
    again = seen.fails(Failure.REFUSED).fails(Failure.TIMEOUT).polls(version=None, statistics=None)
    assert ledger(again).epoch == 2
    assert ledger(again).version is None
    assert again.book.models.records == {}
    assert ledger(again).began == again.now.shifted(-1)


def test_a_port_that_opens_again_on_a_process_that_stayed_is_none() -> None:
    """The process is the identity where it can be seen."""
    seen = serving(M).fails(Failure.REFUSED).polls()
    assert ledger(seen).epoch == 1


def test_an_exit_ends_the_server_and_not_the_epoch() -> None:
    """Until the next process: what was known of it is what is told of its end."""
    seen = serving(M).server_exits(signal=9)
    assert (ledger(seen).epoch, ledger(seen).up, ledger(seen).alive) == (1, True, False)
    assert ledger(seen).exit_status == 9
    assert ledger(seen.tells_exit(ProcessId(5, 50), code=3)).exit_status == 9
    assert ledger(seen.scans()).gone == ledger(seen).gone


@pytest.mark.parametrize("how", ["no process", "zombie", "dead"])
def test_a_scan_tells_of_an_end_that_nobody_told(how: str) -> None:
    """A zombie tritonserver serves nobody."""
    gone = None if how == "no process" else server(state=ProcessState(how))
    seen = serving(M).having(server=gone)
    began = seen.now
    seen = seen.scans().scans()
    assert ledger(seen).gone == began
    assert ledger(seen).alive is False


def test_a_scan_without_any_server_is_no_end() -> None:
    """Nobody was there who could go."""
    assert ledger(World().scans()).gone is None


def test_a_process_that_one_scan_missed_never_left() -> None:
    """Seen again with the same start time, it is the same server in the same epoch."""
    whole = serving(M)
    back = whole.having(server=None).scans().having(server=whole.server).scans()
    assert (ledger(back).gone, ledger(back).epoch, ledger(back).alive) == (None, 1, True)
    assert "m/1" in {str(each) for each in back.book.models.records}


def test_a_scan_that_began_before_the_exit_does_not_revive_it() -> None:
    """The kernel's word is later."""
    whole = serving(M)
    gone = whole.server_exits(signal=9)
    assert ledger(gone.having(server=whole.server).later(-2).scans()) == ledger(gone)


def test_both_liveness_calls_must_time_out_to_be_a_miss() -> None:
    """In a row; any other answer ends the row."""
    seen = serving(M)
    assert ledger(seen.fails(Failure.TIMEOUT).fails(Failure.TIMEOUT)).misses == 2
    assert ledger(seen.fails(Failure.TIMEOUT).fails(Failure.TIMEOUT, Failure.REFUSED)).misses == 0
    assert ledger(seen.fails(Failure.TIMEOUT).polls()).misses == 0
    halves = seen.polls(live=None, failures=(failing("live", Failure.TIMEOUT),))
    assert ledger(halves).misses == 0


def test_where_http_never_answered_grpc_alone_makes_a_miss() -> None:
    """It can not be asked to agree; once it answered in this epoch, it must."""
    seen = World(server=server()).scans().polls(http_live=None)
    assert not ledger(seen).http_up
    assert ledger(seen.fails(Failure.TIMEOUT, Failure.REFUSED)).misses == 1
    heard = seen.polls(http_live=False)
    assert ledger(heard).http_up
    assert ledger(heard.fails(Failure.TIMEOUT, Failure.REFUSED)).misses == 0
    new = heard.server_exits().having(server=server(pid=9)).scans()
    assert not ledger(new).http_up


def test_refusals_of_http_are_counted_while_grpc_answers() -> None:
    """In a row, and only of an HTTP that had answered."""
    refusing = {"http_live": None, "failures": (failing("http_live", Failure.REFUSED),)}
    seen = serving(M).polls(**refusing).polls(**refusing)
    assert ledger(seen).http_refusals == 2
    assert ledger(seen.polls()).http_refusals == 0
    assert ledger(seen.fails(Failure.REFUSED)).http_refusals == 0
    assert ledger(World().scans().polls(**refusing)).http_refusals == 0


@pytest.mark.parametrize("failure", list(Failure))
def test_only_a_definite_failure_replaces_what_was_told(failure: Failure) -> None:
    """A missing sample neither raises nor clears."""
    seen = serving(M)
    before = ledger(seen).told
    after = ledger(seen.fails(failure))
    definite = failure in (Failure.REFUSED, Failure.EXITING, Failure.RESTRICTED, Failure.TLS)
    assert (after.told is not before) == definite
    assert after.last is not before
    assert after.ready is None
    assert after.refused == (failure is Failure.REFUSED)


def test_gpus_that_triton_showed_once_stay_shown() -> None:
    """A scrape that fails takes no GPU away; a new epoch does."""
    seen = serving(M, server=None).polls(gpu_memory_used=(("GPU-a", 1),))
    assert ledger(seen.polls()).gpus_told
    assert not ledger(seen.fails(Failure.REFUSED).polls()).gpus_told


# The book


def test_polls_before_this_epoch_teach_nothing() -> None:
    """They were answered by the server before."""
    seen = serving(M).server_exits(code=0).having(server=server(pid=9), stubs=()).scans()
    late = seen.later(-5)
    assert late.polls().book == seen.book
    assert late.asks().book == seen.book
    assert late.fails(Failure.REFUSED).book == seen.book


def test_what_a_dead_server_answered_teaches_nothing_of_models() -> None:
    """Its last answers may arrive after its exit, and it is not up by them."""
    seen = serving(M).server_exits(signal=9)
    late = seen.with_row(row("m", success=9), row("n")).polls().asks()
    assert late.book.models == seen.book.models
    early = World(server=server(), rows=(row("m"),)).scans().server_exits(code=1).polls()
    assert not ledger(early).up
    assert early.book.models.records == {}


def test_an_inquiry_is_folded_where_no_server_was_ever_reached() -> None:
    """A fold of its own: nothing tells it from a good one."""
    assert World().asks(index=()).book.models.asked == START


def test_the_container_and_the_processes_are_the_last_that_were_read() -> None:
    """Replaced whole."""
    seen = serving(M).contained(cgroup=2)
    assert seen.book.container is not None
    assert seen.book.container.cgroup == 2
    assert seen.book.processes is not None
    assert seen.book.processes.observed == START.shifted(3)


def test_age_is_seconds_since_then_and_never_negative() -> None:
    """A moment that never was has none."""
    assert age(at(5), at(2)) == 3.0
    assert age(at(2), at(5)) == 0.0
    assert age(at(2), None) is None


def test_how_the_poll_failed_is_told_by_call() -> None:
    """None for what was not made."""
    told = serving(M).polls(failures=(CallFailure("ready", Failure.TIMEOUT, "", 2.0),)).book.server.last
    assert told is not None
    assert told.failed("ready") is not None
    assert told.failed("live") is None
    assert Book().server.last is None
