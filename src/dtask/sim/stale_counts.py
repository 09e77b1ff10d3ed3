"""Stale counts: how often is a full worker handed out, by the peer's rule and by ours?

A thousand clients keep a fleet of eight hundred slots busy. Each asks for a worker, sends its
task there, and asks again when it has run; a worker that is full turns it away. The same fleet,
the same clients and the same durations meet three schedulers: one by the documented rule of
chicogong/dtask-scheduler, and dtask's, with plain workers that report a count every three
seconds as the peer's do, and with agents that name their tasks and say at once when one ends.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Struct

from dtask.core.cluster import Cluster, Settings
from dtask.core.placement.events import Ask, Heartbeat, Placement
from dtask.sim.dice import stream
from dtask.sim.timeline import START, Timeline

CLIENTS: Final = 1_000
WORKERS: Final = 100
SLOTS: Final = 8
#: Virtual seconds that are looked at.
SECONDS: Final = 60.0

INTERVAL_S: Final = 3.0
#: A heartbeat or a task on its way.
TRAVEL_S: Final = (0.001, 0.05)
TASK_S: Final = (1.0, 8.0)
#: After a refusal.
RETRY_S: Final = 1.0
#: Agents report an end at once, but not more often than this.
GAP_S: Final = 0.2
#: The peer chooses, and this much later allocates. (It sorts a copy of all workers; measured
#: 0.1 ms for 500 of them.)
DECIDE_S: Final = 0.0001

#: Takes the number of the worker, or None for a refusal.
Answer = Callable[[int | None], None]


class Tally(Struct, frozen=True):
    """What came of one rule."""

    rule: str
    #: Workers handed out, and how many of them had all slots taken, by tasks that run there or
    #: are on their way.
    handed_out: int
    full: int
    #: Times that no worker was handed out.
    refused: int
    #: Tasks that ran to their end.
    ran: int


class Rule(Protocol):
    """A scheduler."""

    def ask(self, task_id: str, answer: Answer) -> None:
        """Which worker should run it?"""

    def hear(self, worker: int, held: Sequence[str], seq: int) -> None:
        """A worker's heartbeat."""


class Peer:
    """The peer's rule: the least loaded of a copied list, then allocate; a heartbeat overwrites."""

    def __init__(self, timeline: Timeline, rng: random.Random) -> None:
        self._timeline = timeline
        self._rng = rng
        self._count = [0] * WORKERS

    def ask(self, task_id: str, answer: Answer) -> None:
        """Choose from a copy, and allocate in a second step."""
        del task_id  # it knows no leases
        copy = list(self._count)
        least = min(copy)
        if least >= SLOTS:
            answer(None)
            return
        # Maps have no order in Go: ties go anywhere.
        chosen = self._rng.choice([i for i, count in enumerate(copy) if count == least])
        self._timeline.after(DECIDE_S, lambda: self._allocate(chosen, answer))

    def _allocate(self, chosen: int, answer: Answer) -> None:
        if self._count[chosen] < SLOTS:
            self._count[chosen] += 1
        answer(chosen)  # if it was full by now, that is logged, and the worker still answered

    def hear(self, worker: int, held: Sequence[str], seq: int) -> None:
        """The count takes the place of whatever was allocated since."""
        del seq
        self._count[worker] = len(held)


class Ours:
    """A real Cluster."""

    def __init__(self, timeline: Timeline, *, by_name: bool) -> None:
        self._timeline = timeline
        self._by_name = by_name
        self._cluster = Cluster(START, Settings(warm_up_s=0.0))

    def ask(self, task_id: str, answer: Answer) -> None:
        """One step."""
        placed = self._cluster.handle(Ask(task_id), self._timeline.now).answer
        answer(int(placed.worker_id) if isinstance(placed, Placement) else None)

    def hear(self, worker: int, held: Sequence[str], seq: int) -> None:
        """Its count, or the names."""
        names = tuple((task_id, None) for task_id in held)
        beat = Heartbeat(
            worker_id=str(worker),
            address=str(worker),
            tags=(),
            max_tasks=SLOTS,
            current_tasks=len(held),
            incarnation="1",
            seq=seq,
            tasks=names if self._by_name else None,
        )
        self._cluster.handle(beat, self._timeline.now)


class Contest:
    """The fleet and the clients, under one rule."""

    def __init__(self, seed: int, *, prompt: bool) -> None:
        self.timeline = Timeline()
        self._travel = stream(seed, "travel")
        self._durations = [stream(seed, f"client {i}") for i in range(CLIENTS)]
        #: Whether workers report the end of a task at once.
        self._prompt = prompt
        self._held: list[dict[str, None]] = [{} for _ in range(WORKERS)]
        #: Tasks that run on a worker or are on their way to it.
        self._committed = [0] * WORKERS
        self._sent_at = [0.0] * WORKERS
        self._due = [False] * WORKERS
        self._seq = itertools.count(1)
        self._tasks = itertools.count(1)
        self.handed_out = self.full = self.refused = self.ran = 0

    def run(self, rule: Rule) -> None:
        """Let everybody begin within one interval, and go on."""
        self._rule = rule
        for worker in range(WORKERS):
            rule.hear(worker, (), next(self._seq))
            self.timeline.after(self._spread() * INTERVAL_S, partial(self._beat, worker))
        for client in range(CLIENTS):
            self.timeline.after(self._spread() * INTERVAL_S, partial(self._ask, client))
        self.timeline.run_for(SECONDS)

    def _spread(self) -> float:
        return self._travel.random()

    def _ask(self, client: int) -> None:
        task_id = f"t{next(self._tasks)}"
        self._rule.ask(task_id, lambda worker: self._answered(client, task_id, worker))

    def _answered(self, client: int, task_id: str, worker: int | None) -> None:
        if worker is None:
            self.refused += 1
            self.timeline.after(RETRY_S, lambda: self._ask(client))
            return
        self.handed_out += 1
        self.full += self._committed[worker] >= SLOTS
        self._committed[worker] += 1
        travel_s = self._travel.uniform(*TRAVEL_S)
        self.timeline.after(travel_s, lambda: self._arrive(client, task_id, worker))

    def _arrive(self, client: int, task_id: str, worker: int) -> None:
        if len(self._held[worker]) >= SLOTS:  # 429
            self._committed[worker] -= 1
            self._ask(client)
            return
        self._held[worker][task_id] = None
        duration_s = self._durations[client].uniform(*TASK_S)
        self.timeline.after(duration_s, lambda: self._end(client, task_id, worker))

    def _end(self, client: int, task_id: str, worker: int) -> None:
        del self._held[worker][task_id]
        self._committed[worker] -= 1
        self.ran += 1
        if self._prompt and not self._due[worker]:
            self._due[worker] = True
            pause_s = max(0.0, self._sent_at[worker] + GAP_S - self.timeline.now)
            self.timeline.after(pause_s, lambda: self._report(worker))
        self._ask(client)

    def _beat(self, worker: int) -> None:
        self._report(worker)
        self.timeline.after(INTERVAL_S, lambda: self._beat(worker))

    def _report(self, worker: int) -> None:
        self._due[worker] = False
        self._sent_at[worker] = self.timeline.now
        held, seq = tuple(self._held[worker]), next(self._seq)
        travel_s = self._travel.uniform(*TRAVEL_S)
        self.timeline.after(travel_s, lambda: self._rule.hear(worker, held, seq))


def compare(seed: int) -> list[Tally]:
    """The peer's rule and ours under the same fleet and clients."""
    return [
        _tally(seed, "peer's rule, counts", lambda t: Peer(t, stream(seed, "ties")), prompt=False),
        _tally(seed, "dtask, counts", lambda t: Ours(t, by_name=False), prompt=False),
        _tally(seed, "dtask, names", lambda t: Ours(t, by_name=True), prompt=True),
    ]


def _tally(seed: int, name: str, make: Callable[[Timeline], Rule], *, prompt: bool) -> Tally:
    contest = Contest(seed, prompt=prompt)
    contest.run(make(contest.timeline))
    return Tally(name, contest.handed_out, contest.full, contest.refused, contest.ran)
