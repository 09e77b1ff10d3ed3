"""What must be so: the rules of placement kept the slow way, beside the core and without it.

The ledger hears the same events as the core and works out from the rules' own words who is
online, which leases live and how many slots are taken, with plain dicts and loops over
everything. It takes each answer of the core and asserts that the rules allow it, and after each
event it compares what the core shows of every worker with what it has worked out itself.

It adds what only somebody outside can see: that stalls of the scheduler's loop, measured in true
time, made nobody suspect, and that fences grow from one scheduler to the next.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from dtask.core.cluster import Event, Settings
from dtask.core.placement.events import (
    Ask,
    AskAll,
    Drain,
    Heard,
    Heartbeat,
    Named,
    Placement,
    Refusal,
    Release,
    Released,
    Status,
    WorkerView,
)
from dtask.errors import Conflict, Denied, DtaskError, NotFound

#: The loop promises to look at least this often; wake-ups that are later by more are stalls.
TICK_S: Final = 0.5
STALL_S: Final = 0.5

#: A report by count can't know of leases younger than this.
FRESH_S: Final = 3.0

#: A worker that stops naming tasks leaves its confirmed leases this long.
REOPENED_S: Final = 30.0

#: How many superseded lives are remembered.
SUPERSEDED_MAX: Final = 8

#: True seconds the loop ran, and how often time jumped under it.
Awake = tuple[float, int]


class Lease:
    """A slot that was granted."""

    def __init__(self, worker: "Known", fence: int, task_id: str, at: float, ttl_s: float) -> None:
        self.worker = worker
        self.fence = fence
        self.task_id = task_id
        self.granted_at = at
        self.expires_at = at + ttl_s
        self.life = worker.life
        self.confirmed = False
        #: A report by count knows of it.
        self.absorbed = False
        #: A name without a fence that was there before the grant is another run's.
        self.name_is_old = (task_id, None) in (worker.beat.tasks or ())
        self.end_is_old = (task_id, None) in worker.beat.ended

    def stands_for(self, name: Named) -> bool:
        """Whether the worker means this lease by `name`."""
        task_id, fence = name
        if task_id != self.task_id:
            return False
        return not self.name_is_old if fence is None else fence == self.fence


class Known:
    """A worker as its last heartbeat and the rules make it."""

    def __init__(self, beat: Heartbeat) -> None:
        self.beat = beat
        self.alive_at = 0.0
        self.heard_at = 0.0
        self.offline_at = 0.0
        self.status: Status = "offline"
        self.drained = beat.drained
        self.superseded: list[str] = []
        #: Names of the last report that nothing ended since.
        self.names: set[Named] = set()
        #: The loop's own true time at the last heartbeat.
        self.awake: Awake = (0.0, 0)

    @property
    def life(self) -> str:
        """One life of the worker: its incarnation, or else its address."""
        return life_of(self.beat)

    @property
    def takes_none(self) -> bool:
        """Whether it drains."""
        return self.beat.draining or self.drained


class Ledger:
    """The account of one life of the scheduler."""

    def __init__(
        self,
        now: float,
        settings: Settings,
        awake: Callable[[], Awake],
        before: "Ledger | None" = None,
    ) -> None:
        self._health = settings.health
        self._warm_up_s = settings.warm_up_s
        self._started_at = now
        #: Its clock at the last event.
        self.now = now
        self._stalled_s = 0.0
        self._awake = awake
        self._workers: dict[str, Known] = {}
        self._leases: dict[str, Lease] = {}
        #: The highest fence granted so far, and the highest that was ever reported here.
        self.fence = 0
        # Fences grow over restarts as long as the clock does not run back. One that has been
        # lifted above the clock by a report can only be known again from such a report.
        if before is not None and before.now <= now and before.fence < now * 2**20:
            self.fence = before.fence

    # Time

    def advance(self, now: float) -> None:
        """Let time pass: silence makes workers suspect and offline, open leases end."""
        late = now - self.now - TICK_S
        if late > STALL_S:
            self._stalled_s += late
        self.now = max(now, self.now)
        at = self._at
        for worker in list(self._workers.values()):
            self._age(worker, at)
        for lease in list(self._leases.values()):
            if not lease.confirmed and lease.expires_at <= at:
                del self._leases[lease.task_id]

    @property
    def _at(self) -> float:
        """Core time."""
        return self.now - self._stalled_s

    def _age(self, worker: Known, at: float) -> None:
        if worker.status == "offline":
            if worker.offline_at + self._health.forget_after_s <= at:
                del self._workers[worker.beat.worker_id]
        elif worker.alive_at + self._health.offline_after_s <= at:
            self._assert_silent(worker, self._health.offline_after_s)
            self._leave(worker, at)
        elif worker.alive_at + self._health.suspect_after_s <= at:
            self._assert_silent(worker, self._health.suspect_after_s)
            worker.status = "suspect"

    def _assert_silent(self, worker: Known, seconds: float) -> None:
        """Slow is not dead: it was silent while the loop could have heard it.

        What a stall or a step takes away may stay counted up to a second.
        """
        awake_s, jumps = self._awake()
        heard_s, jumps_then = worker.awake
        silent_s = awake_s - heard_s
        assert silent_s >= seconds - (jumps - jumps_then) * (TICK_S + STALL_S) - 1e-3, (
            f"{worker.beat.worker_id} counts as silent for {seconds:g} s, "
            f"but the loop ran for {silent_s:.3f} s since its heartbeat"
        )

    def _leave(self, worker: Known, at: float) -> None:
        worker.status = "offline"
        worker.offline_at = at
        for lease in self._on(worker):
            del self._leases[lease.task_id]

    # Events

    def take(self, event: Event, answer: Any) -> None:  # noqa: ANN401 (each event has its own)
        """Assert that the rules allow `answer`, and let the event count."""
        match event:
            case Heartbeat():
                self._take_heartbeat(event, answer)
            case Ask():
                self._take_ask(event, answer)
            case AskAll():
                self._take_ask_all(event, answer)
            case Release():
                self._take_release(event, answer)
            case Drain():
                worker = self._workers.get(event.worker_id)
                if worker is None:
                    assert isinstance(answer, NotFound)
                else:
                    worker.drained = event.drained
            case _:
                assert answer is None

    def _take_release(self, release: Release, answer: Released | DtaskError) -> None:
        lease = self._leases.get(release.task_id)
        if lease is None or release.fence not in (None, lease.fence):
            assert isinstance(answer, NotFound), "a lease was released that is not held"
            return
        assert isinstance(answer, Released), "a lease that is held could not be released"
        assert answer.fence == lease.fence
        self._strike(lease)

    def _take_ask_all(self, event: AskAll, answer: list[Placement] | Refusal) -> None:
        if isinstance(answer, Refusal):
            return  # and nothing has changed, as the comparison will show
        assert len(answer) == len(event.asks)
        for ask, one in zip(event.asks, answer, strict=True):
            self._take_ask(ask, one)

    def _take_ask(self, ask: Ask, answer: Placement | Refusal) -> None:
        lease = self._leases.get(ask.task_id)
        if lease is not None:
            if self._stands(lease, ask):
                assert isinstance(answer, Placement), "the same question was refused"
                assert answer.fence == lease.fence, "the same question got another answer"
                assert answer.worker_id == lease.worker.beat.worker_id
                lease.expires_at = max(lease.expires_at, self._at + ask.ttl_s)
                return
            del self._leases[ask.task_id]
        if isinstance(answer, Refusal):
            self._check_refusal(ask, answer)
        else:
            worker = self._check_choice(ask, answer)
            assert answer.fence > self.fence, "a fence does not grow"
            self.fence = answer.fence
            self._leases[ask.task_id] = Lease(
                worker, answer.fence, ask.task_id, self._at, ask.ttl_s
            )

    def _stands(self, lease: Lease, ask: Ask) -> bool:
        """Whether the lease still answers the question."""
        return lease.life == lease.worker.life and self._obstacle(lease.worker, ask) is None

    def _check_refusal(self, ask: Ask, refusal: Refusal) -> None:
        fitting = [name for name, worker in self._workers.items() if self._fits(worker, ask)]
        assert not fitting, f"refused, but {fitting} fit"
        told = refusal.offline + refusal.draining + refusal.excluded + refusal.untrusted
        told += sum(refusal.missing.values()) + refusal.full
        assert told == len(self._workers), "the reasons don't count each worker once"
        assert refusal.warming_up == (self._at < self._started_at + self._warm_up_s)

    def _check_choice(self, ask: Ask, answer: Placement) -> Known:
        """A feasible worker was chosen, and none of those ranks before it."""
        worker = self._workers[answer.worker_id]
        assert answer.address == worker.beat.address
        obstacle = self._obstacle(worker, ask)
        assert obstacle is None, f"placed on {answer.worker_id}, which is {obstacle}"
        taken = self.occupancy(worker)
        assert taken < worker.beat.max_tasks, (
            f"placed on {answer.worker_id}, which has {taken} of {worker.beat.max_tasks} "
            f"slots taken"
        )
        fitting = [other for other in self._workers.values() if self._fits(other, ask)]
        tier = [other for other in fitting if other.status == "online"] or fitting
        assert worker in tier, "placed on a suspect worker while an online one fits"
        best = min if ask.strategy == "least_loaded" else max
        assert self._load(worker) == best(map(self._load, tier)), "another load ranks first"
        return worker

    def _fits(self, worker: Known, ask: Ask) -> bool:
        return (
            self._obstacle(worker, ask) is None and self.occupancy(worker) < worker.beat.max_tasks
        )

    def _obstacle(self, worker: Known, ask: Ask) -> str | None:
        """Why the worker, full or not, is not to be used for this."""
        if worker.status == "offline":
            return "offline"
        if worker.takes_none:
            return "draining"
        if worker.beat.worker_id in ask.excluded:
            return "excluded"
        if ask.trusted and not worker.beat.trusted:
            return "untrusted"
        for requirement in ask.requirements:
            alternatives = requirement.text.removeprefix("!").split("|")
            if any(tag in worker.beat.tags for tag in alternatives) == requirement.negated:
                return f"not {requirement.text}"
        return None

    def _load(self, worker: Known) -> float:
        return self.occupancy(worker) / worker.beat.max_tasks

    # Heartbeats

    def _take_heartbeat(self, beat: Heartbeat, answer: Heard | DtaskError) -> None:
        worker = self._workers.get(beat.worker_id)
        if worker is None:
            worker = self._workers[beat.worker_id] = Known(beat)
        elif worker.beat.trusted and not beat.trusted:
            assert isinstance(answer, Denied), "a stranger spoke for a trusted worker"
            return
        elif life_of(beat) != worker.life:
            if wrong := self._usurps(worker, beat):
                assert isinstance(answer, Conflict), f"taken over by a life that is {wrong}"
                assert answer.code == wrong
                return
            self._succeed(worker)
        elif beat.seq is not None and worker.beat.seq is not None and beat.seq <= worker.beat.seq:
            assert isinstance(answer, Heard)
            return  # late is not new, as the comparison will show
        assert isinstance(answer, Heard), f"a heartbeat was refused: {answer}"
        assert answer.drained == worker.drained
        self._report(worker, beat)
        worker.status = "online"
        worker.alive_at = self._at
        worker.heard_at = self.now
        worker.awake = self._awake()
        if beat.leaving:
            self._leave(worker, self._at)

    def _usurps(self, worker: Known, beat: Heartbeat) -> str | None:
        """Why this life may not take over, as the code of the refusal."""
        if beat.incarnation in worker.superseded[-SUPERSEDED_MAX:]:
            return "superseded"
        if worker.status == "online" and beat.address != worker.beat.address:
            return "held"
        return None

    def _succeed(self, worker: Known) -> None:
        """A new life ends confirmed leases and keeps open ones."""
        if worker.beat.incarnation is not None:
            worker.superseded.append(worker.beat.incarnation)
        for lease in self._on(worker):
            if lease.confirmed:
                del self._leases[lease.task_id]
            lease.name_is_old = lease.end_is_old = False
        worker.names = set()

    def _report(self, worker: Known, beat: Heartbeat) -> None:
        """What the worker says that it holds and what ended."""
        worker.beat = beat
        for lease in self._on(worker):
            self._end_told(lease, beat)
        worker.names = set(beat.tasks or ()) - {name for name in beat.ended if name[1] is not None}
        for _, fence in (*(beat.tasks or ()), *beat.ended):
            self.fence = max(self.fence, fence or 0)
        for lease in self._on(worker):
            if beat.tasks is not None:
                self._match(lease, worker)
            elif lease.confirmed:  # it names nothing any more, and so can't say that it is over
                lease.confirmed = False
                lease.expires_at = self._at + REOPENED_S
            known = lease.absorbed or self._at - lease.granted_at >= FRESH_S
            lease.absorbed = known and beat.tasks is None and beat.current_tasks is not None

    def _end_told(self, lease: Lease, beat: Heartbeat) -> None:
        """The lease ends if `ended` means it, and not an older run of the same name."""
        plain = (lease.task_id, None) in beat.ended
        if (lease.task_id, lease.fence) in beat.ended:
            self._strike(lease)
        elif not plain:
            lease.end_is_old = False
        elif lease.name_is_old:  # the older run's end, which may be told again
            lease.name_is_old = lease.end_is_old
            lease.end_is_old = True
        elif not lease.end_is_old:
            self._strike(lease)

    def _match(self, lease: Lease, worker: Known) -> None:
        """A listed name confirms the lease; once confirmed, it is over when listed no longer."""
        if (lease.task_id, None) not in worker.names:
            lease.name_is_old = False
        if any(map(lease.stands_for, worker.names)):
            lease.confirmed = True
        elif lease.confirmed:
            del self._leases[lease.task_id]

    def _strike(self, lease: Lease) -> None:
        """The task is over: its lease, and the names that stand for it."""
        del self._leases[lease.task_id]
        worker = lease.worker
        worker.names = {name for name in worker.names if not lease.stands_for(name)}

    # What follows from it

    def _on(self, worker: Known) -> list[Lease]:
        return [lease for lease in self._leases.values() if lease.worker is worker]

    def occupancy(self, worker: Known) -> int:
        """Slots that are taken, by the last report and the leases."""
        leases = self._on(worker)
        beat = worker.beat
        if beat.tasks is not None:
            others = [n for n in worker.names if not any(one.stands_for(n) for one in leases)]
            unnamed = max(0, (beat.current_tasks or 0) - len(set(beat.tasks)))
            return len(leases) + len(others) + unnamed
        if beat.current_tasks is not None:
            return beat.current_tasks + sum(not lease.absorbed for lease in leases)
        return len(leases)

    def compare(self, views: Sequence[WorkerView]) -> None:
        """Assert that the core shows what the rules make of it."""
        assert [view.worker_id for view in views] == sorted(self._workers)
        for view in views:
            worker = self._workers[view.worker_id]
            shown = (
                view.status,
                view.occupancy,
                view.leases,
                view.draining,
                view.incarnation,
                view.address,
                view.max_tasks,
                view.last_heartbeat,
            )
            expected = (
                worker.status,
                self.occupancy(worker),
                len(self._on(worker)),
                worker.takes_none,
                worker.beat.incarnation,
                worker.beat.address,
                worker.beat.max_tasks,
                worker.heard_at,
            )
            assert shown == expected, f"{view.worker_id} shows {shown}, but it must be {expected}"


def life_of(beat: Heartbeat) -> str:
    """What tells this life of a worker from another."""
    return f"@{beat.address}" if beat.incarnation is None else beat.incarnation
