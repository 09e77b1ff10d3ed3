"""Taking in a heartbeat: whose life it is, what it confirms, what it ends.

A heartbeat confirms, it never erases: a lease that the worker can't know of yet is left alone.
How much it tells depends on the worker:

*by name* (`tasks`): live leases and listed names count once each, plus what the worker counts
beyond those it named. A listed name confirms its lease, and a confirmed lease that is no longer
listed is over. A name with a fence stands for the lease with that fence only. A name without one
stands for the task's lease, unless the worker already used it before the grant: then it is the
old run's until a report comes without it.

*by count* (`current_tasks` alone): the count, plus the leases it can't know of: a lease counts
until the first heartbeat at least three seconds after its grant.

*by lease* (neither): live leases.
"""

from typing import Final

from dtask.core.placement import tags
from dtask.core.placement.events import Change, Heard, Heartbeat, Named
from dtask.core.placement.fleet import SUPERSEDED_MAX, Fleet, Worker
from dtask.core.placement.leases import FRESH_S, Leases, names
from dtask.errors import Conflict, Denied, InvalidRequest

#: A worker that stopped naming its tasks leaves its confirmed leases this long.
REOPENED_S: Final = 30.0


def hear(fleet: Fleet, leases: Leases, beat: Heartbeat, at: float, now: float) -> Heard:
    """Take in one heartbeat at core time `at`, epoch time `now`.

    Raises InvalidRequest for a bad tag, Denied for an untrusted claim on a trusted id, Conflict
    for a life that does not hold the id. Nothing has changed then.
    """
    worker = fleet.workers.get(beat.worker_id)
    life = f"@{beat.address}" if beat.incarnation is None else beat.incarnation
    if worker is None or beat.tags != worker.tags:
        beat_tags = _checked_tags(beat.tags)
    else:
        beat_tags = worker.tags
    if worker is None:
        worker = fleet.join(beat.worker_id)
        worker.incarnation = beat.incarnation
        worker.life = life
        change: Change | None = "joined"
    else:
        _check_trust(worker, beat)
        if life != worker.life:
            _check_succession(worker, beat)
            fleet.detach(worker)
            _succeed(leases, worker, beat)
            worker.life = life
            change = "renewed"
        elif _is_late(worker, beat):
            return Heard(worker.drained)
        else:
            change = None if worker.status == "online" else "back"
    _describe(fleet, worker, beat, beat_tags, change)
    fleet.refresh(worker, at, now)
    _report(leases, worker, beat, at)
    if beat.leaving:
        leave(fleet, leases, worker, at, left=True)
        fleet.tell(worker, "left")
    fleet.settle(worker)
    return Heard(worker.drained)


def leave(fleet: Fleet, leases: Leases, worker: Worker, at: float, *, left: bool = False) -> None:
    """The worker is offline from now on, by its own word if it `left`, and its leases are over."""
    fleet.set_status(worker, "offline", at, left=left)
    fleet.detach(worker)
    for lease in list(worker.leases.values()):
        leases.end(lease)
    fleet.settle(worker)


def _check_trust(worker: Worker, beat: Heartbeat) -> None:
    """Raise Denied unless the heartbeat may speak for the worker."""
    if worker.trusted and not beat.trusted:
        raise Denied(
            f"The worker id {worker.worker_id!r} belongs to a worker that heartbeats with the "
            f"token: send the token, or choose another id.",
            code="untrusted",
        )


def _is_late(worker: Worker, beat: Heartbeat) -> bool:
    """Whether a newer heartbeat of the same life has been taken in.

    A worker that numbers its heartbeats and names no incarnation starts over with its numbers
    when it starts over. That can't be told from late heartbeats until it is suspect.
    """
    if beat.seq is None or worker.seq is None or beat.seq > worker.seq:
        return False
    return beat.incarnation is not None or worker.status == "online"


def _succeed(leases: Leases, worker: Worker, beat: Heartbeat) -> None:
    """Another life takes over: it holds nothing of what the old one was known to hold."""
    if worker.incarnation is not None:
        worker.superseded = (*worker.superseded, worker.incarnation)[-SUPERSEDED_MAX:]
    for lease in list(worker.leases.values()):
        if lease.confirmed:
            leases.end(lease)
        lease.old_name = lease.old_end = False
    worker.incarnation = beat.incarnation
    worker.seq = None
    worker.named = worker.ended = frozenset()
    if worker.listed is not None:
        worker.listed = set()


def _check_succession(worker: Worker, beat: Heartbeat) -> None:
    """Raise Conflict unless another life may take over the worker id."""
    holder = {
        "worker_id": worker.worker_id,
        "address": worker.address,
        "incarnation": worker.incarnation,
    }
    if beat.incarnation in worker.superseded:
        raise Conflict(
            f"A newer life of worker {worker.worker_id!r}, at {worker.address}, has taken over "
            f"its id: start this one with an id of its own.",
            code="superseded",
            holder=holder,
        )
    if worker.status == "online" and beat.address != worker.address:
        raise Conflict(
            f"The worker id {worker.worker_id!r} is held by a live worker at {worker.address}: "
            f"choose another id, or stop that one first.",
            code="held",
            holder=holder,
        )


def _checked_tags(listed: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, each once. Raises InvalidRequest that names the bad one."""
    if len(listed) > tags.TAGS_MAX:
        raise InvalidRequest(
            f"resource_tags: {len(listed)} tags: expected at most {tags.TAGS_MAX}.",
            code="malformed",
            field="resource_tags",
        )
    for i, tag in enumerate(listed):
        tags.check_tag(tag, f"resource_tags[{i}]")
    return listed if len(set(listed)) == len(listed) else tuple(dict.fromkeys(listed))


def _describe(
    fleet: Fleet, worker: Worker, beat: Heartbeat, beat_tags: tuple[str, ...], change: Change | None
) -> None:
    """What the worker is, from its own words."""
    if beat_tags is not worker.tags and beat_tags != worker.tags:
        fleet.retag(worker, beat_tags)
    worker.address = beat.address
    worker.max_tasks = beat.max_tasks
    if beat.seq is not None:
        worker.seq = beat.seq
    worker.metrics = beat.metrics
    if change:
        fleet.tell(worker, change)
    if change == "joined":
        worker.drained = beat.drained  # the operator's word outlives the scheduler that heard it
    if change or beat.draining != worker.draining or beat.trusted != worker.trusted:
        worker.draining = beat.draining
        worker.trusted = beat.trusted
        fleet.mark(worker)


def _report(leases: Leases, worker: Worker, beat: Heartbeat, at: float) -> None:
    """What the worker holds, from its own words. Settle it afterwards."""
    _choose_account(leases, worker, beat, at)
    if beat.ended or worker.ended:
        _end_named(leases, worker, beat.ended)
    if beat.tasks is not None:
        _match_named(leases, worker, beat)
    elif beat.current_tasks is not None:
        worker.base = beat.current_tasks
        _absorb(worker, at)
    else:
        worker.base = 0
    worker.reported = beat.current_tasks


def _choose_account(leases: Leases, worker: Worker, beat: Heartbeat, at: float) -> None:
    """Start over with counting when the worker reports in another way than before."""
    by_name = beat.tasks is not None
    by_count = not by_name and beat.current_tasks is not None
    if by_name == (worker.listed is not None) and by_count == (worker.fresh is not None):
        return
    worker.listed = set() if by_name else None
    worker.named = frozenset()
    unpinned = {name: lease for name, lease in worker.leases.items() if not lease.pinned}
    worker.fresh = unpinned if by_count else None
    worker.counted = len(worker.leases)
    worker.base = 0
    for lease in worker.leases.values():
        lease.counted = True
        if lease.confirmed:
            leases.reopen(lease, REOPENED_S, at)


def _end_named(leases: Leases, worker: Worker, ended: tuple[Named, ...]) -> None:
    """End the leases of tasks that the worker says have ended, seen before or not."""
    for task_id, fence in ended:
        lease = worker.leases.get(task_id)
        if fence is not None:
            leases.lift(fence)
            if lease is not None and lease.fence == fence:
                leases.strike(lease)
        elif lease is not None and not lease.old_end:
            if lease.old_name:  # that was the end of the old run, and may be repeated
                lease.old_name = False
                lease.old_end = True
            else:
                leases.strike(lease)
    worker.ended = frozenset(task_id for task_id, fence in ended if fence is None)
    for lease in worker.leases.values():
        if lease.old_end and lease.task_id not in worker.ended:
            lease.old_end = False


def _match_named(leases: Leases, worker: Worker, beat: Heartbeat) -> None:
    """Confirm the leases of listed names, end the confirmed ones that are listed no longer."""
    assert beat.tasks is not None
    listed = set(beat.tasks)
    unnamed = max(0, (beat.current_tasks or 0) - len(listed))
    for _, fence in listed:
        if fence is not None:
            leases.lift(fence)
    if beat.ended:
        listed.difference_update(entry for entry in beat.ended if entry[1] is not None)
    matched = 0
    over = []
    for lease in worker.leases.values():
        if lease.old_name and (lease.task_id, None) not in listed:
            lease.old_name = False
        if found := names(lease, listed):
            lease.confirmed = True
            matched += found
        elif lease.confirmed:
            over.append(lease)
    for lease in over:
        leases.strike(lease)
    worker.listed = listed
    worker.named = frozenset(task_id for task_id, fence in listed if fence is None)
    worker.base = len(listed) - matched + unnamed


def _absorb(worker: Worker, at: float) -> None:
    """Leases old enough are in the count by now."""
    fresh = worker.fresh
    assert fresh is not None
    for lease in [lease for lease in fresh.values() if at - lease.granted_at >= FRESH_S]:
        del fresh[lease.task_id]
        lease.counted = False
        worker.counted -= 1
