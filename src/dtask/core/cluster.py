"""The one door: every event goes in through `handle`, everything to do comes out as a Step.

The shell's part of the contract: it calls `handle` from one thread, with a `now` that never runs
back, and it hands in a `Tick` at `next_deadline()` at the latest. A deadline is never more than
half a second ahead, and that is how the core knows a stall of the scheduler when it sees one: if
the next event, whatever it is, comes more than half a second later than the shell promised, then
the process was stopped or starved, or the clock was stepped forward, and nobody's heartbeat could
have been heard. The excess is not counted, neither against workers nor for leases: *core time* is
`now` less all stalls so far.

Two halves meet here, and nowhere else. Placement is soft state, rebuilt from heartbeats: its
events have no changes, and the shell answers them at once. The job half is what a store
remembers: its events are answered, and their effects performed, when their changes are durable.
It is there from `restore` on; if the store fails it is dropped, by `suspend`, and restored from
what the store says. What a placement event opens for jobs is dispatched by the next tick, which
is then due at once (`hurries`).
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from dtask.core.jobs.events import Attach, Attached, CloseChannel, Detached
from dtask.core.jobs.flow import KEEP_JOBS, KEEP_S
from dtask.core.jobs.flow import Settings as JobSettings
from dtask.core.jobs.jobs import Jobs
from dtask.core.jobs.retry import Draw
from dtask.core.jobs.rows import Change, Snapshot
from dtask.core.placement import hear as hearing
from dtask.core.placement import place as placing
from dtask.core.placement.events import (
    Ask,
    AskAll,
    AskEach,
    CountFleet,
    Drain,
    FleetCounts,
    Glance,
    Glimpse,
    Heard,
    Heartbeat,
    ListWorkers,
    LookAtWorker,
    Placement,
    Refusal,
    Release,
    Released,
    Tick,
    WorkerLook,
    WorkerView,
)
from dtask.core.placement.explain import explain
from dtask.core.placement.fleet import Fleet, Health, Worker, view
from dtask.core.placement.leases import Leases, held_on, placement
from dtask.core.seating import Moment, Seating
from dtask.errors import Busy, Conflict, Denied, NotFound, Unavailable

#: The shell ticks at least this often.
TICK_S: Final = 0.5
#: An event this much later than promised shows a stall.
STALL_S: Final = 0.5


class Step(Struct, frozen=True):
    """What came of one event.

    `changes` are the records to persist before anything else is done; placement is soft state and
    has none. `effects` are to be performed after that. `answer` goes to whoever sent the event.
    """

    answer: Any = None
    changes: tuple[Change, ...] = ()
    effects: tuple[Any, ...] = ()


class Settings(Struct, frozen=True):
    """What an operator can set of the core."""

    health: Health = Health()
    #: So long after its start the scheduler does not know all workers yet.
    warm_up_s: float = 5.0
    #: How long ended jobs are kept, and how many.
    keep_s: float = KEEP_S
    keep_jobs: int = KEEP_JOBS


class Event(Protocol):
    """One of `core.placement.events` or `core.jobs.events`."""


class Cluster:
    """All state, in memory, with one writer."""

    def __init__(
        self, now: float, settings: Settings | None = None, draw: Draw = lambda: 0.5
    ) -> None:
        self._settings = settings or Settings()
        #: Of numbers between 0 and 1, for jitter.
        self._draw = draw
        self._fleet = Fleet(self._settings.health)
        self._leases = Leases(self._fleet, now)
        #: Epoch seconds of the last event.
        self._now = now
        #: Seconds of stalls so far: core time is now less this.
        self._stalled_s = 0.0
        self._warm_at = now + self._settings.warm_up_s
        health = self._settings.health
        #: How soon a worker can be due after a heartbeat: by silence, or forgotten after it left.
        self._soonest_s = min(health.suspect_after_s, health.forget_after_s)
        #: Core time before which no worker or lease is due. It may be early, never late.
        self._due = now
        #: Core time of the event under way.
        self._moment = Moment(now)
        self._seating = Seating(self._fleet, self._leases, self._moment)
        #: The job half; None while no store has been heard.
        self._jobs: Jobs | None = None
        #: A tick is due at once: something was opened for jobs, or one step was not enough.
        self.hurries = False
        self._handlers: dict[type, Callable[[Any, float], Any]] = {
            Heartbeat: self._on_heartbeat,
            Ask: self._on_ask,
            AskEach: self._on_ask_each,
            AskAll: self._on_ask_all,
            Release: self._on_release,
            Drain: self._on_drain,
            ListWorkers: self._on_list_workers,
            Glance: self._on_glance,
            LookAtWorker: self._on_look_at_worker,
            CountFleet: self._on_count_fleet,
            Tick: self._on_tick,
        }

    def handle(self, event: Event, now: float) -> Step:
        """Let one event happen at `now`, epoch seconds.

        Raises a DtaskError if the event is refused; then it has changed nothing. (What time alone
        brought about has happened; its effects come with the next step.)
        """
        at = self._advance(now)
        handler = self._handlers.get(type(event))
        answer = self._handle_job(event, at) if handler is None else handler(event, at)
        changed = self._fleet.changes
        jobs = self._jobs
        if changed:
            if jobs is not None:
                self._tell_jobs(jobs, at)
            effects = tuple(changed)
            changed.clear()
        else:
            if handler is not None and type(event) is not Tick:
                if self._fleet.opened and jobs is not None:
                    self.hurries = True
                return Step(answer)
            effects = ()
        if jobs is None:
            return Step(answer, (), effects)
        changes, more = jobs.finish()
        self.hurries = jobs.hurries
        return Step(answer, changes, effects + more)

    def restore(self, snapshot: Snapshot, now: float) -> Step:
        """Take up the jobs that a store remembers: the job half begins, or begins anew."""
        assert self._jobs is None
        at = self._advance(now)
        health = self._settings.health
        settings = JobSettings(
            self._settings.keep_s, self._settings.keep_jobs, health.offline_after_s
        )
        self._leases.lift(snapshot.last_fence)
        jobs = Jobs(self._seating, settings, self._draw)
        jobs.restore(snapshot, at, now)
        changes, effects = jobs.finish()
        self._jobs = jobs
        self.hurries = jobs.hurries
        return Step(None, changes, effects)

    def suspend(self, now: float) -> Step:
        """The store has failed: forget the job half. Placement goes on."""
        self._advance(now)
        self._jobs = None
        self.hurries = False
        effects = []
        for worker in self._fleet.workers.values():
            if worker.attached:
                assert worker.incarnation is not None
                effects.append(CloseChannel(worker.worker_id, worker.incarnation))
                self._fleet.detach(worker)
        self._fleet.cut.clear()
        for lease in [lease for lease in self._leases.by_task.values() if lease.pinned]:
            self._leases.end(lease)
        return Step(None, (), tuple(effects))

    def next_deadline(self) -> float:
        """Epoch seconds when `handle` must be called at the latest."""
        if self.hurries:
            return self._now
        due = min(self._now + TICK_S, self._due + self._stalled_s)
        if self._jobs is not None:
            due = min(due, self._jobs.next_due(self._stalled_s))
        return max(due, self._now)

    @property
    def stalled_s(self) -> float:
        """Seconds of the scheduler's own stalls so far."""
        return self._stalled_s

    def warm_in_s(self) -> float:
        """Seconds until the scheduler counts as knowing its workers; 0 when it does."""
        return max(0.0, self._warm_at - (self._now - self._stalled_s))

    def explain(self, ask: Ask) -> Refusal:
        """Why `ask` would be refused now, if it would."""
        return explain(self._fleet, ask, warm_in_s=self.warm_in_s())

    def check(self) -> None:
        """Assert every invariant. Slow: for tests and the simulation."""
        at = self._now - self._stalled_s
        self._fleet.check(at)
        self._leases.check(at)
        assert self._due <= min(self._fleet.next_due(), self._leases.next_due())
        if self._jobs is not None:
            self._jobs.check()
            pinned = {lease.fence for lease in self._leases.by_task.values() if lease.pinned}
            # A refused event leaves what time brought about to be told to the jobs by the next.
            assert pinned == self._jobs.seated() or self._fleet.changes

    def _advance(self, now: float) -> float:
        """Let time pass up to `now`; return core time."""
        late = now - self._now - TICK_S
        if late > STALL_S:
            self._stalled_s += late
        self._now = max(self._now, now)
        at = self._now - self._stalled_s
        self._moment.at = at
        if at >= self._due:
            self._expire(at)
        return at

    def _expire(self, at: float) -> None:
        """Bring about what time alone does, and work out anew when that is next."""
        fleet = self._fleet
        for worker, status in fleet.due(at):
            if status is None:
                fleet.forget(worker)
                continue
            if status == "offline":
                hearing.leave(fleet, self._leases, worker, at)
            else:
                fleet.set_status(worker, status, at)
                fleet.settle(worker)
            fleet.tell(worker, status)
        self._leases.expire(at)
        self._due = min(fleet.next_due(), self._leases.next_due())

    def _handle_job(self, event: Event, at: float) -> Any:  # noqa: ANN401 (see job events)
        """An event of the job half. Raises Unavailable while there is none."""
        jobs = self._jobs
        if jobs is None:
            raise Unavailable(
                "The job store can't be used for the moment, so jobs are neither taken nor shown: "
                "the scheduler's log says why. Ask again.",
                code="store_failed",
            )
        if isinstance(event, Attach):
            return self._on_attach(jobs, event, at)
        if isinstance(event, Detached):
            worker = self._fleet.workers.get(event.worker_id)
            if worker is None or not worker.attached or worker.connection != event.connection:
                return None
            self._fleet.detach(worker)
            self._fleet.cut.pop()  # whoever tells this knows
        return jobs.handle(event, at, self._now)

    def _tell_jobs(self, jobs: Jobs, at: float) -> None:
        """What happened to workers means something for the attempts that they hold."""
        for change in self._fleet.changes:
            if change.change in ("offline", "left"):
                jobs.lose(change.worker_id, at, self._now)
        for worker_id, incarnation in self._fleet.cut:
            jobs.cut(worker_id, incarnation, at, self._now)
        self._fleet.cut.clear()

    def _on_attach(self, jobs: Jobs, event: Attach, at: float) -> Attached:
        worker = self._fleet.workers.get(event.worker_id)
        if worker is None or worker.incarnation != event.incarnation or worker.status == "offline":
            if worker is not None and event.incarnation in worker.superseded:
                raise Conflict(
                    f"A newer life of worker {event.worker_id!r} has taken over its id.",
                    code="superseded",
                )
            raise NotFound(
                f"No heartbeat of this life of worker {event.worker_id!r} has been taken in: "
                f"heartbeat first, then say hello.",
                code="unknown_worker",
            )
        if not worker.trusted:
            raise Denied(
                f"Worker {event.worker_id!r} heartbeats without the token: jobs go to trusted "
                f"workers only.",
                code="untrusted",
            )
        for held in event.held:
            self._leases.lift(held.fence)
        self._fleet.attach(worker)
        worker.connection = event.connection
        attached: Attached = jobs.handle(event, at, self._now)
        return attached

    def _on_tick(self, _event: Tick, at: float) -> None:
        if self._jobs is not None:
            self._jobs.pass_time(at, self._now)

    def _on_heartbeat(self, event: Heartbeat, at: float) -> Heard:
        heard = hearing.hear(self._fleet, self._leases, event, at, self._now)
        self._due = min(self._due, at + self._soonest_s, self._leases.next_due())
        return heard

    def _on_ask(self, event: Ask, at: float) -> Placement | Refusal:
        lease = placing.place(self._fleet, self._leases, event, at)
        if lease is None:
            return explain(self._fleet, event, warm_in_s=self.warm_in_s())
        self._due = min(self._due, lease.expires_at)
        return placement(lease, self._stalled_s)

    def _on_ask_each(self, event: AskEach, at: float) -> list[Placement | Refusal | Busy]:
        answers: list[Placement | Refusal | Busy] = []
        for ask in event.asks:
            try:
                answers.append(self._on_ask(ask, at))
            except Busy as busy:
                answers.append(busy)
        return answers

    def _on_ask_all(self, event: AskAll, at: float) -> list[Placement] | Refusal:
        warm_in_s = self.warm_in_s()
        leases = placing.place_all(self._fleet, self._leases, event.asks, at, warm_in_s=warm_in_s)
        self._due = min(self._due, self._leases.next_due())
        if isinstance(leases, Refusal):
            return leases
        return [placement(lease, self._stalled_s) for lease in leases]

    def _on_release(self, event: Release, _at: float) -> Released:
        lease = self._leases.release(event.task_id, event.fence)
        return Released(lease.worker.worker_id, lease.fence)

    def _on_drain(self, event: Drain, _at: float) -> WorkerView:
        worker = self._worker(event.worker_id)
        worker.drained = event.drained
        self._fleet.mark(worker)
        self._fleet.settle(worker)
        return view(worker)

    def _on_list_workers(self, event: ListWorkers, _at: float) -> list[WorkerView]:
        return self._fleet.listing(event.after, event.limit)

    def _on_glance(self, event: Glance, _at: float) -> list[Glimpse]:
        return self._fleet.glance(event.after, event.limit)

    def _on_look_at_worker(self, event: LookAtWorker, _at: float) -> WorkerLook:
        worker = self._worker(event.worker_id)
        return WorkerLook(view(worker), held_on(worker, self._stalled_s))

    def _on_count_fleet(self, _event: CountFleet, _at: float) -> FleetCounts:
        return self._fleet.counts(len(self._leases.by_task))

    def _worker(self, worker_id: str) -> Worker:
        worker = self._fleet.workers.get(worker_id)
        if worker is None:
            raise NotFound(
                f"No worker {worker_id!r} is known: `dtask workers` lists those that are.",
                code="unknown_worker",
            )
        return worker
