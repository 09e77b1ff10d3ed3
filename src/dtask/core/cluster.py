"""The one door: every event goes in through `handle`, everything to do comes out as a Step.

The shell's part of the contract: it calls `handle` from one thread, with a `now` that never runs
back, and it hands in a `Tick` at `next_deadline()` at the latest. A deadline is never more than
half a second ahead, and that is how the core knows a stall of the scheduler when it sees one: if
the next event, whatever it is, comes more than half a second later than the shell promised, then
the process was stopped or starved, or the clock was stepped forward, and nobody's heartbeat could
have been heard. The excess is not counted, neither against workers nor for leases: *core time* is
`now` less all stalls so far.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from dtask.core.placement import hear as hearing
from dtask.core.placement import place as placing
from dtask.core.placement.events import (
    Ask,
    AskAll,
    AskEach,
    Drain,
    Heard,
    Heartbeat,
    ListWorkers,
    Placement,
    Refusal,
    Release,
    Released,
    Tick,
    WorkerView,
)
from dtask.core.placement.explain import explain
from dtask.core.placement.fleet import Fleet, Health, Worker, view
from dtask.core.placement.leases import Leases, placement
from dtask.errors import Busy, NotFound

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
    changes: tuple[Any, ...] = ()
    effects: tuple[Any, ...] = ()


class Settings(Struct, frozen=True):
    """What an operator can set of the core."""

    health: Health = Health()
    #: So long after its start the scheduler does not know all workers yet.
    warm_up_s: float = 5.0


class Event(Protocol):
    """One of `core.placement.events`."""


class Cluster:
    """All state, in memory, with one writer."""

    def __init__(self, now: float, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
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
        self._handlers: dict[type, Callable[[Any, float], Any]] = {
            Heartbeat: self._on_heartbeat,
            Ask: self._on_ask,
            AskEach: self._on_ask_each,
            AskAll: self._on_ask_all,
            Release: self._on_release,
            Drain: self._on_drain,
            ListWorkers: self._on_list_workers,
            Tick: self._on_tick,
        }

    def handle(self, event: Event, now: float) -> Step:
        """Let one event happen at `now`, epoch seconds.

        Raises a DtaskError if the event is refused; then it has changed nothing. (What time alone
        brought about has happened; its effects come with the next step.)
        """
        at = self._advance(now)
        answer = self._handlers[type(event)](event, at)
        changed = self._fleet.changes
        if not changed:
            return Step(answer)
        effects = tuple(changed)
        changed.clear()
        return Step(answer, (), effects)

    def next_deadline(self) -> float:
        """Epoch seconds when `handle` must be called at the latest."""
        return min(self._now + TICK_S, self._due + self._stalled_s)

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

    def _advance(self, now: float) -> float:
        """Let time pass up to `now`; return core time."""
        late = now - self._now - TICK_S
        if late > STALL_S:
            self._stalled_s += late
        self._now = max(self._now, now)
        at = self._now - self._stalled_s
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

    def _on_tick(self, _event: Tick, _at: float) -> None:
        return None

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

    def _worker(self, worker_id: str) -> Worker:
        worker = self._fleet.workers.get(worker_id)
        if worker is None:
            raise NotFound(
                f"No worker {worker_id!r} is known: `dtask workers` lists those that are.",
                code="unknown_worker",
            )
        return worker
