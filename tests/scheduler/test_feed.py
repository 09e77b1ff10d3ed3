"""What happens to jobs, for whoever watches."""

import asyncio
from collections.abc import Callable

import pytest

from dtask.core.jobs.events import JobForgotten, StartedOver, TaskChanged
from dtask.core.jobs.states import State
from dtask.errors import Busy
from dtask.scheduler import feed as feeding
from dtask.scheduler.feed import EVENTS_MAX, READERS_MAX, WAITERS_MAX, Feed, Filter

START = 1_000.0
FIRST = 1_000_000_000


def changed(
    job_id: int = 1,
    task: str | None = "main",
    index: int | None = None,
    *,
    state: State = State.RUNNING,
    queue: str = "default",
) -> TaskChanged:
    return TaskChanged(job_id, task, index, state, 5.0, queue)


def every(_event: TaskChanged) -> bool:
    return True


def filled(count: int) -> Feed:
    feed = Feed(START)
    for i in range(count):
        feed.perform(changed(job_id=i))
    return feed


def ids(text: bytes) -> list[int]:
    return [int(line[4:]) for line in text.splitlines() if line.startswith(b"id: ")]


def test_ids_grow_from_the_start_s_microseconds() -> None:
    feed = Feed(START)
    assert feed.last == FIRST - 1
    feed.perform(changed())
    feed.perform(changed())
    text, last = feed.read(FIRST - 1, every)
    assert ids(text) == [FIRST, FIRST + 1]
    assert last == feed.last == FIRST + 1
    assert Feed(START + 1).last > feed.last


def test_an_event_says_what_moved_and_leaves_out_what_is_not_known() -> None:
    feed = Feed(START)
    feed.perform(changed(7, "tile", 3, state=State.QUEUED))
    feed.perform(changed(7, None, state=State.SUCCEEDED))
    text, _ = feed.read(FIRST - 1, every)
    assert text.decode() == (
        f"id: {FIRST}\nevent: task\n"
        'data: {"job_id":7,"state":"queued","at":5.0,"queue":"default","task":"tile","index":3}\n\n'
        f"id: {FIRST + 1}\nevent: job\n"
        'data: {"job_id":7,"state":"succeeded","at":5.0,"queue":"default"}\n\n'
    )


def test_other_effects_are_not_events() -> None:
    feed = Feed(START)
    feed.perform(JobForgotten(1))
    assert feed.last == FIRST - 1


def test_the_ring_holds_the_last_events_and_no_more() -> None:
    feed = filled(EVENTS_MAX + 5)
    assert feed.oldest == FIRST + 5
    assert feed.holds(FIRST + 4)
    assert not feed.holds(FIRST + 3)
    assert feed.holds(feed.last)
    assert not feed.holds(feed.last + 1), "an id of a later life, or none"
    assert not feed.holds(FIRST - 2), "an id of an earlier life"
    found: list[int] = []
    last = FIRST + 4
    while last < feed.last:
        text, last = feed.read(last, every)
        found += ids(text)
    assert found == list(range(FIRST + 5, FIRST + EVENTS_MAX + 5))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [0, 1, 2, 3]),
        (Filter(job_id=2), [1, 2]),
        (Filter(queue="slow"), [2]),
        (Filter(states=frozenset({State.FAILED, State.QUEUED})), [1, 3]),
        (Filter(job_id=2, states=frozenset({State.FAILED})), [1]),
    ],
)
def test_a_filter_lets_through_what_meets_all_of_it(wanted: Filter, found: list[int]) -> None:
    feed = Feed(START)
    feed.perform(changed(1))
    feed.perform(changed(2, state=State.FAILED))
    feed.perform(changed(2, queue="slow"))
    feed.perform(changed(3, state=State.QUEUED))
    text, last = feed.read(FIRST - 1, wanted.wants)
    assert ids(text) == [FIRST + each for each in found]
    assert last == feed.last, "what was left out has been looked at too"


# Waiting


async def soon(act: Callable[[], None], *waits: asyncio.Future[None]) -> list[bool]:
    """Which of these end once `act` has happened."""
    await asyncio.sleep(0)
    act()
    for _ in range(5):
        await asyncio.sleep(0)
    ended = [wait.done() for wait in waits]
    for wait in waits:
        wait.cancel()
    return ended


def test_who_waits_for_events_is_woken_by_the_next_one() -> None:
    async def play() -> None:
        feed = filled(3)
        await feed.beyond(feed.last - 1)  # there is one already
        waits = [asyncio.ensure_future(feed.beyond(feed.last)) for _ in range(2)]
        assert await soon(lambda: feed.perform(changed()), *waits) == [True, True]
        idle = asyncio.ensure_future(feed.beyond(feed.last))
        assert await soon(lambda: None, idle) == [False]
        feed.perform(changed())  # for one who has left meanwhile

    asyncio.run(play())


@pytest.mark.parametrize(
    ("watched", "event", "matters"),
    [
        ((1, None, None), changed(1, None, state=State.SUCCEEDED), True),
        ((1, None, None), changed(1, "main"), False),
        ((1, None, None), changed(2, None), False),
        ((1, "main", None), changed(1, "main"), True),
        ((1, "main", None), changed(1, "other"), False),
        ((1, "main", None), changed(1, None, state=State.CANCELLED), True),
        ((1, "tile", 3), changed(1, "tile", 3), True),
        ((1, "tile", 3), changed(1, "tile", 4), False),
        ((1, "tile", 3), changed(1, "tile"), True),  # all of the array
    ],
)
def test_a_watch_is_woken_by_what_matters_to_it(
    watched: tuple[int, str | None, int | None], event: TaskChanged, *, matters: bool
) -> None:
    async def play() -> None:
        feed = Feed(START)
        with feed.watch(*watched) as waiter:
            wait = asyncio.ensure_future(waiter.changed())
            assert await soon(lambda: feed.perform(event), wait) == [matters]
            assert waiter.take() is matters
            assert not waiter.take()

    asyncio.run(play())


def test_a_watch_misses_nothing_that_happens_before_it_waits() -> None:
    async def play() -> None:
        feed = Feed(START)
        with feed.watch(1) as waiter:
            feed.perform(changed(1, None, state=State.SUCCEEDED))
            await waiter.changed()

    asyncio.run(play())


def test_a_stop_wakes_all_who_wait_and_all_who_would() -> None:
    async def play() -> None:
        feed = Feed(START)
        with feed.watch(1) as waiter:
            waits = [
                asyncio.ensure_future(waiter.changed()),
                asyncio.ensure_future(feed.beyond(feed.last)),
            ]
            assert await soon(feed.stop, *waits) == [True, True]
        with feed.watch(1) as late:
            await late.changed()
        await feed.beyond(feed.last)

    asyncio.run(play())


def test_who_waits_is_counted_and_refused_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (WAITERS_MAX, READERS_MAX) == (10_000, 256)
    monkeypatch.setattr(feeding, "WAITERS_MAX", 2)
    monkeypatch.setattr(feeding, "READERS_MAX", 1)

    async def play() -> None:
        feed = Feed(START)
        with feed.watch(1), feed.watch(2), feed.readers.reading():
            with pytest.raises(Busy, match="2 requests wait"), feed.watch(3):
                pass
            with pytest.raises(Busy, match="1 requests read"), feed.readers.reading():
                pass
        with feed.watch(3), feed.watch(3), feed.readers.reading():
            pass

    asyncio.run(play())


def test_after_a_start_over_readers_see_a_gap_and_waiters_look_anew() -> None:
    async def story() -> None:
        feed = Feed(1.0)
        feed.perform(changed(1))
        last = feed.last
        with feed.watch(1) as waiter:
            waiter.take()
            reading = asyncio.ensure_future(feed.beyond(last))
            await asyncio.sleep(0)
            feed.perform(StartedOver())
            await reading
            assert waiter.take()
        assert not feed.holds(last)
        assert feed.holds(feed.last)

    asyncio.run(story())
