"""Slots for attempts of jobs: where the two halves of the core touch."""

from msgspec import Struct

from dtask.core.jobs.seats import Seat, Tags
from dtask.core.placement import tags as tags_of
from dtask.core.placement.events import Ask
from dtask.core.placement.explain import near_misses, split
from dtask.core.placement.fleet import Fleet, Worker
from dtask.core.placement.leases import Leases, pinned_id
from dtask.core.placement.place import seat
from dtask.core.placement.tags import TagIndex
from dtask.errors import Busy


class Moment(Struct):
    """Core time of the event under way."""

    at: float


class Seating:
    """`Seats` over a fleet and its leases."""

    def __init__(self, fleet: Fleet, leases: Leases, moment: Moment) -> None:
        self._fleet = fleet
        self._leases = leases
        self._moment = moment

    def check(self, tags: Tags, field: str) -> None:
        """Raise InvalidRequest unless these are requirements."""
        tags_of.parse(tags, field)

    def musts(self, tags: Tags) -> frozenset[str]:
        """The tags among the requirements `tags`: a worker must have them, whatever else."""
        return frozenset(one.literal for one in tags_of.parse(tags) if one.literal is not None)

    def meets(self, kind: Tags, tags: Tags) -> bool:
        """Whether a worker of the tags `kind` meets the requirements `tags`."""
        index = TagIndex()
        index.add(0, kind)
        return all(index.meeting(requirement, 1) for requirement in tags_of.parse(tags))

    def fits(self, tags: Tags) -> bool:
        """Whether an attached worker that does not drain meets the requirements `tags`."""
        fleet = self._fleet
        found = fleet.attached_bits & ~fleet.draining_bits
        for requirement in tags_of.parse(tags):
            found = fleet.tags.meeting(requirement, found)
        return bool(found)

    def take(self, tags: Tags) -> Seat | None:
        """A slot for an attempt that requires `tags`; None if no worker has one."""
        worker = seat(self._fleet, tags_of.parse(tags))
        if worker is None:
            return None
        try:
            lease = self._leases.pin(worker, self._moment.at)
        except Busy:
            return None
        self._fleet.last_slot = worker.slot
        assert worker.incarnation is not None
        return Seat(worker.worker_id, worker.incarnation, lease.fence)

    def adopt(self, worker_id: str, fence: int) -> None:
        """Hold a slot for an attempt that the attached worker has already."""
        if pinned_id(fence) not in self._leases.by_task:
            self._leases.lift(fence)
            self._leases.pin(self._fleet.workers[worker_id], self._moment.at, fence)

    def give_back(self, fence: int) -> None:
        """The attempt is over, or its worker is lost; nothing happens if no slot is held."""
        lease = self._leases.by_task.get(pinned_id(fence))
        if lease is not None:
            self._leases.end(lease)

    def incarnation(self, worker_id: str) -> str | None:
        """The life of the worker whose channel is attached; None if none is."""
        worker = self._fleet.workers.get(worker_id)
        return worker.incarnation if worker is not None and worker.attached else None

    def attached(self) -> int:
        """How many workers' channels are attached."""
        return self._fleet.attached_bits.bit_count()

    def opened(self) -> list[Tags]:
        """Tags of the workers that have become able to take a task since the last call."""
        opened = self._fleet.opened
        kinds = dict.fromkeys(worker.tags for worker in opened if _can_take(worker))
        opened.clear()
        return list(kinds)

    def explain(self, tags: Tags) -> dict[str, object]:
        """How many workers can't take a task that requires `tags`, by the first reason."""
        fleet = self._fleet
        requirements = tags_of.parse(tags)
        rest = fleet.everyone
        offline, rest = split(rest, fleet.offline_bits)
        draining, rest = split(rest, fleet.draining_bits)
        untrusted, rest = split(rest, rest ^ (rest & fleet.trusted_bits))
        missing: dict[str, int] = {}
        for requirement in requirements:
            met = fleet.tags.meeting(requirement, rest)
            if count := (rest ^ met).bit_count():
                missing[requirement.text] = count
            rest = met
        detached, rest = split(rest, rest ^ (rest & fleet.attached_bits))
        free = (rest & fleet.online.members).bit_count()
        return {
            "workers": len(fleet.workers),
            "offline": offline,
            "draining": draining,
            "untrusted": untrusted,
            "missing": missing,
            "detached": detached,
            "full": rest.bit_count() - free,
            "free": free,
            "did_you_mean": near_misses(fleet, Ask("", requirements)),
        }


def _can_take(worker: Worker) -> bool:
    return worker.attached and worker.order is not None
