"""The scheduler process: a real Cluster, its clock and its loop, which can stall and die."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from dtask.core.cluster import Cluster, Event, Settings
from dtask.core.placement.events import ListWorkers, Tick, WorkerView
from dtask.core.placement.fleet import Health
from dtask.errors import DtaskError
from dtask.sim.ledger import Ledger
from dtask.sim.network import Reply
from dtask.sim.timeline import Timeline
from dtask.sim.words import line

#: Its address on the network.
ADDRESS: Final = "scheduler"

#: As in production, but that workers are forgotten soon enough to be seen.
SETTINGS: Final = Settings(health=Health(forget_after_s=15.0))

MakeCluster = Callable[[float, Settings], Cluster]
Note = Callable[[str], None]


class Scheduler:
    """Feeds one Cluster at a time, as the real loop does, and has each step checked."""

    def __init__(
        self, timeline: Timeline, rng: random.Random, make: MakeCluster, note: Note
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._make = make
        self._note = note
        #: What its clock is ahead of the true time; negative when it is behind.
        self._ahead_s = 0.0
        self._lives = 0
        #: Which chain of ticks is the living one.
        self._chain = 0
        self._stalled = False
        self._inbox: list[tuple[Sequence[Event], Reply]] = []
        self._up = False
        #: True seconds in which the loop could not run, and how often time jumped under it.
        self._stalled_s = 0.0
        self._jumps = 0
        self._boot(None)

    def views(self) -> dict[str, WorkerView]:
        """What it shows of all workers, by id."""
        listing = self._cluster.handle(ListWorkers(limit=1_000), self._now())
        return {view.worker_id: view for view in listing.answer}

    def receive(self, events: Sequence[Event], reply: Reply) -> None:
        """A request arrives: handled in one go, or when the loop runs again, or never."""
        if not self._up:
            return
        if self._stalled:
            self._inbox.append((events, reply))
        else:
            self._serve(events, reply)

    # Faults

    def start(self, clock_shift_s: float = 0.0) -> None:
        """A new process with an empty memory, its clock earlier or later than the last one's."""
        self._ahead_s += clock_shift_s
        self._boot(self._ledger)
        self._note(f"scheduler starts, life {self._lives}, clock {clock_shift_s:+.3f} s")

    def start_unless_up(self, clock_shift_s: float = 0.0) -> None:
        """As `start`, if it does not run."""
        if not self._up:
            self.start(clock_shift_s)

    def crash(self) -> None:
        """It is killed, as by kill -9."""
        self._up = False
        self._stalled = False
        self._inbox.clear()
        self._note("scheduler is killed")

    def stall(self, seconds: float) -> None:
        """The loop does not run for a while; what arrives waits."""
        if not self._up or self._stalled:
            return
        self._stalled = True
        self._note(f"scheduler stalls for {seconds:.3f} s")
        self._chain += 1
        chain = self._chain
        since = self._timeline.now
        self._timeline.after(seconds, lambda: self._wake(chain, since))

    def step_clock(self, seconds: float) -> None:
        """Its clock is set forward."""
        self._ahead_s += seconds
        self._jumps += 1
        self._note(f"scheduler's clock is stepped by {seconds:.3f} s")

    # The loop

    def _boot(self, before: Ledger | None) -> None:
        now = self._now()
        self._lives += 1
        self._up = True
        self._cluster = self._make(now, SETTINGS)
        self._ledger = Ledger(now, SETTINGS, self._awake, before)
        self._chain += 1
        chain = self._chain
        self._timeline.after(0.0, lambda: self._tick(chain))

    def _wake(self, chain: int, since: float) -> None:
        if chain != self._chain or not self._up:
            return
        self._stalled = False
        self._stalled_s += self._timeline.now - since
        self._jumps += 1
        self._note("scheduler runs again")
        ticks_first = self._rng.random() < 0.5  # noqa: PLR2004 (timers and sockets race)
        if ticks_first:
            self._restart_ticks()
        waiting, self._inbox = self._inbox, []
        for events, reply in waiting:
            self._serve(events, reply)
        if not ticks_first:
            self._restart_ticks()

    def _restart_ticks(self) -> None:
        self._chain += 1
        self._tick(self._chain)

    def _tick(self, chain: int) -> None:
        if chain != self._chain or not self._up:
            return
        self._serve((Tick(),), _ignore)
        pause_s = self._cluster.next_deadline() - self._now()
        self._timeline.after(max(0.001, pause_s), lambda: self._tick(chain))

    def _serve(self, events: Sequence[Event], reply: Reply) -> None:
        answers = [self._handle(event) for event in events]
        self._cluster.check()
        reply(answers)

    def _handle(self, event: Event) -> Any:  # noqa: ANN401 (each event has its own answer)
        now = self._now()
        self._ledger.advance(now)
        answer: Any
        try:
            step = self._cluster.handle(event, now)
            answer, effects = step.answer, step.effects
        except DtaskError as error:
            answer, effects = error, ()
        if not isinstance(event, Tick):
            self._note(line(event, answer))
        for effect in effects:
            self._note(f"  {effect.worker_id} {effect.change}")
        self._ledger.take(event, answer)
        # What a refused event left to tell comes with this step.
        listing = self._cluster.handle(ListWorkers(limit=1_000), now)
        for effect in listing.effects:
            self._note(f"  {effect.worker_id} {effect.change}")
        self._ledger.compare(listing.answer)
        return answer

    def _now(self) -> float:
        return self._timeline.now + self._ahead_s

    def _awake(self) -> tuple[float, int]:
        """True seconds that the loop could run so far, and how often time has jumped under it."""
        return self._timeline.now - self._stalled_s, self._jumps


def _ignore(_answers: object) -> None:
    pass
