"""How it went the last half hour: rates, latencies, series, loads."""

import asyncio
from typing import Any

import msgspec

from dtask.clock import ManualClock
from dtask.core.cluster import Cluster, Settings
from dtask.core.placement.events import Heartbeat
from dtask.scheduler.history import EVERY_S, LOADS_MAX, POINTS_MAX, History
from dtask.scheduler.loop import Loop
from dtask.store.memory import MemoryStore

START = 1_700_000_000.0


def play(story: Any) -> None:
    async def main() -> None:
        clock = ManualClock(START)
        loop = Loop(Cluster(START, Settings(warm_up_s=0.0)), clock, MemoryStore())
        await loop.load()
        running = asyncio.create_task(loop.run())
        try:
            await story(History(loop, clock), loop, clock)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            loop.stop()

    asyncio.run(main())


def beat(loop: Loop, worker_id: str = "w", **fields: Any) -> None:
    loop.handle(msgspec.structs.replace(Heartbeat(worker_id, "w:1", (), 4), **fields))


def test_rates_are_over_the_last_ten_seconds() -> None:
    async def story(history: History, loop: Loop, clock: ManualClock) -> None:
        assert history.rates().placements == 0
        for _ in range(10):
            loop.tallies.placements += 20
            clock.advance(EVERY_S)
            history._take_point()
        assert history.rates().placements == 10
        for _ in range(5):
            clock.advance(EVERY_S)
            history._take_point()
        assert history.rates().placements == 0
        assert history.series().series["placements"][:3] == [10, 10, 10]

    play(story)


def test_the_p99_is_the_bound_below_which_99_of_100_placements_were() -> None:
    async def story(history: History, loop: Loop, _clock: ManualClock) -> None:
        assert history.placement_p99_ms() is None
        for _ in range(98):
            loop.tallies.latency.add(0.00008)
        for _ in range(2):
            loop.tallies.latency.add(0.003)
        history._take_point()
        assert history.placement_p99_ms() == 5.0
        for _ in range(100):
            loop.tallies.latency.add(0.00008)
        history._take_point()
        assert history.placement_p99_ms() == 0.1
        loop.tallies.latency.add(1_000)
        for _ in range(6):
            history._take_point()
        assert history.placement_p99_ms() is None

    play(story)


def test_series_are_equally_long_and_bounded() -> None:
    async def story(history: History, loop: Loop, clock: ManualClock) -> None:
        assert set(map(len, history.series().series.values())) == {0}
        beat(loop, current_tasks=3)
        for _ in range(POINTS_MAX + 3):
            clock.advance(EVERY_S)
            history._take_point()
            beat(loop, current_tasks=3)
        answer = history.series()
        assert set(map(len, answer.series.values())) == {POINTS_MAX}
        assert (answer.series["occupied"][-1], answer.series["slots"][-1]) == (3, 4)
        assert answer.ends_at == clock.now()

    play(story)


def test_each_worker_has_a_load_while_it_is_there() -> None:
    async def story(history: History, loop: Loop, _clock: ManualClock) -> None:
        beat(loop, current_tasks=1)
        beat(loop, "gone", leaving=True, incarnation="i")
        beat(loop, "over", current_tasks=9)
        await history._take_loads()
        beat(loop, current_tasks=4)
        await history._take_loads()
        assert history.load_of("w").load == [0.25, 1.0]
        assert history.load_of("gone").load == [None, None]
        assert history.load_of("over").load == [1.27, 1.27]  # as much as a byte can say
        assert history.load_of("unknown").load == []
        for _ in range(LOADS_MAX):
            await history._take_loads()
        assert len(history.load_of("w").load) == LOADS_MAX

    play(story)
