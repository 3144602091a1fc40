"""Random stories of loads, reloads, unloads and changes in place, with workers that end in all of them.

A story is told from Triton's side, step by step, in the order in which the real server takes its steps; in
between, anybody may look, and any of the engine's questions may stay without an answer.
"""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probe.checks.workers import judge
from probe.facts.models import ModelConfig
from probe.facts.processes import Stub
from tests.worlds import World, config, group, key, row, server, stub, worker

OPERATIONS = ("reload", "fail", "unload", "shrink", "grow")
ENDS: tuple[dict[str, int], ...] = ({"signal": 9}, {"signal": 15}, {"code": 0}, {"code": 1}, {})


class Story(msgspec.Struct):
    """Triton's side: what is configured, which stubs serve, and which of their workers died by themselves."""

    world: World
    name: str = "m_0"
    count: int = 2
    serving: tuple[int, ...] = ()
    next_pid: int = 100
    loaded: bool = False
    mourned: set[int] = set()
    """Stubs that lost a worker that nobody meant to end."""
    murky: set[int] = set()
    """Stubs that lost one before any poll had their model ready, while Triton did not answer: it may have been
    part of the loading."""
    leaving: set[int] = set()
    """Stubs that Triton has begun to end."""
    deaf: tuple[bool, bool, bool] = (False, False, False)
    """Whether the scan, the word, or the configuration after an exit fails to come."""

    @property
    def config(self) -> ModelConfig:
        """What Triton answers."""
        return config("m", group(self.name, count=self.count))

    def start(self, count: int, first: int = 0) -> tuple[int, ...]:
        """Start stubs, each with two engines."""
        pids = tuple(range(self.next_pid, self.next_pid + 10 * count, 10))
        self.next_pid += 10 * count
        new = (
            stub(
                pid,
                f"{self.name}_{first + index}",
                "m",
                workers=(worker(pid + 1, parent=pid), worker(pid + 2, "VLLM::Worker_TP0", parent=pid + 1)),
            )
            for index, pid in enumerate(pids)
        )
        self.world = self.world.with_stub(*new)
        return pids

    def configured(self) -> None:
        """Triton answers with the new configuration from now on."""
        rows = (row("m"),) if self.loaded else ()
        configs = (self.config,) if self.loaded else ()
        self.world = self.world.having(rows=rows, configs=configs)

    def here(self, pid: int) -> Stub | None:
        """The stub of this pid, while it runs."""
        return next((each for each in self.world.stubs if each.process.id.pid == pid), None)

    def worker_ends(self, pid: int, how: dict[str, int]) -> None:
        """A worker ends, and the engine reacts as far as it gets answers."""
        self.world = self.world.worker_exits(pid, **how)
        no_scan, no_word, no_configuration = self.deaf
        if not no_scan:
            self.world = self.world.scans()
        if not no_word:
            self.world = self.world.says("m")
        if not no_configuration:
            self.world = self.world.asks(index=None)

    def steps_of_end(self, pids: tuple[int, ...], how: dict[str, int]) -> list[tuple[object, ...]]:
        """Triton ends these stubs one after the other: first their workers, then themselves."""
        self.leaving |= set(pids)
        steps: list[tuple[object, ...]] = []
        for pid in pids:
            steps += [("end worker", pid, how), ("end worker", pid, how), ("end stub", pid)]
        return steps

    def begin(self, what: str, which: int, how: dict[str, int]) -> list[tuple[object, ...]]:
        """The steps of an operation; its first one is taken at once."""
        old = self.serving
        if not self.loaded:
            self.serving = self.start(self.count)
            return [("loaded",)]
        if what == "unload":
            self.loaded, self.serving = False, ()
            self.configured()
            return self.steps_of_end(old, how)
        if what == "shrink" and self.count > 1:
            self.count -= 1
            gone = old[which % len(old)]
            self.serving = tuple(pid for pid in old if pid != gone)
            self.configured()
            return self.steps_of_end((gone,), how)
        if what == "grow" and self.count < 4:
            # Those that are kept count as the first; the new ones are numbered after them.
            self.serving = (*old, *self.start(1, first=self.count))
            return [("grown",)]
        before = (self.name, self.count)
        self.name, self.count = (self.name, "other", "m")[which % 3], 1 + which % 3
        new = self.start(self.count)
        if what == "fail":
            self.name, self.count = before
            return [("end stub", pid) for pid in new]
        wanted, (self.name, self.count) = (self.name, self.count), before
        return [("swap", new, wanted, how)]

    def take(self, step: tuple[object, ...]) -> list[tuple[object, ...]]:
        """Take one step; the steps that it leads to."""
        match step:
            case ("loaded",):
                self.loaded = True
                self.configured()
            case ("grown",):
                self.count += 1
                self.configured()
            case ("swap", tuple(new), (str(name), int(count)), dict(how)):
                old, self.serving = self.serving, new
                self.name, self.count = name, count
                self.configured()
                return self.steps_of_end(old, how)
            case ("end worker", int(pid), dict(how)):
                ending = self.here(pid)
                if ending is not None and ending.descendants:
                    self.worker_ends(ending.descendants[0].id.pid, how)
            case ("end stub", int(pid)):
                if self.here(pid) is not None:
                    self.world = self.world.exits(pid, code=0)
        return []

    def dies(self, which: int) -> None:
        """A worker of a stub that serves dies by itself."""
        alive = [pid for pid in self.serving if (one := self.here(pid)) is not None and one.descendants]
        if not self.loaded or not alive:
            return
        pid = alive[which % len(alive)]
        one = self.here(pid)
        assert one is not None
        victim = one.descendants[which % len(one.descendants)]
        if victim.id in self.world.book.families.members:
            # Of one that began and ended between two scans nobody ever knew.
            record = self.world.book.models.records.get(key("m"))
            polled = record is not None and record.ready
            (self.mourned if polled or not self.deaf[1] else self.murky).add(pid)
        self.worker_ends(victim.id.pid, {"signal": 9})

    def looks(self) -> None:
        """Everybody looks, as within two intervals."""
        self.world = self.world.scans().polls().asks().scans()

    def claimed(self) -> set[int]:
        """The stubs of which a worker is said to have died; a claim is of all instances of one name."""
        deaths = self.world.book.workers.of(key("m"))
        claims = {each.subject.instance for each in self.world.claims(judge)}
        assert claims == {each.last.arguments.name for each in deaths}
        return {each.last.stub.pid for each in deaths}


EVENTS = ("next", "next", "next", "next", "begin", "begin", "look", "look", "wait", "deaf")
EVENT = st.tuples(st.sampled_from(EVENTS), st.integers(0, 59))
STORY = st.lists(EVENT, min_size=10, max_size=60)
DEADLY = st.lists(st.tuples(st.sampled_from((*EVENTS, "die")), st.integers(0, 59)), min_size=10, max_size=60)


def told(events: list[tuple[str, int]]) -> Story:
    """The story of these events; every claim on the way is of a stub that lost a worker by itself."""
    story = Story(World(server=server(pid=5), rows=(), configs=()))
    story.world = story.world.scans().polls()
    steps = story.begin("load", 0, {})
    for _ in range(1):
        steps += story.take(steps.pop(0))
    story.looks()
    for event, which in events:
        if event == "next" and steps:
            steps = [*story.take(steps[0]), *steps[1:]]
        elif event == "look":
            looks = (World.scans, World.polls, lambda one: one.asks(index=None), World.scans)
            story.world = looks[which % 4](story.world)
        elif event == "begin" and not steps:
            steps = story.begin(OPERATIONS[which % 5], which // 5, ENDS[which % len(ENDS)])
        elif event == "wait":
            story.world = story.world.later(which % 6)
        elif event == "deaf":
            # Half of the time everything is answered.
            story.deaf = (which % 8 == 1, which % 8 == 2, which % 8 == 3)
        elif event == "die":
            story.dies(which)
        assert story.claimed() <= story.mourned | story.murky, f"after {event}"
    while steps:
        steps = [*story.take(steps[0]), *steps[1:]]
        assert story.claimed() <= story.mourned | story.murky
    story.looks()
    story.looks()
    assert story.claimed() <= story.mourned | story.murky
    return story


@settings(max_examples=400)
@given(events=STORY)
def test_what_triton_ends_itself_is_never_a_death(events: list[tuple[str, int]]) -> None:
    """Whoever looks when, whatever is not answered, and however the workers end."""
    assert told(events).claimed() == set()


@settings(max_examples=400)
@given(events=DEADLY)
@example(
    events=[
        *[("begin", 47), ("deaf", 2), *[("next", 0)] * 6, ("begin", 0), ("look", 1), ("next", 0)],
        *[("die", 0), ("die", 0)],
    ]
)
@example(
    events=[
        *[("begin", 53), ("deaf", 3), *[("next", 0)] * 3, ("die", 0), ("begin", 24), ("next", 0)],
        *[("begin", 34), ("look", 1), ("look", 2)],
    ]
)
@example(
    events=[
        *[("begin", 0), *[("next", 0)] * 7, ("begin", 24), ("next", 0), ("begin", 1)],
        *[("look", 2), ("look", 1), ("die", 0)],
    ]
)
def test_every_death_below_a_stub_that_serves_on_is_found(events: list[tuple[str, int]]) -> None:
    """Also one in the middle of a reload, once that is over; and no other is."""
    story = told(events)
    serving = {pid for pid in story.serving if story.here(pid) is not None} if story.loaded else set()
    assert story.claimed() - story.murky == (story.mourned & serving) - story.murky


def test_the_stories_are_worth_reading() -> None:
    """A property over stories in which nothing happens would prove nothing."""
    events = [("begin", 0), ("look", 0), ("next", 0), ("die", 1), *[("next", 0)] * 8, ("look", 0)]
    story = told(events)
    assert story.serving[0] >= 120
    assert len(story.mourned) == 1
    assert story.claimed() == story.mourned
    assert len(story.leaving) == 2
