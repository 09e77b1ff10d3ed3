"""Whose turn it is: queues, and in them lines of what requires the same.

A *demand* is one list of requirements, however many tasks have it. A demand that no worker could
take the last time is *shut*, and none of its tasks is looked at until a worker opens that meets
it: so what fits nowhere costs nothing and blocks nothing. A worker that opens looks only at what
was shut since one of its *kind*, with the same tags, looked the last time: what was shut before
that and has stayed so does not fit it.

Of the queues that may run something now, the next is the one with the lowest held slots by
weight; within it the highest priority, then the oldest job, then the order of its tasks.

Entries are never looked for in a line: one whose task or element has moved on meanwhile is
dropped when it comes up.
"""

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import Final

from dtask.core.jobs.events import Misfit, QueueCounts, QueueView
from dtask.core.jobs.job import PENDING, QUEUED, RUNNING, SCHEDULED, STATES, Element, Task
from dtask.core.jobs.rows import QueueRow
from dtask.core.jobs.seats import Seats, Tags

#: Kinds of workers of which it is remembered what they have looked at.
KINDS_MAX: Final = 100_000

#: Demands that one look for misfits looks at.
MISFITS_LOOKED_AT_MAX: Final = 200

#: Entries of a line or an order before anybody looks for those that mean nothing any more.
TIDY_MIN: Final = 64

#: What comes first is least: (-priority, job, place in the job, index), and a number that no
#: other entry has.
_Key = tuple[int, int, int, int, int]


class Queue:
    """A named line of jobs with limits and a weight."""

    __slots__ = (
        "ages",
        "counts",
        "lines",
        "max_queued",
        "max_running",
        "name",
        "order",
        "paused",
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
        #: By demand.
        self.lines: dict[Tags, Line] = {}
        #: A heap of the lines whose demand is open, by the first entry of each. An entry of it
        #: may mean nothing any more: that shows when it comes up.
        self.order: list[tuple[_Key, Line]] = []
        self.ages = Ages()

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
            self.ages.oldest(),
        )

    def tally(self) -> QueueCounts:
        """What stands in it, by state."""
        return QueueCounts(
            self.name,
            self.counts[PENDING],
            self.counts[QUEUED],
            self.counts[SCHEDULED],
            self.counts[RUNNING],
            self.ages.oldest(),
        )


class Ages:
    """Since when those wait that are queued, to tell the oldest."""

    __slots__ = ("_entries", "_tidy_at")

    def __init__(self) -> None:
        #: A heap; the number sets apart what was queued at one moment.
        self._entries: list[tuple[float, int, Task | Element]] = []
        self._tidy_at = TIDY_MIN

    def add(self, number: int, entry: Task | Element) -> None:
        """One more, whose number no other entry has."""
        assert entry.queued_at is not None, entry
        heapq.heappush(self._entries, (entry.queued_at, number, entry))
        if len(self._entries) >= self._tidy_at:
            self._entries = [one for one in self._entries if _waits_since(one)]
            heapq.heapify(self._entries)
            self._tidy_at = max(TIDY_MIN, 2 * len(self._entries))

    def oldest(self) -> float | None:
        """Epoch seconds when the one was queued that has waited longest; None if none waits."""
        entries = self._entries
        while entries and not _waits_since(entries[0]):
            heapq.heappop(entries)
        return entries[0][0] if entries else None


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
            if not _waits(entry):
                heapq.heappop(entries)
            elif isinstance(entry, Task) and key[3] != entry.fresh:
                # Some of it was dispatched: those of a lower index that wait again come first.
                heapq.heapreplace(entries, ((*key[:3], entry.fresh, key[4]), entry))
            else:
                return key
        return None

    def first(self) -> Element:
        """The first element that still waits. It stays here until it moves."""
        entry = self._entries[0][1]
        return entry.element(entry.fresh) if isinstance(entry, Task) else entry

    def task(self) -> Task:
        """The task of the first one that still waits, untouched."""
        entry = self._entries[0][1]
        return entry if isinstance(entry, Task) else entry.task

    def waiting(self) -> "set[Task | Element]":
        """Those that wait."""
        return {entry for _, entry in self._entries if _waits(entry)}

    def __len__(self) -> int:
        return len(self._entries)


class Demand:
    """One list of requirements, and who waits with it."""

    __slots__ = ("lines", "musts", "shut", "tags")

    def __init__(self, tags: Tags, musts: frozenset[str]) -> None:
        self.tags = tags
        #: Plain tags among them. Most workers that do not fit lack one, and that is soon told.
        self.musts = musts
        #: By queue.
        self.lines: dict[str, Line] = {}
        #: No worker could take one when it was last asked for: the number of that refusal, which
        #: no other one has. 0: it is open.
        self.shut = 0


class Lines:
    """All queues, and whose turn it is."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        self.queues: dict[str, Queue] = {}
        self._demands: dict[Tags, Demand] = {}
        #: Those that are shut, the last one last, and how often any was.
        self._shut: dict[Demand, None] = {}
        self._shuts = 0
        #: By the tags of a worker: the last refusal that such a one has looked at.
        self._looked: dict[Tags, int] = {}
        #: Entries so far.
        self._entries = 0

    def add(self, entry: Task | Element) -> None:
        """A queued element, or a task's untouched ones, waits from now on."""
        if isinstance(entry, Task):
            task, index = entry, entry.fresh
        else:
            task, index = entry.task, entry.index
        job = task.job
        line = self._line(job.queue, task.tags)
        head = line.head()
        self._entries += 1
        key = (-job.spec.priority, job.job_id, task.place, index, self._entries)
        line.add(key, entry)
        job.queue.ages.add(self._entries, entry)
        if not line.demand.shut and (head is None or key < head):
            _enter(line, key)

    def next(self) -> Line | None:
        """The line whose first element's turn it is; None if nothing can be tried."""
        best: Line | None = None
        least = 0.0
        for queue in self.queues.values():
            if not queue.order or not queue.may_run:
                continue
            share = queue.held / queue.weight
            if (best is None or share < least) and (line := self._first(queue)) is not None:
                best, least = line, share
        return best

    def shut(self, demand: Demand) -> None:
        """No worker can take a task of this demand now."""
        assert not demand.shut
        self._shuts += 1
        demand.shut = self._shuts
        self._shut[demand] = None

    def open(self, kinds: Iterable[Tags]) -> None:
        """Workers of these tags have become able to take a task."""
        for kind in kinds:
            seen = self._looked.get(kind, 0)
            has = frozenset(kind)
            for demand in self._shut_since(seen):
                if demand.musts <= has and self._seats.meets(kind, demand.tags):
                    del self._shut[demand]
                    demand.shut = 0
                    for line in demand.lines.values():
                        if (head := line.head()) is not None:
                            _enter(line, head)
            if seen != self._shuts:
                if len(self._looked) >= KINDS_MAX:
                    self._looked.clear()
                self._looked[kind] = self._shuts

    def misfits(self, limit: int) -> list[Misfit]:
        """Of the demands that are shut, those that no worker could take, were it idle.

        Only the first ones are looked at: it takes 8 us each, and is asked again and again.
        """
        found: list[Misfit] = []
        for demand in islice(self._shut, MISFITS_LOOKED_AT_MAX):
            if len(found) == limit:
                break
            waiting = [line for line in demand.lines.values() if line.head() is not None]
            if waiting and not self._seats.fits(demand.tags):
                first = waiting[0].task()
                found.append(Misfit(demand.tags, first.job.job_id, str(first)))
        return found

    def sweep(self) -> None:
        """Drop all lines in which nothing waits any more. To be called now and then."""
        for queue in self.queues.values():
            for line in [line for line in queue.lines.values() if line.head() is None]:
                self._drop(line)

    def check(self) -> None:
        """Assert that lines, demands and queues agree."""
        for tags, demand in self._demands.items():
            assert demand.tags == tags
            assert demand.lines
            assert bool(demand.shut) == (demand in self._shut)
            for name, line in demand.lines.items():
                assert self.queues[name].lines[tags] is line
        for queue in self.queues.values():
            entered: dict[Line, _Key] = {}
            for key, line in queue.order:
                entered[line] = min(key, entered.get(line, key))
            for tags, line in queue.lines.items():
                assert self._demands[tags].lines[queue.name] is line
                if not line.demand.shut and (head := line.head()) is not None:
                    assert entered[line] <= head, tags
            waiting = {entry for line in queue.lines.values() for entry in line.waiting()}
            since = [entry.queued_at or 0.0 for entry in waiting]
            assert queue.ages.oldest() == min(since, default=None), queue.name
            counts = [entry.rest if isinstance(entry, Task) else 1 for entry in waiting]
            assert queue.counts[QUEUED] == sum(counts), queue.name
        numbers = [demand.shut for demand in self._shut]
        assert numbers == sorted(numbers)
        for demand in self._shut:
            assert self._demands[demand.tags] is demand
            for kind, seen in self._looked.items():
                assert demand.shut > seen or not self._seats.meets(kind, demand.tags)

    def _shut_since(self, seen: int) -> list[Demand]:
        """Demands that were shut after the refusal of this number."""
        found = []
        for demand in reversed(self._shut):
            if demand.shut <= seen:
                break
            found.append(demand)
        return found

    def _line(self, queue: Queue, tags: Tags) -> Line:
        line = queue.lines.get(tags)
        if line is None:
            demand = self._demands.get(tags)
            if demand is None:
                demand = self._demands[tags] = Demand(tags, self._seats.musts(tags))
            line = queue.lines[tags] = demand.lines[queue.name] = Line(queue, demand)
        return line

    def _first(self, queue: Queue) -> Line | None:
        """The line of a queue that comes first among those whose demand is open."""
        order = queue.order
        while order:
            key, line = order[0]
            head = line.head()
            if head == key and not line.demand.shut:
                return line
            heapq.heappop(order)
            if head is None:
                self._drop(line)
            elif not line.demand.shut and key < head:
                heapq.heappush(order, (head, line))
        return None

    def _drop(self, line: Line) -> None:
        """Nothing waits in it any more."""
        demand = line.demand
        if line.queue.lines.get(demand.tags) is not line:
            return  # it was dropped before
        del line.queue.lines[demand.tags], demand.lines[line.queue.name]
        if not demand.lines:
            del self._demands[demand.tags]
            self._shut.pop(demand, None)


def _enter(line: Line, head: _Key) -> None:
    """A line whose demand is open has this for its first entry from now on."""
    queue = line.queue
    heapq.heappush(queue.order, (head, line))
    if len(queue.order) > 2 * len(queue.lines) + TIDY_MIN:
        open_ = [one for one in queue.lines.values() if not one.demand.shut]
        queue.order[:] = [(key, one) for one in open_ if (key := one.head()) is not None]
        heapq.heapify(queue.order)


def _waits_since(one: tuple[float, int, Task | Element]) -> bool:
    """Whether it is still waiting, and was not queued anew."""
    return one[2].queued_at == one[0] and _waits(one[2])


def _waits(entry: Task | Element) -> bool:
    if isinstance(entry, Task):
        return entry.rest_code() == QUEUED
    return entry.code == QUEUED and entry.attempt is None
