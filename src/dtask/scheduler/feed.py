"""What happens to jobs, for whoever watches: the last events in a ring, and those who wait.

The ring has no queues behind it. A reader keeps its place in the ring, and one that is slower
than what happens finds its place overwritten, and is told so: it costs no more memory than one
that keeps up. An effect that nobody waits for costs a microsecond.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from dtask.core.jobs.events import StartedOver, TaskChanged
from dtask.core.jobs.states import State
from dtask.errors import Busy
from dtask.scheduler.readers import Readers
from dtask.wire.job_answers import EventAnswer

#: Events that can be read again.
EVENTS_MAX: Final = 10_000
#: Requests that wait for something to happen: to jobs, and those that read all events.
WAITERS_MAX: Final = 10_000
READERS_MAX: Final = 256

#: Events looked at between two looks at the loop: a few milliseconds.
SLICE_EVENTS: Final = 500


class Filter(NamedTuple):
    """Which events are wanted; what is None does not matter."""

    job_id: int | None = None
    queue: str | None = None
    states: frozenset[State] | None = None

    def wants(self, event: TaskChanged) -> bool:
        """Whether this event is."""
        return (
            (self.job_id is None or event.job_id == self.job_id)
            and (self.queue is None or event.queue == self.queue)
            and (self.states is None or event.state in self.states)
        )


class Waiter:
    """Waits for the next change of a job, or of one task of it. Made by `Feed.watch`."""

    __slots__ = ("_changed", "_index", "_task")

    def __init__(self, task: str | None, index: int | None) -> None:
        self._task = task
        self._index = index
        self._changed = asyncio.Event()

    def note(self, event: TaskChanged) -> None:
        """The job changed: wake up if it matters."""
        if self._task is None:
            if event.task is not None:
                return
        elif event.task is not None and (
            event.task != self._task
            or (event.index is not None and self._index is not None and event.index != self._index)
        ):
            return
        self._changed.set()

    def wake(self) -> None:
        """Wake up anyhow."""
        self._changed.set()

    def take(self) -> bool:
        """Whether something has changed since the last call, or since the watch began."""
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    async def changed(self) -> None:
        """Wait until there is something to take."""
        await self._changed.wait()


class Feed:
    """The events of one scheduler. `now` is its start: ids go on from epoch microseconds.

    So ids of this life are higher than those of earlier ones.
    """

    def __init__(self, now: float) -> None:
        #: Of the next event, and of the first one ever.
        self._next = self._first = int(now * 1e6)
        self._ring: list[TaskChanged | None] = [None] * EVENTS_MAX
        #: The same as bytes, made when the first reader comes by.
        self._bytes: list[bytes | None] = [None] * EVENTS_MAX
        self.readers = Readers(READERS_MAX, "events")
        self._waiters: dict[int, set[Waiter]] = {}
        self._waiting = 0
        #: The scheduler stops: nobody is to wait for anything.
        self.stopping = False

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect)
        """Take in an effect, if it is an event."""
        if type(effect) is not TaskChanged:
            if type(effect) is StartedOver:
                self._start_over()
            return
        place = self._next % EVENTS_MAX
        self._ring[place] = effect
        self._bytes[place] = None
        self._next += 1
        if self._waiters and (waiters := self._waiters.get(effect.job_id)) is not None:
            for waiter in waiters:
                waiter.note(effect)
        self.readers.wake()

    def stop(self) -> None:
        """Let all who wait go: the scheduler stops."""
        self.stopping = True
        self._wake_all()

    def _start_over(self) -> None:
        """Some events may be missing: a gap for all who read, and a look for all who wait."""
        self._next += 1
        self._first = self._next
        self._wake_all()

    def _wake_all(self) -> None:
        self.readers.wake()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake()

    @property
    def last(self) -> int:
        """The id of the last event, or the one before the first."""
        return self._next - 1

    @property
    def oldest(self) -> int:
        """The id of the oldest event that can still be read, were there one."""
        return max(self._first, self._next - EVENTS_MAX)

    # Waiting for a job

    @contextmanager
    def watch(
        self, job_id: int, task: str | None = None, index: int | None = None
    ) -> Iterator[Waiter]:
        """Within this no change is missed: of the job itself, or of a task and the job.

        Enter it, look how things stand, then wait for the change. Raises Busy.
        """
        if self._waiting >= WAITERS_MAX:
            raise Busy(
                f"{WAITERS_MAX} requests wait for jobs, which is the limit: ask again later, or "
                f"without wait_s.",
                code="too_many_waiters",
            )
        waiter = Waiter(task, index)
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._waiting += 1
        if self.stopping:
            waiter.wake()
        try:
            yield waiter
        finally:
            self._waiting -= 1
            waiters = self._waiters[job_id]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]

    # Reading all

    def holds(self, last: int) -> bool:
        """Whether all events after `last` can still be read."""
        return self.oldest - 1 <= last < self._next

    def read(self, last: int, wanted: Callable[[TaskChanged], bool]) -> tuple[bytes, int]:
        """Events after `last` as a stream has them, and the id of the last one looked at.

        Only if it `holds` them; at most SLICE_EVENTS are looked at.
        """
        assert self.holds(last)
        parts = []
        stop = min(self._next, last + 1 + SLICE_EVENTS)
        for number in range(last + 1, stop):
            place = number % EVENTS_MAX
            event = self._ring[place]
            assert event is not None
            if wanted(event):
                text = self._bytes[place]
                if text is None:
                    text = self._bytes[place] = _message(number, event)
                parts.append(text)
        return b"".join(parts), stop - 1

    async def beyond(self, last: int) -> None:
        """Wait until there is an event after `last`, or the scheduler stops."""
        if self._next - 1 == last and not self.stopping:
            await self.readers.woken()


_encode: Final = msgspec.json.Encoder().encode


def _message(number: int, event: TaskChanged) -> bytes:
    """One event as a stream has it."""
    data = EventAnswer(
        event.job_id,
        event.state,
        event.at,
        event.queue,
        event.task,
        event.index,
        event.number,
        event.worker_id,
        event.exit_code,
        event.cause,
        event.error,
    )
    kind = b"job" if event.task is None else b"task"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind, _encode(data))
