"""The whole fleet as one stream, for pages and terminals: a snapshot, then what changes.

Twice a second, as long as anybody reads, all workers are looked at in slices, and what has changed
becomes one message, made once for all readers. The last messages lie in a ring. A reader keeps
its place in it; one that has none there, because it is new, was away, or is too slow, gets a
snapshot and goes on from that. So a slow reader costs no more memory than a quick one.
"""

import asyncio
from typing import Any, Final

import msgspec

from dtask import __version__
from dtask.clock import Clock
from dtask.core.jobs.events import (
    CountJobs,
    ListMisfits,
    ListQueues,
    Misfit,
    QueueView,
    Stats,
    TaskChanged,
)
from dtask.core.jobs.states import ENDS
from dtask.core.placement.events import CountFleet, FleetCounts, Glance, Glimpse
from dtask.scheduler.attention import Watch
from dtask.scheduler.history import SLICE_WORKERS, History
from dtask.scheduler.latest import Latest
from dtask.scheduler.loop import Loop
from dtask.scheduler.readers import Readers
from dtask.wire.live import LiveReset, LiveUpdate, Totals, WorkerCounts

#: Seconds between two messages.
EVERY_S: Final = 0.5
#: A message is sent after so many seconds though nothing has changed: the connection lives.
BEAT_S: Final = 4.0

#: A loop that was late is told of for so many seconds.
LATE_TOLD_S: Final = 10.0

#: Messages that can be read again: half a minute of them.
MESSAGES_MAX: Final = 60

#: Streams at a time.
VIEWERS_MAX: Final = 512

#: Jobs of which one message tells that they have changed, and requirements that fit nowhere.
JOBS_TOLD_MAX: Final = 1_000
MISFITS_MAX: Final = 10

#: How long a message waits for the store.
STORE_S: Final = 0.3

_encode: Final = msgspec.json.Encoder().encode


class ChangedJobs:
    """Jobs of which anything has changed since they were taken the last time."""

    def __init__(self) -> None:
        #: Somebody will take them.
        self.wanted = False
        self._ids: dict[int, None] = {}
        self._more = False

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect)
        """Take in an effect, if it tells of a job."""
        if self.wanted and type(effect) is TaskChanged:
            if len(self._ids) < JOBS_TOLD_MAX:
                self._ids[effect.job_id] = None
            elif effect.job_id not in self._ids:
                self._more = True

    def take(self) -> tuple[list[int], bool]:
        """Their ids, and whether there are more than can be told."""
        taken, self._ids = list(self._ids), {}
        more, self._more = self._more, False
        return taken, more

    def __bool__(self) -> bool:
        return bool(self._ids)


class Live:
    """Of one scheduler. `run` it beside the loop.

    Ids go on from epoch microseconds of the start, so those of this life are above all earlier
    ones.
    """

    def __init__(
        self, loop: Loop, history: History, watch: Watch, jobs: ChangedJobs, clock: Clock
    ) -> None:
        self._loop = loop
        self._history = history
        self._now = clock.now
        self._started_at = clock.now()
        self._watch = watch
        self._jobs = jobs
        self.readers = Readers(VIEWERS_MAX, "the live stream")
        self.stopping = False
        #: Id of the last message, and the last messages by id.
        self._last = int(self._started_at * 1e6)
        self._messages: dict[int, bytes] = {}
        self._sent_at = 0.0
        #: By how much a wake-up came too late, and until when that is told.
        self._late_s = self._late_until = 0.0
        #: As the last message left it. The snapshot is made of it when somebody needs one.
        self._workers: dict[str, Glimpse] = {}
        self._totals: Totals | None = None
        self._snapshot = b""
        self._ticking = asyncio.Lock()
        self._stats: Latest[Stats] = Latest(loop, CountJobs())
        self._queues: Latest[list[QueueView]] = Latest(loop, ListQueues())
        self._misfits: Latest[list[Misfit]] = Latest(loop, ListMisfits(MISFITS_MAX))

    async def run(self) -> None:
        """Make messages as long as anybody reads. Ends when cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + EVERY_S
            await asyncio.sleep(EVERY_S)
            late_s = max(0.0, clock() - due)
            if late_s >= self._late_s or clock() > self._late_until:
                self._late_s, self._late_until = late_s, clock() + LATE_TOLD_S
            if self.readers.count:
                await self._tick()
            elif self._messages:
                self._forget()

    def stop(self) -> None:
        """Let all readers go: the scheduler stops."""
        self.stopping = True
        self.readers.wake()

    @property
    def last(self) -> int:
        """The id of the last message."""
        return self._last

    def goes_on_after(self, last: int) -> bool:
        """Whether there are messages after `last`, and all can be read."""
        return last + 1 in self._messages

    def read(self, last: int) -> bytes:
        """All messages after `last`, if it `goes_on_after` it."""
        return b"".join(self._messages[one] for one in range(last + 1, self._last + 1))

    async def snapshot(self) -> tuple[bytes, int]:
        """Everything as one message, and its id."""
        if self._totals is None:
            async with self._ticking:
                if self._totals is None:  # else another one, who came at the same time, has looked
                    await self._make()
        if not self._snapshot:
            assert self._totals is not None
            reset = LiveReset(
                round(self._now(), 3),
                self._started_at,
                __version__,
                list(self._workers.values()),
                self._totals,
            )
            self._snapshot = _message(self._last, b"reset", reset)
        return self._snapshot, self._last

    async def beyond(self, last: int) -> None:
        """Wait until there is a message after `last`, or the scheduler stops."""
        if self._last == last and not self.stopping:
            await self.readers.woken()

    def _forget(self) -> None:
        """Nobody reads: whoever comes next begins anew, also who has seen the last message."""
        self._last += 1
        self._messages.clear()
        self._workers.clear()
        self._totals = None
        self._snapshot = b""
        self._jobs.wanted = False
        self._jobs.take()

    async def _tick(self) -> None:
        """One message, if there is something to tell."""
        async with self._ticking:
            made = await self._make()
        if made:
            await self.readers.wake_in_turn()

    async def _make(self) -> bool:
        """The next message, if there is something to tell. To be called by one at a time."""
        self._jobs.wanted = True
        totals = await self._look_at_totals()
        changed, gone = await self._look_at_workers()
        now = self._now()
        if not (changed or gone or self._jobs or totals != self._totals) and (
            now - self._sent_at < BEAT_S
        ):
            return False
        jobs, more_jobs = self._jobs.take()
        self._totals, self._sent_at, self._snapshot = totals, now, b""
        update = LiveUpdate(round(now, 3), changed, gone, jobs, more_jobs, totals)
        self._last += 1
        self._messages[self._last] = _message(self._last, b"update", update)
        self._messages.pop(self._last - MESSAGES_MAX, None)
        return True

    async def _look_at_workers(self) -> tuple[list[Glimpse], list[str]]:
        """Those that have changed but for their last heartbeat, and those that left or are gone."""
        workers, before = self._workers, dict(self._workers)
        changed = []
        after = ""
        while seen := self._glance(after):
            for one in seen:
                if one.status == "left":
                    continue
                if one[:-1] != (before.pop(one.worker_id, ((),)))[:-1]:
                    workers[one.worker_id] = one
                    changed.append(one)
            after = seen[-1].worker_id
            await asyncio.sleep(0)
        for worker_id in before:
            del workers[worker_id]
        return changed, list(before)

    def _glance(self, after: str) -> list[Glimpse]:
        seen: list[Glimpse] = self._loop.handle(Glance(SLICE_WORKERS, after))
        return seen

    async def _look_at_totals(self) -> Totals:
        questions = (self._stats, self._queues, self._misfits)
        await asyncio.wait([one.ask() for one in questions], timeout=STORE_S)
        fleet: FleetCounts = self._loop.handle(CountFleet())
        stats, queues = self._stats.value(), self._queues.value()
        attention = self._watch.look(
            self._now(),
            fleet=fleet,
            stats=stats,
            queues=queues,
            misfits=self._misfits.value() if fleet.attached else None,
            store_is_late=self._stats.is_late,
            late_s=self._late_s,
        )
        return Totals(
            self._loop.cluster.warm_in_s() > 0,
            WorkerCounts(fleet.online, fleet.suspect, fleet.offline, fleet.draining),
            fleet.slots,
            fleet.occupied,
            None if stats is None else _living(stats.tasks),
            {state.value: count for state, count in self._loop.tallies.ended.items()},
            None if stats is None else stats.jobs,
            queues,
            self._history.rates(),
            self._history.placement_p99_ms(),
            attention,
        )


def _living(counts: dict[str, int]) -> dict[str, int]:
    """Counts of the states that are no ends."""
    return {state: count for state, count in counts.items() if state not in ENDS}


def _message(number: int, kind: bytes, data: LiveReset | LiveUpdate) -> bytes:
    """One message as a stream has it."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind, _encode(data))
