"""Whose turn it is: queues, and in them lines of what requires the same.

A *demand* is one list of requirements, however many tasks have it. A demand that no worker could
take the last time is *shut*, and none of its tasks is looked at until a worker opens that meets
it: so what fits nowhere costs nothing and blocks nothing, and a freed slot looks only at demands
that could use it.

Of the queues that may run something now, the next is the one with the lowest held slots by
weight; within it the highest priority, then the oldest job, then the order of its tasks.

Entries are never looked for in a line: one whose task or element has moved on meanwhile is
dropped when it comes up.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Final

from dtask.core.jobs.events import QueueView
from dtask.core.jobs.job import PENDING, QUEUED, RUNNING, SCHEDULED, STATES, Element, Task
from dtask.core.jobs.rows import QueueRow

#: Kinds of workers (lists of tags) whose demands are remembered.
KINDS_MAX: Final = 1_000

#: Entries of a line before anybody looks for those that wait no more.
TIDY_MIN: Final = 64

Tags = tuple[str, ...]

#: Whether a worker of these tags meets a demand of those requirements.
Meets = Callable[[Tags, Tags], bool]

#: What comes first is least: (-priority, job, place in the job, index), and a number that no
#: other entry has.
_Key = tuple[int, int, int, int, int]


class Queue:
    """A named line of jobs with limits and a weight."""

    __slots__ = (
        "counts",
        "lines",
        "max_queued",
        "max_running",
        "name",
        "paused",
        "ready",
        "weight",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        #: Attempts, and pending and queued tasks, at a time; None: no limit.
        self.max_running: int | None = None
        self.max_queued: int | None = None
        self.weight = 1.0
        self.paused = False
        #: Tasks and elements of its live jobs, by code of their state.
        self.counts = [0] * len(STATES)
        #: By demand; `ready` are those whose demand is open.
        self.lines: dict[Tags, Line] = {}
        self.ready: dict[Tags, Line] = {}

    @property
    def held(self) -> int:
        """Slots that its attempts hold."""
        return self.counts[SCHEDULED] + self.counts[RUNNING]

    @property
    def waiting(self) -> int:
        """Tasks and elements that no worker holds yet."""
        return self.counts[PENDING] + self.counts[QUEUED]

    @property
    def may_run(self) -> bool:
        """Whether its own settings let it take one more slot."""
        return not self.paused and (self.max_running is None or self.held < self.max_running)

    def take(self, row: QueueRow) -> None:
        """Take over settings."""
        self.max_running = row.max_running
        self.max_queued = row.max_queued
        self.weight = row.weight
        self.paused = row.paused

    def row(self) -> QueueRow:
        """Its settings."""
        return QueueRow(self.name, self.max_running, self.max_queued, self.weight, self.paused)

    def view(self) -> QueueView:
        """Its settings, and what stands in it."""
        return QueueView(
            self.name,
            self.max_running,
            self.max_queued,
            self.weight,
            self.paused,
            self.counts[PENDING],
            self.counts[QUEUED],
            self.held,
        )


class Line:
    """What waits in one queue for one demand. An entry of a Task is all its untouched elements."""

    __slots__ = ("_entries", "_tidy_at", "demand", "queue")

    def __init__(self, queue: Queue, demand: "Demand") -> None:
        self.queue = queue
        self.demand = demand
        self._entries: list[tuple[_Key, Task | Element]] = []
        #: With so many entries, those that wait no more are dropped.
        self._tidy_at = TIDY_MIN

    def add(self, key: _Key, entry: Task | Element) -> None:
        """One more."""
        heapq.heappush(self._entries, (key, entry))
        if len(self._entries) >= self._tidy_at:
            self._entries = [pair for pair in self._entries if _waits(pair[1])]
            heapq.heapify(self._entries)
            self._tidy_at = max(TIDY_MIN, 2 * len(self._entries))

    def head(self) -> _Key | None:
        """The key of the first one that still waits; None if none does."""
        entries = self._entries
        while entries:
            key, entry = entries[0]
            if _waits(entry):
                return key
            heapq.heappop(entries)
        return None

    def first(self) -> Element:
        """The first element that still waits. It stays here until it moves."""
        entry = self._entries[0][1]
        return entry.element(entry.fresh) if isinstance(entry, Task) else entry

    def __len__(self) -> int:
        return len(self._entries)


class Demand:
    """One list of requirements, and who waits with it."""

    __slots__ = ("lines", "shut", "tags")

    def __init__(self, tags: Tags) -> None:
        self.tags = tags
        self.lines: dict[str, Line] = {}
        #: No worker could take one when it was last asked for.
        self.shut = False


class Lines:
    """All queues, and whose turn it is."""

    def __init__(self, meets: Meets) -> None:
        self._meets = meets
        self.queues: dict[str, Queue] = {}
        self._demands: dict[Tags, Demand] = {}
        #: By the tags of a worker the demands that it meets.
        self._met: dict[Tags, dict[Tags, None]] = {}
        self._entries = 0

    def add(self, entry: Task | Element) -> None:
        """A queued element, or a task's untouched ones, waits from now on."""
        task = entry if isinstance(entry, Task) else entry.task
        index = task.fresh if entry is task else entry.index  # type: ignore[union-attr]
        job = task.job
        line = self._line(job.queue, task.tags)
        self._entries += 1
        line.add((-job.spec.priority, job.job_id, task.place, index, self._entries), entry)

    def next(self) -> Line | None:
        """The line whose first element's turn it is; None if nothing can be tried."""
        best: Queue | None = None
        share = 0.0
        for queue in self.queues.values():
            if self.waiting(queue):
                its = queue.held / queue.weight
                if best is None or its < share:
                    best, share = queue, its
        if best is None:
            return None
        return min(best.ready.values(), key=_head)

    def shut(self, demand: Demand) -> None:
        """No worker can take a task of this demand now."""
        demand.shut = True
        for line in demand.lines.values():
            line.queue.ready.pop(demand.tags, None)

    def open(self, kinds: Iterable[Tags]) -> None:
        """Workers of these tags have become able to take a task."""
        for kind in kinds:
            for tags in self._demands_of(kind):
                demand = self._demands[tags]
                if demand.shut:
                    demand.shut = False
                    for line in demand.lines.values():
                        line.queue.ready[tags] = line

    def sweep(self) -> None:
        """Drop all lines in which nothing waits any more. To be called now and then."""
        for queue in self.queues.values():
            self._tidy(queue, list(queue.lines.values()))

    def waiting(self, queue: Queue) -> bool:
        """Whether something of a queue could be tried now."""
        if not queue.ready or not queue.may_run:
            return False
        self._tidy(queue, queue.ready.values())
        return bool(queue.ready)

    def check(self) -> None:
        """Assert that lines, demands and queues agree."""
        for tags, demand in self._demands.items():
            assert demand.tags == tags
            for name, line in demand.lines.items():
                queue = self.queues[name]
                assert queue.lines[tags] is line
                assert (tags in queue.ready) == (not demand.shut)
        for queue in self.queues.values():
            for tags, line in queue.lines.items():
                assert self._demands[tags].lines[queue.name] is line
            assert queue.ready.keys() <= queue.lines.keys()
        for kind, met in self._met.items():
            assert set(met) == {tags for tags in self._demands if self._meets(kind, tags)}

    def _line(self, queue: Queue, tags: Tags) -> Line:
        line = queue.lines.get(tags)
        if line is None:
            demand = self._demands.get(tags)
            if demand is None:
                demand = self._demands[tags] = Demand(tags)
                for kind, met in self._met.items():
                    if self._meets(kind, tags):
                        met[tags] = None
            line = queue.lines[tags] = demand.lines[queue.name] = Line(queue, demand)
            if not demand.shut:
                queue.ready[tags] = line
        return line

    def _tidy(self, queue: Queue, lines: Iterable[Line]) -> None:
        """Drop those of these lines in which nothing waits any more."""
        for line in [line for line in lines if line.head() is None]:
            demand = line.demand
            queue.ready.pop(demand.tags, None)
            del queue.lines[demand.tags], demand.lines[queue.name]
            if not demand.lines:
                del self._demands[demand.tags]
                for met in self._met.values():
                    met.pop(demand.tags, None)

    def _demands_of(self, kind: Tags) -> dict[Tags, None]:
        """The demands that a worker of these tags meets."""
        met = self._met.get(kind)
        if met is None:
            if len(self._met) >= KINDS_MAX:
                self._met.clear()
            met = self._met[kind] = {
                tags: None for tags in self._demands if self._meets(kind, tags)
            }
        return met


def _head(line: Line) -> _Key:
    key = line.head()
    assert key is not None
    return key


def _waits(entry: Task | Element) -> bool:
    if isinstance(entry, Task):
        return entry.rest_code() == QUEUED
    return entry.code == QUEUED and entry.attempt is None
