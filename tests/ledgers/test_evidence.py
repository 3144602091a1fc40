"""How far are NVML's process lists to be trusted here?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.facts.models import InstanceKind
from probe.facts.nvml import Gpu, NvmlState
from probe.facts.placement import Evidence, EvidenceMode
from probe.ledgers.evidence import EvidenceLedger, family_pids
from probe.ledgers.strangers import Strangers
from tests.worlds import GIB, SERVER_PID, World, gpu, process, python_model, server, serving, stub

ON_CPU = python_model("m", 2)
ON_GPU = python_model("m", 2, InstanceKind.GPU, (0,))


def mode(seen: World) -> str:
    """The evidence mode in force."""
    return seen.book.evidence.evidence.mode.value


def why(seen: World) -> str:
    """The sentence with it."""
    return seen.book.evidence.evidence.why


def test_before_any_look_there_is_no_nvml() -> None:
    """Ignorance proves nothing, in an epoch and after it."""
    empty = EvidenceLedger()
    assert empty.evidence.mode is EvidenceMode.NO_NVML
    assert empty.forgotten() == empty


@pytest.mark.parametrize(
    ("gpus", "expected", "said"),
    [
        ([], "no_nvml", "shows no GPU"),
        ([gpu()], "blind", "no process list on any GPU"),
        ([gpu(processes={})], "blind", "no process"),
        ([gpu(processes={7: GIB})], "blind", "other processes only"),
        ([gpu(processes={100: GIB})], "full", "lists 1 of Triton's processes"),
        ([gpu(processes={100: None, 101: GIB})], "full", "lists 2 of Triton's processes"),
        ([gpu(processes={SERVER_PID: GIB})], "full", "by their pids here, with memory"),
        ([gpu(processes={100: None})], "membership", "no memory figure (driver 570.86)"),
        ([gpu(processes={100: 0})], "membership", "no memory figure"),
        ([gpu(), gpu("GPU-b", {101: GIB})], "full", "lists 1"),
        ([gpu(processes={100: 1}), gpu("GPU-b", {100: 1})], "full", "lists 2"),
    ],
)
def test_the_mode_is_measured_by_what_lists_say_of_our_own(gpus: list[Gpu], expected: str, said: str) -> None:
    """Only a list that names one of ours, by its pid here, can be read for absence."""
    seen = serving(ON_CPU).looks(*gpus)
    assert mode(seen) == expected
    assert said in why(seen)
    proves = seen.book.evidence.evidence.lists_prove_absence
    assert proves == (expected in ("full", "membership"))


def test_an_unknown_driver_is_said_to_be_unknown() -> None:
    """No release is made up."""
    seen = serving(ON_CPU).looks(gpu(processes={100: None}), driver_version=None)
    assert "driver of unknown release" in why(seen)


def test_a_list_without_a_triton_that_resolved_a_gpu_does_not_show_triton() -> None:
    """A KIND_GPU model means a CUDA context: a list without it is one that hides it."""
    assert "until Triton itself is seen" in why(serving(ON_CPU).looks(gpu(processes={})))
    assert "these lists do not show" in why(serving(ON_GPU).looks(gpu(processes={})))
    unread = serving(ON_GPU).having(configs=())
    fresh = World(server=unread.server, rows=unread.rows).scans().polls()
    assert "until Triton itself is seen" in why(fresh.looks(gpu(processes={})))


@pytest.mark.parametrize("hidden", ["never scanned", "never seen", "gone"])
def test_where_triton_is_not_to_be_seen_no_list_can_be_matched(hidden: str) -> None:
    """There is no pid to look for."""
    seen = World(server=server() if hidden == "gone" else None)
    if hidden != "never scanned":
        seen = seen.scans()
    if hidden == "gone":
        seen = seen.having(server=None).scans()
    seen = seen.polls().looks(gpu(processes={100: GIB}))
    assert mode(seen) == "blind"
    assert "can not be seen from here" in why(seen)


def test_the_family_is_the_server_its_stubs_and_all_below() -> None:
    """VLLM's engine core holds the memory, not its stub."""
    seen = serving(ON_CPU).with_stub(stub(200, "v_0_0", workers=(201, 202))).scans()
    assert family_pids(seen.book.processes) == {SERVER_PID, 100, 101, 200, 201, 202}
    assert mode(seen.looks(gpu(processes={202: GIB}))) == "full"
    assert family_pids(None) == frozenset()


def test_listed_pids_are_those_of_every_gpu() -> None:
    """A GPU without a list adds none."""
    seen = World().looks(gpu(processes={1: 1}), gpu("GPU-b", {1: 1, 2: 1}), gpu("GPU-c"))
    reading = seen.book.evidence.good
    assert reading is not None
    assert reading.pids == {1, 2}


# Foreign pids


def test_pids_of_two_looks_that_exist_nowhere_here_are_foreign() -> None:
    """Even where one of them is by chance a pid of ours; until they were looked up nothing is proven."""
    seen = serving(ON_CPU).looks(gpu(processes={100: GIB, 4242: GIB}))
    assert mode(seen) == "blind"
    assert "and 1 more; whether those exist here has not been looked up yet" in why(seen)
    seen = seen.scans(existing=(100,)).looks(gpu(processes={100: GIB, 4242: GIB}))
    assert mode(seen) == "foreign_pids"
    assert "(4242)" in why(seen)
    assert "driver 570.86" in why(seen)
    assert not seen.book.evidence.evidence.lists_prove_absence


def test_foreign_stays_foreign_until_a_look_shows_no_stranger() -> None:
    """A look that no scan went before says nothing new."""
    seen = serving(ON_CPU).looks(gpu(processes={4242: GIB})).scans().looks(gpu(processes={4242: GIB}))
    assert mode(seen.looks(gpu(processes={4242: GIB}))) == "foreign_pids"
    assert mode(seen.looks(gpu(processes={100: GIB}))) == "foreign_pids"
    cured = seen.looks(gpu(processes={100: GIB})).scans(existing=(100,)).looks(gpu(processes={100: GIB}))
    assert mode(cured) == "full"


@pytest.mark.parametrize(
    ("first", "existing", "second"),
    [
        ({4242: GIB}, (), {100: GIB}),
        ({100: GIB}, (), {4242: GIB, 100: GIB}),
        ({4242: GIB, 100: GIB}, (4242, 100), {4242: GIB, 100: GIB}),
    ],
    ids=["ended", "began", "exists"],
)
def test_a_pid_of_one_look_or_one_that_exists_is_no_stranger(
    first: dict[int, int | None], existing: tuple[int, ...], second: dict[int, int | None]
) -> None:
    """It may have just begun or ended."""
    seen = serving(ON_CPU).looks(gpu(processes=first)).scans(existing=(*existing, 100))
    assert mode(seen.looks(gpu(processes=second))) == "full"


def test_without_a_scan_between_two_looks_nobody_is_a_stranger() -> None:
    """Nobody looked the pids up."""
    seen = serving(ON_CPU).looks(gpu(processes={4242: GIB})).looks(gpu(processes={4242: GIB}))
    assert mode(seen) == "blind"
    unseen = World().looks(gpu(processes={4242: GIB})).looks(gpu(processes={4242: GIB}))
    assert mode(unseen) == "blind"


# Failures and epochs


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        (NvmlState.NO_LIBRARY, {}, "no_library"),
        (NvmlState.ERROR, {"detail": "code 3"}, "code 3"),
        (NvmlState.HUNG, {"outstanding_seconds": 12.4}, "has not come back for 12 s"),
    ],
)
def test_nvml_that_never_worked_is_no_nvml_at_once(state: NvmlState, more: dict[str, Any], said: str) -> None:
    """There is nothing to keep."""
    seen = serving(ON_CPU).looks(state=state, **more)
    assert mode(seen) == "no_nvml"
    assert said in why(seen)
    assert not seen.book.evidence.worked


def test_a_failed_look_changes_nothing_while_patience_lasts() -> None:
    """A missing sample neither raises nor clears; after that the last good look is dropped."""
    good = serving(ON_CPU).looks(gpu(processes={100: GIB}))
    first = good.looks(state=NvmlState.ERROR, patience=5.0)
    assert first.book.evidence.good is good.book.evidence.good
    assert first.book.evidence.evidence == good.book.evidence.evidence
    within = first.later(4).looks(state=NvmlState.ERROR, patience=5.0)
    assert mode(within) == "full"
    beyond = within.looks(state=NvmlState.ERROR, patience=5.0)
    assert mode(beyond) == "no_nvml"
    assert beyond.book.evidence.good is None
    assert beyond.book.evidence.worked
    again = beyond.looks(gpu(processes={100: GIB}))
    assert mode(again) == "full"
    assert again.book.evidence.failing_since is None


def test_a_good_look_ends_the_patience() -> None:
    """The next failure begins a new one."""
    seen = serving(ON_CPU).looks(gpu(processes={100: GIB})).looks(state=NvmlState.ERROR, patience=5.0)
    seen = seen.looks(gpu(processes={100: GIB})).later(60).looks(state=NvmlState.ERROR, patience=5.0)
    assert mode(seen) == "full"


def test_the_lists_must_prove_themselves_again_in_a_new_epoch() -> None:
    """Blind until the next look; "no NVML" stays what it is."""
    seen = serving(ON_CPU).looks(gpu(processes={100: GIB}))
    new = seen.server_exits(code=0).having(server=server(pid=9), stubs=()).scans()
    assert mode(new) == "blind"
    assert "since this tritonserver began" in why(new)
    assert new.book.evidence.looks == 0
    assert not new.book.evidence.contexts
    assert new.book.evidence.strangers == Strangers()
    assert new.book.evidence.worked


def test_only_two_modes_prove_absence() -> None:
    """The contract's section 3."""
    proving = {each.value for each in EvidenceMode if Evidence(each, "").lists_prove_absence}
    assert proving == {"full", "membership"}


# Pids that are somebody else here


OTHER = process(4242, parent=1, name="other", start=5)
BOTH: dict[int, int | None] = {SERVER_PID: GIB, 4242: GIB}


def test_a_listed_pid_that_was_another_process_in_between_is_a_coincidence() -> None:
    """Another namespace's process keeps its number while who has that number here comes and goes."""
    same = serving(ON_CPU).looks(gpu(processes=BOTH)).scans(asked=[OTHER]).looks(gpu(processes=BOTH))
    assert mode(same) == "full"
    assert mode(same.scans(asked=[OTHER]).looks(gpu(processes=BOTH))) == "full"
    next_one = process(4242, parent=1, name="other", start=6)
    seen = same.scans(asked=[next_one]).looks(gpu(processes=BOTH))
    assert mode(seen) == "foreign_pids"
    assert "or name other processes there (4242)" in why(seen)


def test_a_listed_pid_whose_process_began_after_the_look_is_a_coincidence() -> None:
    """Starts and the moment of the scan are read from one clock; without it nothing is concluded."""
    seen = serving(ON_CPU).looks(gpu(processes=BOTH)).later(9)
    for ticks, expected in ((OTHER.id.start_ticks + 300, "foreign_pids"), (100_000, "full"), (None, "full")):
        after = seen.scans(asked=[OTHER], ticks=ticks).looks(gpu(processes=BOTH))
        assert mode(after) == expected


def test_a_pid_whose_files_are_closed_to_us_is_no_stranger() -> None:
    """``hidepid``: it exists, and nothing else is known of it."""
    seen = serving(ON_CPU).looks(gpu(processes=BOTH)).scans(existing=[4242]).looks(gpu(processes=BOTH))
    assert mode(seen) == "full"


def test_in_the_first_namespace_who_does_not_exist_has_ended() -> None:
    """All processes can be seen from there, so Triton's own pids are really Triton's."""
    hidden = serving(ON_CPU).scans(initial=True).looks(gpu(processes=BOTH))
    assert mode(hidden) == "full"
    assert mode(hidden.scans(initial=True).looks(gpu(processes=BOTH))) == "full"
    alone: dict[int, int | None] = {4242: GIB}
    strange = serving(ON_CPU).scans(initial=True).looks(gpu(processes=alone)).scans(initial=True)
    assert mode(strange.looks(gpu(processes=alone))) == "foreign_pids"


def test_of_pids_that_were_never_looked_up_nothing_is_proven() -> None:
    """After one look that listed more than Triton's; once they were, a new one more changes nothing."""
    seen = serving(ON_CPU).looks(gpu(processes=BOTH))
    assert mode(seen) == "blind"
    assert mode(seen.looks(gpu(processes=BOTH))) == "blind"
    seen = seen.scans(asked=[OTHER]).looks(gpu(processes=BOTH))
    assert mode(seen.looks(gpu(processes={**BOTH, 7: GIB}))) == "full"


def test_lists_that_showed_tritonserver_and_are_empty_now_have_become_blind() -> None:
    """A context lasts as long as its process."""
    seen = serving(ON_GPU).looks(gpu(processes={SERVER_PID: GIB})).looks(gpu(processes={}))
    assert mode(seen) == "blind"
    assert "no process, although it showed tritonserver before" in why(seen)
    assert seen.book.evidence.contexts == {"GPU-a"}


def test_contexts_are_those_of_lists_that_can_be_trusted() -> None:
    """A number that is by chance tritonserver's is none."""
    foreign = serving(ON_CPU).looks(gpu(processes=BOTH)).scans().looks(gpu(processes=BOTH))
    assert mode(foreign) == "foreign_pids"
    assert foreign.book.evidence.contexts == frozenset()
    assert World().looks(gpu(processes={1: 1})).book.evidence.contexts == frozenset()


@pytest.mark.parametrize(
    ("driver", "gpus", "hint"),
    [
        ("560.35", {SERVER_PID: 0}, "give none outside the machine's first pid namespace"),
        ("535.86", {}, "Drivers before 535.113 list the host's pids"),
        ("580.1", {}, "only processes of the asking process's pid namespace"),
    ],
)
def test_what_the_release_is_known_to_do_is_a_hint_and_no_more(
    driver: str, gpus: dict[int, int | None], hint: str
) -> None:
    """The mode is measured all the same."""
    seen = serving(ON_GPU).looks(gpu(processes=gpus), driver_version=driver)
    assert hint in why(seen)
    full = serving(ON_GPU).looks(gpu(processes={SERVER_PID: 1}), driver_version=driver)
    assert mode(full) == "full"
    first = serving(ON_GPU).scans(initial=True).looks(gpu(processes={SERVER_PID: 0}), driver_version=driver)
    assert hint not in why(first)
