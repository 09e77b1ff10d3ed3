"""The table of workers: who is there, how healthy, how loaded, with which tags.

Every worker has a *slot of the table*, a small number that is its bit in all bitsets. Workers
that can take a task stand in one of two load orders, `online` or, a lower tier, `suspect`; the
full, the draining and the offline stand in neither. `settle` moves a worker to where it belongs
after anything about it changed, and is the only one that does.

Health needs no timers. All ages have the same limits, so each status has one queue in the order
of the last heartbeat: a heartbeat moves its worker to the end, and only the first of a queue can
be due. Workers that did not change cost nothing.

Times here are core time: epoch seconds less the stalls of the scheduler itself (see `cluster`).
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from dtask.core.placement import slots
from dtask.core.placement.events import (
    Change,
    FleetCounts,
    Glimpse,
    Named,
    Status,
    WorkerChanged,
    WorkerView,
)
from dtask.core.placement.load import LoadOrder
from dtask.core.placement.tags import Requirements, TagIndex
from dtask.errors import Busy

if TYPE_CHECKING:
    from dtask.core.placement.leases import Lease

#: Workers in the table. When it is full, the longest offline one is forgotten for a new one.
WORKERS_MAX: Final = 100_000

#: Lists of requirements that are remembered. Each costs a comparison when a load changes.
DEMANDS_MAX: Final = 8

#: Incarnations of one worker that are remembered as superseded.
SUPERSEDED_MAX: Final = 8


class Health(Struct, frozen=True):
    """When a silent worker is what, in seconds since its last heartbeat."""

    suspect_after_s: float = 10.0
    offline_after_s: float = 20.0
    #: Since it went offline.
    forget_after_s: float = 3600.0


class Demand:
    """What is known of one list of requirements, as long as nobody's tags change.

    Most requests of a time ask for the same few things, and ask again while little has changed.
    """

    __slots__ = ("floor", "matching", "requirements")

    def __init__(self, requirements: Requirements, matching: int) -> None:
        #: Kept, so that its id is nobody else's as long as this is found by it.
        self.requirements = requirements
        #: The slots of the table that meet them, as a bitset.
        self.matching = matching
        #: No online worker that meets them and can take a task has a lower load: a search for
        #: the least loaded one begins here. (A miss costs 1 us a node at 50,000 workers.)
        self.floor = 0.0


class Worker:
    """One worker. Its fields belong to the core; everyone else gets a WorkerView."""

    __slots__ = (
        "address",
        "alive_at",
        "attached",
        "base",
        "connection",
        "counted",
        "drained",
        "draining",
        "ended",
        "fresh",
        "heard_at",
        "incarnation",
        "leases",
        "left",
        "life",
        "listed",
        "load",
        "max_tasks",
        "metrics",
        "named",
        "offered",
        "offline_at",
        "order",
        "reported",
        "seq",
        "slot",
        "status",
        "superseded",
        "tags",
        "taken",
        "trusted",
        "worker_id",
    )

    def __init__(self, worker_id: str, slot: int) -> None:
        self.worker_id = worker_id
        #: Its bit in every bitset; reused after it is forgotten.
        self.slot = slot
        self.address = ""
        self.tags: tuple[str, ...] = ()
        self.max_tasks = 0
        #: One life of the worker; None for one that does not say.
        self.incarnation: str | None = None
        #: What tells this life from others: its incarnation, or else its address.
        self.life = ""
        #: Earlier lives, latest last.
        self.superseded: tuple[str, ...] = ()
        #: Number of the last heartbeat of this life, if they are numbered.
        self.seq: int | None = None
        #: Epoch seconds of the last heartbeat, to be shown.
        self.heard_at = 0.0
        #: Core time of the last heartbeat, to be reckoned with.
        self.alive_at = 0.0
        #: Core time when it went offline; holds while it is.
        self.offline_at = 0.0
        self.status: Status = "offline"
        #: It is offline by its own word, so nobody misses it.
        self.left = False
        #: Its own word and an operator's word that it takes no new tasks.
        self.draining = False
        self.drained = False
        self.trusted = False
        #: Its channel is open: attempts of jobs can be sent to it.
        self.attached = False
        #: The shell's number of that channel, or of the last one.
        self.connection = 0
        self.metrics: dict[str, float | int | str | bool | None] | None = None
        #: What the last heartbeat counted; None if it did not count.
        self.reported: int | None = None
        #: What the last heartbeat named and nothing ended since; None if it did not name.
        self.listed: set[Named] | None = None
        #: Names without a fence in the last heartbeat, among `tasks` and among `ended`.
        self.named: frozenset[str] = frozenset()
        self.ended: frozenset[str] = frozenset()
        #: All live leases on it.
        self.leases: dict[str, Lease] = {}
        #: Leases that a report by count can't know of yet; None unless it reports so.
        self.fresh: dict[str, Lease] | None = None
        #: Slots taken by what the last report tells, beyond the counted leases.
        self.base = 0
        #: Live leases that take a slot beyond `base`.
        self.counted = 0
        #: The load order it stands in, and on which level.
        self.order: LoadOrder | None = None
        self.load = 0.0
        #: What the fleet's counts have of it: its slots and those that are taken, or 0 offline.
        self.offered = 0
        self.taken = 0

    @property
    def occupancy(self) -> int:
        """Slots that are taken: derived from the last report and the leases."""
        return self.base + self.counted

    @property
    def takes_none(self) -> bool:
        """Whether it drains, by its own word or an operator's."""
        return self.draining or self.drained


class Fleet:
    """All workers, and the indices that answer which of them can take a task."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self.workers: dict[str, Worker] = {}
        self.tags = TagIndex()
        #: Workers that can take a task, in two tiers.
        self.online = LoadOrder()
        self.suspect = LoadOrder()
        #: Bitsets over the slots of the table.
        self.everyone = 0
        self.offline_bits = 0
        self.draining_bits = 0
        self.trusted_bits = 0
        self.attached_bits = 0
        #: Attached workers that have become able to take a task, or one more, since it was last
        #: taken.
        self.opened: list[Worker] = []
        #: Workers that were detached, each with its life then, since it was last taken.
        self.cut: list[tuple[str, str]] = []
        #: Slot of the worker that was placed on last: ties go to the next one after it.
        self.last_slot = -1
        #: Slots of the workers that are not offline, and how many of them are taken.
        self.slots = 0
        self.taken = 0
        #: Workers that left, among the offline ones.
        self.left = 0
        #: What is worth telling since it was last taken.
        self.changes: list[WorkerChanged] = []
        #: By the id of the requirements: hashing them would cost more than they save.
        self._demands: dict[int, Demand] = {}
        self._at: list[Worker | None] = []
        self._free: list[int] = []
        self._ids: list[str] = []
        self._queues: dict[Status, OrderedDict[str, Worker]] = {
            "online": OrderedDict(),
            "suspect": OrderedDict(),
            "offline": OrderedDict(),
        }

    def at(self, slot: int) -> Worker:
        """The worker in `slot`."""
        worker = self._at[slot]
        assert worker is not None, slot
        return worker

    def bits_of(self, worker_ids: Iterable[str]) -> int:
        """The bitset of those of these workers that are known."""
        workers = self.workers
        return slots.bits_of({workers[name].slot for name in worker_ids if name in workers})

    def demand(self, requirements: Requirements) -> Demand:
        """What is known of these requirements."""
        demand = self._demands.get(id(requirements))
        if demand is None:
            matching = self.everyone
            for requirement in requirements:
                matching = self.tags.meeting(requirement, matching)
            if len(self._demands) >= DEMANDS_MAX:
                self._demands.clear()
            demand = self._demands[id(requirements)] = Demand(requirements, matching)
        return demand

    def join(self, worker_id: str) -> Worker:
        """A new worker, offline and without tags until its heartbeat is taken in."""
        if len(self.workers) >= WORKERS_MAX:
            if not self._queues["offline"]:
                raise Busy(
                    f"The table holds {WORKERS_MAX} live workers, which is its limit: "
                    f"run a second scheduler for more.",
                    code="too_many_workers",
                )
            self.forget(next(iter(self._queues["offline"].values())))
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot = len(self._at)
            self._at.append(None)
        worker = self._at[slot] = self.workers[worker_id] = Worker(worker_id, slot)
        insort(self._ids, worker_id)
        bit = 1 << slot
        self.everyone |= bit
        self.offline_bits |= bit
        self._demands.clear()
        self._queues["offline"][worker_id] = worker
        return worker

    def forget(self, worker: Worker) -> None:
        """Drop an offline worker (it has no leases); its slot is free for another."""
        assert worker.status == "offline"
        assert not worker.leases
        bit = 1 << worker.slot
        self.tags.remove(worker.slot, worker.tags)
        self._demands.clear()
        self.everyone ^= bit
        self.offline_bits ^= bit
        self.draining_bits &= ~bit
        self.trusted_bits &= ~bit
        assert not worker.attached
        self._part(worker, left=False)
        del self._queues["offline"][worker.worker_id]
        del self.workers[worker.worker_id]
        del self._ids[bisect_left(self._ids, worker.worker_id)]
        self._at[worker.slot] = None
        heapq.heappush(self._free, worker.slot)
        self.tell(worker, "forgotten")

    def refresh(self, worker: Worker, at: float, now: float) -> None:
        """A heartbeat came: the worker is online, and last in the queue."""
        worker.alive_at = at
        worker.heard_at = now
        if worker.status == "online":
            self._queues["online"].move_to_end(worker.worker_id)
        else:
            self.set_status(worker, "online", at)

    def set_status(self, worker: Worker, status: Status, at: float, *, left: bool = False) -> None:
        """Move the worker to the end of another status's queue. Settle it afterwards."""
        if "offline" in (status, worker.status):
            self.offline_bits ^= 1 << worker.slot
        if status == "offline":
            worker.offline_at = at
        self._part(worker, left=left)
        del self._queues[worker.status][worker.worker_id]
        self._queues[status][worker.worker_id] = worker
        worker.status = status

    def _part(self, worker: Worker, *, left: bool) -> None:
        self.left += left - worker.left
        worker.left = left

    def retag(self, worker: Worker, tags: tuple[str, ...]) -> None:
        """The worker carries `tags` (without repetitions) from now on."""
        self.tags.remove(worker.slot, worker.tags)
        self.tags.add(worker.slot, tags)
        worker.tags = tags
        if worker.attached and worker.order is self.online:
            self.opened.append(worker)
        self._demands.clear()

    def mark(self, worker: Worker) -> None:
        """Bring the bitsets of draining and trusted workers up to date."""
        bit = 1 << worker.slot
        if bool(self.draining_bits & bit) != worker.takes_none:
            self.draining_bits ^= bit
            self.tell(worker, "draining" if worker.takes_none else "undrained")
        if bool(self.trusted_bits & bit) != worker.trusted:
            self.trusted_bits ^= bit

    def attach(self, worker: Worker) -> None:
        """Attempts of jobs can be sent to this worker from now on."""
        if not worker.attached:
            worker.attached = True
            self.attached_bits |= 1 << worker.slot
            if worker.order is self.online:
                self.opened.append(worker)

    def detach(self, worker: Worker) -> None:
        """No attempt can be sent to this worker until it is attached again."""
        if worker.attached:
            worker.attached = False
            self.attached_bits ^= 1 << worker.slot
            assert worker.incarnation is not None
            self.cut.append((worker.worker_id, worker.incarnation))

    def settle(self, worker: Worker) -> None:  # noqa: C901, PLR0912 (calls would cost more than it)
        """Put the worker where it belongs in the load orders and the counts."""
        occupancy = worker.base + worker.counted
        order: LoadOrder | None = None
        if occupancy < worker.max_tasks and not worker.draining and not worker.drained:
            if worker.status == "online":
                order = self.online
            elif worker.status == "suspect":
                order = self.suspect
        offered, taken = worker.max_tasks, occupancy
        if worker.status == "offline":
            offered = taken = 0
        if taken != worker.taken:
            self.taken += taken - worker.taken
            worker.taken = taken
        if offered != worker.offered:
            self.slots += offered - worker.offered
            worker.offered = offered
        load = occupancy / worker.max_tasks
        if (
            worker.attached
            and order is self.online
            and (order is not worker.order or load < worker.load)
        ):
            self.opened.append(worker)
        if order is not worker.order:
            if worker.order is not None:
                worker.order.discard(worker.slot, worker.load)
            if order is not None:
                order.add(worker.slot, load)
            worker.order = order
        elif order is not None and load != worker.load:
            order.move(worker.slot, worker.load, load)
        worker.load = load
        if order is self.online:
            for demand in self._demands.values():
                if load < demand.floor and demand.matching >> worker.slot & 1:
                    demand.floor = load

    def due(self, at: float) -> Iterator[tuple[Worker, Literal["suspect", "offline"] | None]]:
        """Workers whose silence now means another status (None: forget), one after the other.

        The caller acts on each before it asks for the next.
        """
        health = self.health
        online, suspect, offline = self._queues.values()
        while online and _first(online).alive_at + health.suspect_after_s <= at:
            yield _first(online), "suspect"
        while suspect and _first(suspect).alive_at + health.offline_after_s <= at:
            yield _first(suspect), "offline"
        while offline and _first(offline).offline_at + health.forget_after_s <= at:
            yield _first(offline), None

    def next_due(self) -> float:
        """Core time when the next worker is due if it stays silent; infinity if none is."""
        health = self.health
        online, suspect, offline = self._queues.values()
        times = []
        if online:
            times.append(_first(online).alive_at + health.suspect_after_s)
        if suspect:
            times.append(_first(suspect).alive_at + health.offline_after_s)
        if offline:
            times.append(_first(offline).offline_at + health.forget_after_s)
        return min(times, default=float("inf"))

    def tell(self, worker: Worker, change: Change) -> None:
        """Note a change for whoever watches."""
        self.changes.append(WorkerChanged(worker.worker_id, change, worker.address))

    def listing(self, after: str, limit: int) -> list[WorkerView]:
        """Up to `limit` workers by id, those after the id `after`."""
        start = bisect_right(self._ids, after) if after else 0
        return [view(self.workers[name]) for name in self._ids[start : start + limit]]

    def glance(self, after: str, limit: int) -> list[Glimpse]:
        """The same, at a glance."""
        start = bisect_right(self._ids, after) if after else 0
        workers = self.workers
        return [_glimpse(workers[name]) for name in self._ids[start : start + limit]]

    def counts(self, leases: int) -> FleetCounts:
        """How many workers stand how, without those that left."""
        online, suspect, offline = self._queues.values()
        return FleetCounts(
            len(online),
            len(suspect),
            len(offline) - self.left,
            (self.draining_bits & ~self.offline_bits).bit_count(),
            self.attached_bits.bit_count(),
            self.slots,
            self.taken,
            leases,
        )

    def check(self, at: float) -> None:
        """Assert that every index equals a rebuild from scratch."""
        workers = self.workers
        assert self._ids == sorted(workers)
        assert [w for w in self._at if w is not None] == sorted(
            workers.values(), key=lambda w: w.slot
        )
        assert sorted(self._free) == [i for i, w in enumerate(self._at) if w is None]
        self.tags.check({w.slot: w.tags for w in workers.values()})
        for order, status in ((self.online, "online"), (self.suspect, "suspect")):
            order.check(
                {
                    w.slot: w.occupancy / w.max_tasks
                    for w in workers.values()
                    if w.status == status and not w.takes_none and w.occupancy < w.max_tasks
                }
            )
        for demand in self._demands.values():
            met = [w for w in workers.values() if demand.matching >> w.slot & 1]
            assert all(w.load >= demand.floor for w in met if w.order is self.online)
            for requirement in demand.requirements:
                assert demand.matching == self.tags.meeting(requirement, demand.matching)
        assert self.everyone == _bits(workers.values())
        assert self.offline_bits == _bits(w for w in workers.values() if w.status == "offline")
        assert self.draining_bits == _bits(w for w in workers.values() if w.takes_none)
        assert self.trusted_bits == _bits(w for w in workers.values() if w.trusted)
        assert self.attached_bits == _bits(w for w in workers.values() if w.attached)
        assert all(w.status != "offline" for w in workers.values() if w.attached)
        assert all(w.status == "offline" for w in workers.values() if w.left)
        assert self.left == sum(w.left for w in workers.values())
        there = [worker for worker in workers.values() if worker.status != "offline"]
        assert self.slots == sum(worker.max_tasks for worker in there)
        assert self.taken == sum(worker.occupancy for worker in there)
        for status, queue in self._queues.items():
            assert set(queue) == {name for name, w in workers.items() if w.status == status}
            since = [w.offline_at if status == "offline" else w.alive_at for w in queue.values()]
            assert since == sorted(since)
            assert all(moment <= at for moment in since)


def view(worker: Worker) -> WorkerView:
    """What is shown of a worker."""
    return WorkerView(
        worker_id=worker.worker_id,
        address=worker.address,
        tags=worker.tags,
        max_tasks=worker.max_tasks,
        occupancy=worker.base + worker.counted,
        reported=worker.reported,
        status=worker.status,
        last_heartbeat=worker.heard_at,
        trusted=worker.trusted,
        draining=worker.takes_none,
        leases=len(worker.leases),
        incarnation=worker.incarnation,
        metrics=worker.metrics or {},
    )


def _glimpse(worker: Worker) -> Glimpse:
    return Glimpse(
        worker.worker_id,
        "left" if worker.left else worker.status,
        worker.draining or worker.drained,
        worker.base + worker.counted,
        worker.max_tasks,
        worker.heard_at,
    )


def _first(queue: OrderedDict[str, Worker]) -> Worker:
    return next(iter(queue.values()))


def _bits(workers: Iterable[Worker]) -> int:
    return sum(1 << w.slot for w in workers)
