"""Leases: a slot held on one worker for one task.

A lease is *open* until the worker is known to hold the task, and ends at its `expires_at`; asking
again renews it. Once the worker has named the task it is *confirmed* and lives as long as the
worker goes on naming it. A lease that was *pinned*, for an attempt of a job, lives until it is
ended or its worker is offline, whatever heartbeats say: they are silent about such attempts, and
no client can name it. Each carries a *fence*, a number that only grows, over restarts too:
it starts at epoch seconds x 2^20, so a scheduler that grants fewer than a million leases a
second never grants a fence twice, and it is lifted above any fence that a worker reports.
"""

import heapq
import math
from typing import Final

from dtask.core.placement.events import Named, Placement, SlotHeld
from dtask.core.placement.fleet import Fleet, Worker
from dtask.errors import Busy, NotFound

#: Live leases at a time.
LEASES_MAX: Final = 1_000_000

#: A report by count can't know of a lease that is younger than this when it arrives: the client
#: needs time to start the task, and the report time to travel.
FRESH_S: Final = 3.0

#: Fences a second: fences start at epoch seconds times this.
FENCES_PER_S: Final = 2**20

#: How often the fence is lifted to what the clock says.
LIFT_EVERY_S: Final = 1.0

#: A worker may claim any fence, but only one below this lifts ours, so that no claim can push
#: fences out of the 2^53 that JSON readers count exactly. Reached by the clock in the year 2106.
FENCE_LIFT_MAX: Final = 2**52


class Lease:
    """A slot held on one worker for one task."""

    __slots__ = (
        "confirmed",
        "counted",
        "expires_at",
        "fence",
        "granted_at",
        "life",
        "live",
        "old_end",
        "old_name",
        "task_id",
        "worker",
    )

    def __init__(
        self, task_id: str, worker: Worker, fence: int, granted_at: float, ttl_s: float
    ) -> None:
        self.task_id = task_id
        self.worker = worker
        self.fence = fence
        #: Core time of the grant, and when it ends if it is still open then.
        self.granted_at = granted_at
        self.expires_at = granted_at + ttl_s
        #: The worker's life at the grant: in another one the answer no longer stands.
        self.life = worker.life
        self.live = True
        self.confirmed = False
        #: It takes a slot beyond the worker's `base`.
        self.counted = True
        #: The worker named this task without a fence, as held or as ended, before the grant: as
        #: long as it goes on doing so, the name is the old run's.
        self.old_name = task_id in worker.named
        self.old_end = task_id in worker.ended

    @property
    def pinned(self) -> bool:
        """It is an attempt's of a job, and only the job layer ends it."""
        return self.expires_at == math.inf


class Leases:
    """All live leases, by task, and the heap of their ends."""

    def __init__(self, fleet: Fleet, now: float) -> None:
        self.by_task: dict[str, Lease] = {}
        self._fleet = fleet
        self._fence = int(now * FENCES_PER_S)
        #: Core time when the fence is next lifted.
        self._lift_at = now
        #: (core time, fence, lease). An entry may stand for a lease that has ended, was renewed
        #: or confirmed since: that shows when it comes up.
        self._ends: list[tuple[float, int, Lease]] = []

    def grant(self, task_id: str, worker: Worker, ttl_s: float, at: float) -> Lease:
        """Take a slot of `worker` for `task_id`, which holds no lease. Raises Busy."""
        assert worker.base + worker.counted < worker.max_tasks, worker.worker_id
        assert task_id not in self.by_task, task_id
        if len(self.by_task) >= LEASES_MAX:
            raise _too_many()
        lease = Lease(task_id, worker, self._next_fence(at), at, ttl_s)
        self.by_task[task_id] = worker.leases[task_id] = lease
        if worker.fresh is not None:
            worker.fresh[task_id] = lease
        worker.counted += 1
        self._fleet.settle(worker)
        self._await_end(lease)
        return lease

    def pin(self, worker: Worker, at: float, fence: int | None = None) -> Lease:
        """Take a slot of `worker` until the lease is ended. Raises Busy.

        With a fence: for what the worker holds already, whether or not it has a free slot, and
        whatever the limit is.
        """
        if fence is None:
            if len(self.by_task) >= LEASES_MAX:
                raise _too_many()
            assert worker.base + worker.counted < worker.max_tasks, worker.worker_id
            fence = self._next_fence(at)
        lease = Lease(pinned_id(fence), worker, fence, at, math.inf)
        self.by_task[lease.task_id] = worker.leases[lease.task_id] = lease
        worker.counted += 1
        self._fleet.settle(worker)
        return lease

    def renew(self, lease: Lease, ttl_s: float, at: float) -> None:
        """The same question came again: an open lease lives at least `ttl_s` from now."""
        lease.expires_at = max(lease.expires_at, at + ttl_s)

    def reopen(self, lease: Lease, ttl_s: float, at: float) -> None:
        """The worker stopped naming tasks at all: a confirmed lease can't be told over by it."""
        lease.confirmed = False
        lease.expires_at = at + ttl_s
        self._await_end(lease)

    def end(self, lease: Lease) -> None:
        """End a lease. A name that confirmed it goes on taking the slot until the next report."""
        self._drop(lease)
        lease.worker.base += _names_now(lease)
        self._fleet.settle(lease.worker)

    def strike(self, lease: Lease) -> None:
        """End a lease and the names that stand for it. Settle the worker afterwards."""
        self._drop(lease)
        listed = lease.worker.listed
        if listed is not None:
            listed.discard((lease.task_id, lease.fence))
            if not lease.old_name:
                listed.discard((lease.task_id, None))

    def restore(self, lease: Lease) -> None:
        """Undo `end`, within the same step."""
        lease.live = True
        self.by_task[lease.task_id] = lease.worker.leases[lease.task_id] = lease
        if lease.counted:
            lease.worker.counted += 1
            if lease.worker.fresh is not None:
                lease.worker.fresh[lease.task_id] = lease
        lease.worker.base -= _names_now(lease)
        self._fleet.settle(lease.worker)
        if not lease.confirmed:
            self._await_end(lease)  # its entry in the heap may have gone with it

    def unrenew(self, lease: Lease, expires_at: float) -> None:
        """Undo `renew`, within the same step."""
        lease.expires_at = expires_at
        if not lease.confirmed:
            self._await_end(lease)

    def release(self, task_id: str, fence: int | None) -> Lease:
        """End the lease of `task_id`, with this fence if one is given. Raises NotFound.

        The name that confirmed it counts no longer either: whoever holds the lease says that the
        task is over, and the slot of a short task should not wait for the worker's next report.
        If the task still runs, that report names it, and it counts again.
        """
        lease = self.by_task.get(task_id)
        if lease is None:
            raise NotFound(
                f"No lease is held for task {task_id!r}: it ended, expired, or was never granted.",
                code="no_lease",
                task_id=task_id,
            )
        if fence is not None and fence != lease.fence:
            raise NotFound(
                f"The lease of task {task_id!r} has fence {lease.fence}, not {fence}: "
                f"the one with fence {fence} is over.",
                code="no_lease",
                task_id=task_id,
            )
        self.strike(lease)
        self._fleet.settle(lease.worker)
        return lease

    def lift(self, fence: int) -> None:
        """Grant only fences above one that a worker reports."""
        if self._fence < fence < FENCE_LIFT_MAX:
            self._fence = fence

    def expire(self, at: float) -> None:
        """End the open leases whose time has come."""
        ends = self._ends
        while ends and ends[0][0] <= at:
            lease = heapq.heappop(ends)[2]
            if not lease.live or lease.confirmed:
                continue
            if lease.expires_at <= at:
                self.end(lease)
            else:
                heapq.heappush(ends, (lease.expires_at, lease.fence, lease))

    def next_due(self) -> float:
        """Core time when the next lease may end; infinity if none can."""
        return self._ends[0][0] if self._ends else float("inf")

    def check(self, at: float) -> None:
        """Assert that leases, workers and heap agree, and that occupancy is what it is by rule."""
        awaited: dict[int, float] = {}
        for end, _, lease in self._ends:
            awaited[id(lease)] = min(end, awaited.get(id(lease), end))
        on_workers = 0
        for worker in self._fleet.workers.values():
            on_workers += len(worker.leases)
            assert worker.status != "offline" or not worker.leases
            assert worker.occupancy == _occupancy_by_rule(worker), worker.worker_id
        assert on_workers == len(self.by_task)
        for task_id, lease in self.by_task.items():
            assert lease.live
            assert lease.task_id == task_id
            assert lease.worker.leases[task_id] is lease
            assert lease.fence <= self._fence
            if not lease.confirmed and not lease.pinned:
                assert at < lease.expires_at
                assert awaited[id(lease)] <= lease.expires_at

    def _next_fence(self, at: float) -> int:
        if at >= self._lift_at:
            # Fences keep up with the clock, so that one that began behind its predecessor's soon
            # grants fences above those that workers have seen.
            self._fence = max(self._fence, int(at * FENCES_PER_S))
            self._lift_at = at + LIFT_EVERY_S
        self._fence += 1
        return self._fence

    def _drop(self, lease: Lease) -> None:
        assert lease.live
        lease.live = False
        worker = lease.worker
        del self.by_task[lease.task_id]
        del worker.leases[lease.task_id]
        if lease.counted:
            worker.counted -= 1
            if worker.fresh is not None:
                worker.fresh.pop(lease.task_id, None)

    def _await_end(self, lease: Lease) -> None:
        heapq.heappush(self._ends, (lease.expires_at, lease.fence, lease))
        if len(self._ends) > 2 * len(self.by_task) + 1024:
            # Most entries stand for leases that were released: start over with the open ones.
            self._ends = [
                (open_.expires_at, open_.fence, open_)
                for open_ in self.by_task.values()
                if not open_.confirmed and not open_.pinned
            ]
            heapq.heapify(self._ends)


def pinned_id(fence: int) -> str:
    """The task id of a pinned lease: one that no request can hold, for it is not printable."""
    return f"\x1f{fence}"


def names(lease: Lease, listed: set[tuple[str, int | None]]) -> int:
    """How many names in `listed` stand for this lease: with its fence, and without one."""
    found = (lease.task_id, lease.fence) in listed
    return found + (not lease.old_name and (lease.task_id, None) in listed)


def _names_now(lease: Lease) -> int:
    listed = lease.worker.listed
    return names(lease, listed) if listed else 0


def _too_many() -> Busy:
    return Busy(
        f"{LEASES_MAX} leases are held, which is the limit: release those that are done.",
        code="too_many_leases",
    )


def held_on(worker: Worker, stalled_s: float) -> tuple[SlotHeld, ...]:
    """What takes the slots of a worker, by name, the oldest first."""
    leases = sorted(worker.leases.values(), key=lambda lease: lease.fence)
    known: set[Named] = {(lease.task_id, lease.fence) for lease in leases}
    known |= {(lease.task_id, None) for lease in leases if not lease.old_name}
    others = sorted((worker.listed or set()) - known, key=lambda named: (named[0], named[1] or 0))
    return (
        *(SlotHeld(task_id, fence, None) for task_id, fence in others),
        *(
            SlotHeld(
                None if lease.pinned else lease.task_id,
                lease.fence,
                round(lease.granted_at + stalled_s, 3),
            )
            for lease in leases
        ),
    )


def placement(lease: Lease, stalled_s: float) -> Placement:
    """The answer that the lease stands for; `stalled_s` turns core time into epoch seconds."""
    worker = lease.worker
    return Placement(
        worker.worker_id, worker.address, lease.fence, round(lease.expires_at + stalled_s, 3)
    )


def _occupancy_by_rule(worker: Worker) -> int:
    """Occupancy, worked out from the report and the leases alone."""
    leases = worker.leases.values()
    if worker.listed is not None:
        matched = sum(names(lease, worker.listed) for lease in leases)
        unnamed = worker.base - (len(worker.listed) - matched)
        assert unnamed >= 0
        return len(leases) + len(worker.listed) - matched + unnamed
    if worker.reported is not None:
        return worker.reported + sum(lease.counted for lease in leases)
    return len(leases)
