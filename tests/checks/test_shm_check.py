"""``/dev/shm``: nearly full, too small for its stubs, or taken by what nobody owns."""

from __future__ import annotations

import msgspec
import pytest

from probe.checks.container import shm, shm_needs
from probe.checks.container.shm_remedies import REMOVED_AT_MOST, removal, room, suggested_size
from probe.facts.findings import CONTAINER, Action
from probe.facts.models import ModelState
from probe.facts.processes import Stub
from tests.worlds import (
    GIB,
    MIB,
    World,
    config,
    entry,
    group,
    python_model,
    server,
    serving,
    stub,
)

UUID = "051f6f90-7f0c-4e43-9d6a-0a3f5c1d2e3b"
LEFT = f"triton_python_backend_shm_region_{UUID}"
EXHAUSTED = (
    "Internal: Unable to initialize shared memory key 'triton_python_backend_shm_region_1' to requested size "
    "(1048576 bytes). If you are running Triton inside docker, use '--shm-size' flag. Error: No space left on device"
)


def of_size(one: Stub, default: int, growth: int, held: int | None = None) -> Stub:
    """The stub with regions of this size."""
    told = msgspec.structs.replace(one.arguments, shm_default_bytes=default, shm_growth_bytes=growth)
    return msgspec.structs.replace(one, arguments=told, shm_bytes=default if held is None else held)


def sized(world: World, default: int, growth: int, held: int | None = None) -> World:
    """All stubs of this world with regions of this size."""
    return world.having(stubs=tuple(of_size(each, default, growth, held) for each in world.stubs)).scans()


# Nearly full


@pytest.mark.parametrize(
    ("instances", "held", "size", "others", "expected"),
    [
        (3, 1, 64, 0, []),
        (20, 1, 64, 0, []),
        (3, 19, 64, 0, []),
        (3, 19, 64, 1, ["ShmPressure"]),
        (1, 15, 16, 0, ["ShmPressure"]),
        (1, 14, 16, 0, []),
        # A large one of which nine tenths are in use has room all the same where regions are small.
        (3, 1, 512 * 1024, 480 * 1024, []),
        (3, 1, 512 * 1024, 512 * 1024 - 40, ["ShmPressure"]),
        # But not where the regions themselves are that large.
        (3, 160 * 1024, 512 * 1024, 0, ["ShmPressure"]),
    ],
)
def test_nearly_full_is_nine_tenths_and_little_left_for_these_stubs(
    instances: int, held: int, size: int, others: int, expected: list[str]
) -> None:
    """In MiB: what stubs hold each, and what others hold."""
    files = [("other", others * MIB)] if others else []
    world = sized(serving(python_model("m", instances)), MIB, MIB, held * MIB)
    seen = world.shm(*files, size=size * MIB)
    assert [each for each in seen.reasons(shm.judge) if each == "ShmPressure"] == expected


def test_less_than_a_step_left_is_pressure_however_much_is_in_use() -> None:
    """Up to 23.08 regions begin with 64 MiB and grow by 64 MiB."""
    old = sized(serving(python_model("m", 3), version="2.35.0"), 64 * MIB, 64 * MIB)
    assert "ShmPressure" not in old.shm(size=256 * MIB).reasons(shm.judge)
    assert "ShmPressure" not in old.shm(size=GIB).reasons(shm.judge)
    claim = old.shm(size=250 * MIB).only("ShmPressure", shm.judge)
    assert "58 MiB are free, and a stub's region grows by 64 MiB at least" in claim.message


def test_pressure_tells_figures_and_the_largest_region_and_what_to_write() -> None:
    """Numbers with units, and a line for the manifest."""
    world = serving(python_model("m", 2)).shm(size=16 * MIB)
    grown = world.with_stub(stub(100, "m_0_0", shm=12 * MIB)).shm(("clients", 2 * MIB), size=16 * MIB)
    claim = grown.only("ShmPressure", shm.judge)
    assert claim.subject == CONTAINER
    assert claim.message == (
        "/dev/shm holds 15 MiB of 16 MiB (94 %); 1 MiB are free, and a stub's region grows by 1 MiB at least: where "
        "that fails, so does the request; one has grown by 11 MiB at once; the largest region is "
        "triton_python_backend_shm_region_100 (m/1 m_0_0, 12 MiB), grown from 1 MiB; 2 MiB are in "
        "files that are no stub's region."
    )
    assert "emptyDir: {medium: Memory, sizeLimit: 64Mi}" in claim.remedy
    assert "--shm-size=64m" in claim.remedy
    assert claim.evidence == {
        "size_bytes": 16 * MIB,
        "used_bytes": 15 * MIB,
        "inodes_free": None,
        "peak_bytes": 15 * MIB,
        "regions": 2,
        "other_files": 1,
        "other_files_bytes": 2 * MIB,
        "growth_step_bytes": MIB,
        "growth_step_seen_bytes": 11 * MIB,
        "largest_region": "triton_python_backend_shm_region_100",
        "largest_region_bytes": 12 * MIB,
        "suggested_bytes": 64 * MIB,
    }
    assert claim.action is None


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [(9, 14, ["ShmPressure"]), (1, 12, ["ShmPressure"]), (12, 13, []), (1, 11, [])],
)
def test_a_step_that_was_seen_may_come_again_where_much_is_in_use(
    first: int, then: int, expected: list[str]
) -> None:
    """A region grows by what tensors need at once (seen in 24.10: it failed at 14 of 16 MiB)."""
    seen = serving(python_model("m"))
    for held in (first, then):
        seen = seen.with_stub(stub(100, "m_0_0", shm=held * MIB)).shm(size=16 * MIB)
    assert [each for each in seen.reasons(shm.judge) if each == "ShmPressure"] == expected


def test_inodes_run_out_too() -> None:
    """Each region takes one; of bytes there may be plenty."""
    told = serving(python_model("m")).shm(inodes_free=3, inodes_total=100, size=64 * MIB)
    claim = told.only("ShmPressure", shm.judge)
    assert "3 of 100 inodes are free" in claim.message
    assert "nr_inodes" in claim.remedy
    assert "sizeLimit" not in claim.remedy
    assert claim.evidence["suggested_bytes"] is None
    assert serving(python_model("m")).shm(inodes_free=300, inodes_total=1000).reasons(shm.judge) == []


def test_without_stubs_a_full_file_system_is_told_all_the_same() -> None:
    """Clients exchange tensors through it as well."""
    claim = World(server=server()).scans().shm(("clients", 60 * MIB)).only("ShmPressure", shm.judge)
    assert claim.message == (
        "/dev/shm holds 60 MiB of 64 MiB (94 %); 60 MiB are in files that are no stub's region."
    )
    unlisted = World(server=server()).scans().shm(files=None, used=60 * MIB)
    claim = unlisted.only("ShmPressure", shm.judge)
    assert claim.message == "/dev/shm holds 60 MiB of 64 MiB (94 %)."
    assert claim.evidence["regions"] is None


def test_the_kernels_word_between_looks_is_enough() -> None:
    """A file system that fills while a model loads is told at that moment."""
    seen = serving(python_model("m")).shm(size=16 * MIB)
    assert seen.reasons(shm.judge) == []
    assert seen.shm_changes(16 * MIB, size=16 * MIB).reasons(shm.judge) == ["ShmPressure"]
    assert seen.shm_changes(16 * MIB, size=16 * MIB).shm_changes(MIB, size=16 * MIB).reasons(shm.judge) == []


def test_a_file_system_of_no_size_is_full() -> None:
    """Nothing is divided by zero."""
    assert "100 %" in World(server=server()).scans().shm(size=0).only("ShmPressure", shm.judge).message


def test_a_region_whose_name_was_learned_after_the_listing_has_no_growth_yet() -> None:
    """With a prefix that nothing told of: the file was another's until its stub was seen."""
    seen = World(server=server()).scans().shm(("mine", 60 * MIB))
    assert seen.book.shm.others_bytes == 60 * MIB
    told = seen.having(stubs=(stub(100, "m_0_0", region="mine"),)).scans().only("ShmPressure", shm.judge)
    assert "the largest region is mine (m/1 m_0_0, 60 MiB)." in told.message


# Too small


@pytest.mark.parametrize(
    ("instances", "size", "told"),
    [
        (3, 64, None),
        (8, 16, None),
        (9, 16, "9 stubs (m 9) need 18 MiB as soon as each has grown once (by 9 MiB in all)"),
        (1, 1, "1 stub (m 1) need 2 MiB"),
        (40, 64, "40 stubs (m 40) need 80 MiB"),
    ],
)
def test_a_size_below_what_the_stubs_can_need_is_told_before_it_fails(
    instances: int, size: int, told: str | None
) -> None:
    """What each begins with, and one step of growth."""
    claims = serving(python_model("m", instances)).shm(size=size * MIB).claims(shm.judge)
    found = [each for each in claims if each.reason == "ShmTooSmall"]
    assert len(found) == (told is not None)
    if told is not None:
        assert told in found[0].message
        assert found[0].message.startswith(f"/dev/shm has {size} MiB; ")


def test_what_regions_hold_already_counts_and_so_do_files_of_others() -> None:
    """A region that grew never shrinks."""
    grown = sized(serving(python_model("m", 2)), MIB, MIB, 20 * MIB)
    claim = grown.shm(("clients", 30 * MIB)).only("ShmTooSmall", shm.judge)
    assert "need 72 MiB" in claim.message
    assert "beside 30 MiB that are no stub's" in claim.message
    assert claim.evidence["needed_bytes"] == 72 * MIB
    assert claim.evidence["suggested_bytes"] == 192 * MIB
    assert "sizeLimit: 192Mi" in claim.remedy
    assert "instance_group" in claim.remedy


def test_instances_that_are_missing_are_counted_with_what_they_begin_with() -> None:
    """By the sizes of their server: of another stub, or of its options, or of its release."""
    called_for = python_model("m", 12)
    some = serving(called_for).without_stub(*range(102, 112)).scans().shm(size=16 * MIB)
    claim = some.only("ShmTooSmall", shm.judge)
    assert "12 stubs (m 12), 10 of them not there now, need 24 MiB" in claim.message
    assert claim.evidence["stubs_missing"] == 10
    options = server("--backend-config=python,shm-default-byte-size=67108864")
    none = serving(called_for, server=options).having(stubs=()).scans().shm(size=512 * MIB)
    assert "need 780 MiB" in none.only("ShmTooSmall", shm.judge).message


def test_a_reload_does_not_count_twice() -> None:
    """For a moment both loads have stubs; the old ones are about to end."""
    seen = serving(python_model("m", 20)).shm(size=48 * MIB)
    assert seen.reasons(shm.judge) == []
    both = seen.having(stubs=(*seen.stubs, *(stub(each, f"m_0_{each - 200}") for each in range(200, 220))))
    assert both.scans().shm(size=48 * MIB).reasons(shm.judge) == []


def test_auto_complete_stubs_and_other_backends_need_nothing_lasting() -> None:
    """The former end before the model is loaded; the latter have no region."""
    onnx = config("o", group("o_0", count=60), backend="onnxruntime")
    seen = serving(onnx, python_model("m", 7))
    loading = seen.with_stub(*(stub(each, f"later{each}") for each in range(300, 302))).scans()
    assert loading.shm(size=15 * MIB).reasons(shm.judge) == []
    assert shm_needs.need_of(loading.seen).stubs == 7


def test_stubs_whose_model_is_not_known_yet_count() -> None:
    """While they load, their model is in no answer of Triton's: it is named by their command lines."""
    seen = World(
        server=server(), stubs=tuple(stub(each, f"m_0_{each}", "m") for each in range(100, 110))
    ).scans()
    claim = seen.shm(size=16 * MIB).only("ShmTooSmall", shm.judge)
    assert "10 stubs (m 10) need 20 MiB" in claim.message


def test_only_the_models_with_the_most_stubs_are_named() -> None:
    """The rest is counted."""
    many = (
        python_model("a", 1),
        python_model("b", 2),
        python_model("c", 9),
        python_model("d", 4),
        python_model("e", 3),
    )
    told = serving(*many).shm(size=20 * MIB).only("ShmTooSmall", shm.judge).message
    assert "19 stubs (c 9, d 4, e 3 and 2 more models)" in told


def test_a_stubs_region_that_no_listing_shows_counts_with_what_the_scan_saw() -> None:
    """Or with what it begins with, where nothing can be seen."""
    seen = sized(serving(python_model("m", 2)), MIB, MIB, 20 * MIB).shm(files=None, used=0)
    assert shm_needs.need_of(seen.seen).held_bytes == 40 * MIB
    unseen = seen.having(
        stubs=tuple(msgspec.structs.replace(each, shm_bytes=None) for each in seen.stubs)
    ).scans()
    assert shm_needs.need_of(unseen.seen).held_bytes == 2 * MIB


def test_a_load_that_failed_for_want_of_it_says_so_and_how_full_it_was() -> None:
    """When its stubs are gone and the file system is empty again."""
    seen = serving(python_model("m")).shm(size=16 * MIB).shm_changes(16 * MIB, size=16 * MIB)
    failed = seen.asks(index=(entry("big", ModelState.UNAVAILABLE, EXHAUSTED), entry("m", ModelState.READY)))
    claim = failed.shm(size=16 * MIB).only("ShmTooSmall", shm.judge)
    assert claim.message == (
        "/dev/shm has 16 MiB; big/1 could not be loaded for want of it; 16 MiB were in use at most."
    )
    assert claim.evidence["failed_loads"] == "big/1"
    assert claim.evidence["suggested_bytes"] == 64 * MIB
    other = seen.asks(index=(entry("big", ModelState.UNAVAILABLE, "Internal: ModuleNotFoundError: x"),))
    assert other.shm(size=16 * MIB).reasons(shm.judge) == []


# Left behind


def crashed(*, files: int = 2, size: int = 64 * MIB, held: int = MIB) -> World:
    """A new tritonserver beside the regions of a killed one, looked at until that is sure."""
    before = sized(serving(python_model("m", files)), MIB, MIB, held).shm(size=size)
    left = [(each.arguments.shm_region, held) for each in before.stubs]
    seen = before.having(server=server(pid=6), stubs=(), rows=(), configs=()).scans()
    return seen.shm(*left, size=size).shm(*left, size=size)


def test_what_a_killed_server_left_is_told_by_name_and_model_with_the_command_that_removes_it() -> None:
    """A reload does not help, and in Kubernetes neither does a restart of the container."""
    claim = crashed().only("ShmLeaked", shm.judge)
    first, second = (f"triton_python_backend_shm_region_{each}" for each in (100, 101))
    assert claim.message == (
        f"2 regions in /dev/shm belong to no live process and hold 2 MiB of its 64 MiB: {first} (m/1 m_0_0, 1 MiB), "
        f"{second} (m/1 m_0_1, 1 MiB). A tritonserver that was killed, or left before its instances had ended, "
        "leaves them behind."
    )
    assert f"rm -- /dev/shm/{first} /dev/shm/{second}." in claim.remedy
    assert (claim.evidence["leaked"], claim.evidence["leaked_bytes"]) == (2, 2 * MIB)
    assert claim.evidence["models"] == "m/1"
    assert claim.action is Action.NONE


def test_one_that_was_left_before_the_probe_began_has_no_model() -> None:
    """What it was is told by its name alone."""
    claim = serving(python_model("m")).shm(LEFT).shm(LEFT).shm(LEFT).only("ShmLeaked", shm.judge)
    assert claim.message.startswith(
        "1 region in /dev/shm belongs to no live process and holds 1 MiB of its 64 MiB"
    )
    assert f"{LEFT} (1 MiB)" in claim.message
    assert claim.evidence["models"] is None


def test_many_are_counted_and_much_is_a_reason_to_move_the_pod() -> None:
    """A quarter of the file system, or no room for the next region to grow."""
    claim = crashed(files=7, held=3 * MIB).only("ShmLeaked", shm.judge)
    assert " and 2 more. " in claim.message
    assert claim.action is Action.RESCHEDULE_POD
    few = crashed(files=1).having(stubs=(of_size(stub(300, "n_0_0"), 50 * MIB, 32 * MIB),)).scans()
    few = few.shm("triton_python_backend_shm_region_100")
    assert few.only("ShmLeaked", shm.judge).action is Action.RESCHEDULE_POD


def test_where_leaks_fill_it_removing_them_is_the_first_cure() -> None:
    """More room only after."""
    claim = crashed(files=1, held=60 * MIB).only("ShmPressure", shm.judge)
    assert claim.remedy.startswith("Remove them in Triton's container: rm -- ")
    assert "sizeLimit" in claim.remedy


def test_without_a_tritonserver_nothing_is_said_of_its_dev_shm() -> None:
    """What was seen of a dead one's is not what a new one will have."""
    full = crashed(files=1, held=60 * MIB)
    assert full.server_exits(signal=9).reasons(shm.judge) == []
    assert World().shm_changes(64 * MIB).reasons(shm.judge) == []
    assert serving(python_model("m")).contained().reasons(shm.judge) == []


# What to write


@pytest.mark.parametrize(
    ("needed", "wanted"), [(1, 64), (32 * MIB, 64), (32 * MIB + 1, 128), (100 * MIB, 256), (GIB, 2048)]
)
def test_the_size_to_write_is_twice_the_need_in_steps(needed: int, wanted: int) -> None:
    """Of 64 MiB, in MiB whatever its size."""
    assert suggested_size(needed) == wanted * MIB
    assert f"sizeLimit: {wanted}Mi}} mounted at /dev/shm (docker: --shm-size={wanted}m)" in room(wanted * MIB)


def test_a_command_to_paste_is_quoted_and_of_bounded_length() -> None:
    """Names come from outside."""
    assert "rm -- '/dev/shm/a b;rm -rf x'. " in removal(["a b;rm -rf x"])
    many = removal([f"r{each}" for each in range(REMOVED_AT_MOST + 3)])
    assert "(and 3 more)" in many
    assert f"r{REMOVED_AT_MOST} " not in many
