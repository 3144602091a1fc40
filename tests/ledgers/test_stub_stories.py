"""What holds of every story of a model's stubs: each death is told, and nothing else is a death."""

from __future__ import annotations

import pytest
from hypothesis import example, given

from tests.stories import INSTANCES, NAME, STEPS, STORY, Story, begun, identities, settled

Steps = list[tuple[str, int]]


def said_dead(now: Story) -> dict[str, int]:
    """The instances that are said to be dead, with their stubs' pids."""
    return {
        each.subject.instance: int(str(each.evidence["pid"]))
        for each in now.world.claims()
        if each.reason == "StubDead"
    }


def missing(now: Story) -> int:
    """How many instances are said to have no stub, nobody knows why."""
    return sum(
        int(str(each.evidence["missing"])) for each in now.world.claims() if each.reason == "InstancesMissing"
    )


def told(steps: Steps) -> Story:
    """The story after these steps."""
    now = begun()
    for step, number in steps:
        now = STEPS[step](now, number)
    return now


@given(STORY)
@example([("death", 1), ("reload", 3), ("death", 1)])
@example([("unload", 1), ("load", 3), ("death", 9), ("unload", 2)])
@example([("death", 0), ("reload", 0), ("unload", 1), ("load", 0), ("poll", 0)])
def test_nothing_but_a_death_is_ever_called_one(steps: Steps) -> None:
    """At no moment: neither an unload nor a reload, in whatever order their parts are seen."""
    now = begun()
    for step, number in steps:
        now = STEPS[step](now, number)
        for instance, pid in said_dead(now).items():
            # Where not every end was seen, a predecessor's exit may be told for that of who died.
            assert pid in now.deaths or instance in now.murky & now.died, (step, number)


@given(STORY)
@example([("reload", 1), ("death", 1)])
@example([("reload", 2), ("death", 7), ("restart", 0), ("death", 3)])
def test_no_death_is_missed_once_everybody_has_looked(steps: Steps) -> None:
    """Of the present load each dead instance is told, and no other; one that no scan ever saw is missing."""
    now = settled(told(steps))
    seen = {name: pid for name, pid in now.dead.items() if pid in now.noticed}
    assert said_dead(now).keys() <= now.dead.keys()
    assert said_dead(now).keys() >= seen.keys()
    assert {item for item in said_dead(now).items() if item[0] not in now.murky} <= set(now.dead.items())
    assert len(said_dead(now)) + missing(now) == len(now.dead)


@given(STORY)
def test_a_whole_model_is_quiet_once_everybody_has_looked(steps: Steps) -> None:
    """A reload cures everything that was."""
    now = settled(STEPS["reload"](STEPS["load"](told(steps), 1), 1))
    assert now.dead == {}
    assert now.world.reasons() == []
    assert len(now.world.alive(NAME)) == len(INSTANCES)


@given(STORY)
@example([("death", 0), ("reload", 0), ("unload", 0)])
def test_the_ledger_holds_whom_a_scan_found_and_nobody_else(steps: Steps) -> None:
    """Identity is pid and start time: a pid that was given again is somebody else."""
    now = settled(told(steps))
    assert now.world.book.stubs.live.keys() == identities(now)
    assert {each.stub.process.id.pid for each in now.world.alive(NAME)} <= set(now.serving.values())


@pytest.mark.parametrize("step", sorted(STEPS))
def test_the_stories_are_worth_telling(step: str) -> None:
    """Every step does something to some story; else the properties would say nothing of it."""
    before = {"load": "unload", "restart": "death", "pid reused": "death", "lingering ends": "death"}
    now = told([(before[step], 1)] if step in before else [])
    if step == "lingering ends":
        now = STEPS["reload"](now, 3)
    assert STEPS[step](now, 3) != now
