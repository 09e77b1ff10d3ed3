"""How it went the last half hour: a few series of the whole, and the load of each worker.

Soft, like the fleet itself: it begins anew with the scheduler.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from dtask.clock import Clock
from dtask.core.jobs.events import CountJobs, Stats
from dtask.core.placement.events import CountFleet, FleetCounts, Glance, Glimpse
from dtask.scheduler.latest import Latest
from dtask.scheduler.loop import Loop
from dtask.scheduler.tallies import LATENCY_BOUNDS_S
from dtask.wire.live import HistoryAnswer, LoadHistory, Rates

#: Seconds between two points of a series, and points that are kept: half an hour.
EVERY_S: Final = 2.0
POINTS_MAX: Final = 900

#: The same for the load of each worker: a byte a point, 180 for each.
LOAD_EVERY_S: Final = 10.0
LOADS_MAX: Final = 180

#: Rates are over so many points: ten seconds.
RATE_POINTS: Final = 6

#: Workers looked at between two looks at the loop.
SLICE_WORKERS: Final = 1_000

#: A load is kept in steps of a two-hundredth, up to what a byte holds; this stands for none.
_STEPS: Final = 200
_UNKNOWN: Final = 255

_SERIES: Final = (
    "placements",
    "refusals",
    "placement_p99_ms",
    "queued",
    "running",
    "occupied",
    "slots",
)


class _Count(NamedTuple):
    """What was counted at one moment, since the start."""

    at: float
    placements: int
    refusals: int
    heartbeats: int
    starts: int
    ends: int
    latencies: tuple[int, ...]


class History:
    """Of one scheduler. `run` it beside the loop."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self._loop = loop
        self._tallies = loop.tallies
        self._now = clock.now
        self._counts = deque([self._count()], RATE_POINTS)
        self._points: deque[tuple[float | None, ...]] = deque(maxlen=POINTS_MAX)
        self._ended_at = clock.now()
        self._loads: dict[str, bytearray] = {}
        self._loads_ended_at = clock.now()
        self._stats: Latest[Stats] = Latest(loop, CountJobs())

    async def run(self) -> None:
        """Take a point of each series when its time has come. Ends when cancelled."""
        points_per_load = round(LOAD_EVERY_S / EVERY_S)
        number = 0
        while True:
            self._take_point()
            if number % points_per_load == 0:
                await self._take_loads()
            number += 1
            await asyncio.sleep(EVERY_S)

    def rates(self) -> Rates:
        """What happened a second, lately."""
        first, last = self._counts[0], self._counts[-1]
        seconds = max(last.at - first.at, EVERY_S)
        return Rates(
            *(
                round((now - before) / seconds, 1)
                for before, now in zip(first[1:6], last[1:6], strict=True)
            )
        )

    def placement_p99_ms(self) -> float | None:
        """The latency that 99 of 100 placements of the last ten seconds kept; None: no placement.

        The upper bound of the interval that it fell into; what took longer than the last bound,
        2.5 s, counts as that.
        """
        first, last = self._counts[0].latencies, self._counts[-1].latencies
        counts = [now - before for before, now in zip(first, last, strict=True)]
        return _quantile_ms(counts, 0.99)

    def series(self) -> HistoryAnswer:
        """Of the whole, the oldest point first."""
        columns: Iterator[tuple[float | None, ...]] = zip(*self._points, strict=True)
        series = dict(zip(_SERIES, map(list, columns), strict=False))
        return HistoryAnswer(EVERY_S, self._ended_at, {name: [] for name in _SERIES} | series)

    def load_of(self, worker_id: str) -> LoadHistory:
        """Of one worker; empty if it is not known."""
        loads = self._loads.get(worker_id, b"")
        found = [None if load == _UNKNOWN else load / _STEPS for load in loads]
        return LoadHistory(LOAD_EVERY_S, self._loads_ended_at, found)

    def _take_point(self) -> None:
        counts: FleetCounts = self._loop.handle(CountFleet())
        stats = self._stats.value()
        self._stats.ask()
        self._counts.append(self._count())
        rates = self.rates()
        tasks = {} if stats is None else stats.tasks
        self._ended_at = self._now()
        self._points.append(
            (
                rates.placements,
                rates.refusals,
                self.placement_p99_ms(),
                tasks.get("queued"),
                tasks.get("running"),
                counts.occupied,
                counts.slots,
            )
        )

    def _count(self) -> _Count:
        tallies = self._tallies
        tallies.fold()
        return _Count(
            self._now(),
            tallies.placements,
            tallies.refusals,
            tallies.heartbeats,
            tallies.starts,
            tallies.ends,
            tuple(tallies.latency.counts),
        )

    async def _take_loads(self) -> None:
        """A point for each worker. Those that were forgotten are forgotten here, too."""
        before, after, found = self._loads, "", {}
        while seen := self._glance(after):
            for one in seen:
                loads = found[one.worker_id] = before.get(one.worker_id) or bytearray()
                loads.append(_step(one))
                del loads[:-LOADS_MAX]
            after = seen[-1].worker_id
            await asyncio.sleep(0)
        self._loads, self._loads_ended_at = found, self._now()

    def _glance(self, after: str) -> list[Glimpse]:
        seen: list[Glimpse] = self._loop.handle(Glance(SLICE_WORKERS, after))
        return seen


def _step(one: Glimpse) -> int:
    if one.status in {"offline", "left"}:
        return _UNKNOWN
    return min(_UNKNOWN - 1, round(_STEPS * one.occupancy / one.max_tasks))


def _quantile_ms(counts: list[int], share: float) -> float | None:
    """The upper bound of the interval in which this share of what was counted ends."""
    total = sum(counts)
    if not total:
        return None
    place = bisect_left(list(accumulate(counts)), share * total)
    bound_s: float = LATENCY_BOUNDS_S[min(place, len(LATENCY_BOUNDS_S) - 1)]
    return round(1_000 * bound_s, 3)
