"""Choosing a worker and taking the slot, in one synchronous step.

*Feasible*: all requirements hold, and the worker is not offline, draining, excluded or full.
*Rank*: online before suspect; more preferred tags met; the lowest load (`bin_pack`: the highest
that still fits); ties go to the next slot of the table after the last one placed, cyclic, so
that an idle fleet wears evenly.
"""

from dtask.core.placement import slots
from dtask.core.placement.events import Ask, Refusal
from dtask.core.placement.explain import explain
from dtask.core.placement.fleet import Fleet, Worker
from dtask.core.placement.leases import Lease, Leases
from dtask.core.placement.tags import Requirements
from dtask.errors import Busy


def place(fleet: Fleet, leases: Leases, ask: Ask, at: float) -> Lease | None:
    """The lease that answers `ask`: the one that stands, or a new one; None if no worker fits.

    Raises Busy if the table of leases is full.
    """
    held = leases.by_task.get(ask.task_id)
    if held is not None:
        if _stands(fleet, held, ask):
            leases.renew(held, ask.ttl_s, at)
            return held
        leases.end(held)
    worker = choose(fleet, ask)
    if worker is None:
        return None
    fleet.last_slot = worker.slot
    return leases.grant(ask.task_id, worker, ask.ttl_s, at)


def place_all(
    fleet: Fleet, leases: Leases, asks: tuple[Ask, ...], at: float, *, warm_in_s: float
) -> list[Lease] | Refusal:
    """Leases for all of `asks`; or, with nothing changed, why the first misfit is refused.

    Raises Busy, with nothing changed, if the table of leases is full.
    """
    last_slot = fleet.last_slot
    done: list[tuple[Lease | None, Lease | None, float]] = []
    try:
        for index, ask in enumerate(asks):
            before = leases.by_task.get(ask.task_id)
            expires_at = before.expires_at if before is not None else 0.0
            lease = place(fleet, leases, ask, at)
            done.append((lease, before, expires_at))
            if lease is None:
                # Explained as things stand here: those before this one have taken their slots.
                refusal = explain(fleet, ask, warm_in_s=warm_in_s, index=index)
                break
        else:
            return [lease for lease, _, _ in done if lease is not None]
    except Busy:
        _undo(leases, done)
        fleet.last_slot = last_slot
        raise
    _undo(leases, done)
    fleet.last_slot = last_slot
    return refusal


def _undo(leases: Leases, done: list[tuple[Lease | None, Lease | None, float]]) -> None:
    """Take back placements: (the answer's lease, the one before it, when that one expired)."""
    for after, before, expires_at in reversed(done):
        if after is not before:
            if after is not None:
                leases.end(after)
            if before is not None:
                leases.restore(before)
        elif before is not None:
            leases.unrenew(before, expires_at)


def choose(fleet: Fleet, ask: Ask) -> Worker | None:
    """The feasible worker that ranks first."""
    demand = fleet.demand(ask.requirements)
    for order in (fleet.online, fleet.suspect):
        meeting = candidates = order.members & demand.matching
        if candidates and ask.trusted:
            candidates &= fleet.trusted_bits
        if candidates and ask.excluded:
            candidates ^= candidates & fleet.bits_of(ask.excluded)
        if not candidates:
            continue
        if ask.preferred:
            candidates = _meeting_most(fleet, ask.preferred, candidates)
        if ask.strategy == "bin_pack":
            best = order.most(candidates)
        elif order is fleet.online:
            best, load = order.least(candidates, demand.floor)
            if candidates is meeting:  # then nobody who was left out stands lower
                demand.floor = load
        else:
            best, _ = order.least(candidates)
        return fleet.at(slots.next_cyclic(best, fleet.last_slot))
    return None


def seat(fleet: Fleet, requirements: Requirements) -> Worker | None:
    """The worker for an attempt of a job: attached, online, with a free slot, least loaded."""
    candidates = fleet.online.members & fleet.attached_bits
    for requirement in requirements:
        if not candidates:
            return None
        candidates = fleet.tags.meeting(requirement, candidates)
    if not candidates:
        return None
    best, _ = fleet.online.least(candidates)
    return fleet.at(slots.next_cyclic(best, fleet.last_slot))


def _meeting_most(fleet: Fleet, preferred: tuple[str, ...], candidates: int) -> int:
    """The candidates that carry the largest number of the preferred tags.

    Counts all workers at once, in binary: plane k holds bit k of every worker's count, and
    adding a tag is a ripple carry through the planes. Then the planes are read from the top.
    """
    planes: list[int] = []
    for tag in set(preferred):
        carry = fleet.tags.bits(tag) & candidates
        for k, plane in enumerate(planes):
            if not carry:
                break
            planes[k] = plane ^ carry
            carry &= plane
        if carry:
            planes.append(carry)
    for plane in reversed(planes):
        candidates = candidates & plane or candidates
    return candidates


def _stands(fleet: Fleet, lease: Lease, ask: Ask) -> bool:
    """Whether the lease still answers what is asked now."""
    worker = lease.worker
    if (
        worker.takes_none
        or worker.worker_id in ask.excluded
        or (ask.trusted and not worker.trusted)
    ):
        return False
    if lease.life != worker.life:
        return False
    bit = 1 << worker.slot
    return all(fleet.tags.meeting(requirement, bit) for requirement in ask.requirements)
