"""A cluster with a time that is told, for tests of the placement core.

Builders have defaults, every step is followed by `cluster.check()`, and every effect must be
taken: what a test does not expect must not happen.
"""

from typing import Any

from msgspec.structs import replace

from dtask.core.cluster import Cluster, Settings
from dtask.core.placement import tags
from dtask.core.placement.events import (
    Ask,
    AskAll,
    Change,
    Drain,
    Heard,
    Heartbeat,
    ListWorkers,
    Placement,
    Refusal,
    Release,
    Released,
    Tick,
    WorkerChanged,
    WorkerView,
)

#: Epoch seconds when the time of a test starts.
START = 1_700_000_000.0

WARM = Settings(warm_up_s=0.0)


class Env:
    """One cluster and the workers that heartbeat to it, each as it last said."""

    def __init__(self, settings: Settings = WARM, now: float = START) -> None:
        self.now = now
        self.cluster = Cluster(now, settings)
        self._beats: dict[str, Heartbeat] = {}
        self._effects: list[WorkerChanged] = []

    def handle(self, event: Any) -> Any:
        """Let `event` happen now; return its answer."""
        try:
            step = self.cluster.handle(event, self.now)
        finally:
            self.cluster.check()
        self._effects += step.effects
        return step.answer

    def worker(
        self, worker_id: str = "w1", tags: str = "", slots: int = 4, **fields: Any
    ) -> Heartbeat:
        """A worker joins. It reports by lease unless `current_tasks` or `tasks` is given."""
        beat = Heartbeat(worker_id, f"{worker_id}:9000", _split(tags), slots, **fields)
        self.handle(beat)
        self._beats[worker_id] = beat
        self.take(worker_id, "joined")
        return beat

    def beat(self, worker_id: str = "w1", **changes: Any) -> Heard:
        """The worker heartbeats as before but for `changes`; a `seq` counts up by itself."""
        before = self._beats[worker_id]
        if before.seq is not None:
            changes.setdefault("seq", before.seq + 1)
        beat = replace(before, **changes)
        heard: Heard = self.handle(beat)
        self._beats[worker_id] = replace(beat, ended=())
        return heard

    def ask(self, task_id: str = "t", required: str = "", **fields: Any) -> Placement | Refusal:
        """Ask for a slot; `required` is the text form of a list of requirements."""
        answer: Placement | Refusal = self.handle(an_ask(task_id, required, **fields))
        return answer

    def place(self, task_id: str = "t", required: str = "", **fields: Any) -> Placement:
        """Ask for a slot that must be granted."""
        answer = self.ask(task_id, required, **fields)
        assert isinstance(answer, Placement), answer
        return answer

    def refuse(self, task_id: str = "t", required: str = "", **fields: Any) -> Refusal:
        """Ask for a slot that must be refused."""
        answer = self.ask(task_id, required, **fields)
        assert isinstance(answer, Refusal), answer
        return answer

    def ask_all(self, *asks: Ask) -> list[Placement] | Refusal:
        """Ask for all of these slots or none."""
        answer: list[Placement] | Refusal = self.handle(AskAll(asks))
        return answer

    def release(self, task_id: str = "t", fence: int | None = None) -> Released:
        """The lease of a task is over."""
        answer: Released = self.handle(Release(task_id, fence))
        return answer

    def drain(self, worker_id: str = "w1", *, drained: bool = True) -> WorkerView:
        """An operator's word on a worker, and its effect."""
        answer: WorkerView = self.handle(Drain(worker_id, drained))
        self.take(worker_id, "draining" if drained else "undrained")
        return answer

    def workers(self, after: str = "", limit: int = 1_000) -> list[WorkerView]:
        """The rows of the table."""
        rows: list[WorkerView] = self.handle(ListWorkers(limit, after))
        return rows

    def view(self, worker_id: str = "w1") -> WorkerView:
        """One row of the table."""
        found = {row.worker_id: row for row in self.workers()}
        return found[worker_id]

    def occupancy(self, worker_id: str = "w1") -> int:
        """Slots taken on a worker."""
        return self.view(worker_id).occupancy

    def advance(self, seconds: float) -> None:
        """Let time pass as the shell does: with a tick at every deadline, so without a stall."""
        end = self.now + seconds
        self.handle(Tick())  # after a stall, the deadline is one that has passed
        while (deadline := self.cluster.next_deadline()) < end:
            assert deadline > self.now, "a deadline that has passed would spin the loop"
            self.now = deadline
            self.handle(Tick())
        self.now = end
        self.handle(Tick())

    def keep(self, seconds: float, *worker_ids: str) -> None:
        """Let time pass while these workers go on heartbeating every 3 s as before."""
        end = self.now + seconds
        while self.now < end:
            self.advance(min(3.0, end - self.now))
            for worker_id in worker_ids:
                self.beat(worker_id)

    def stall(self, seconds: float) -> None:
        """Let time pass while the scheduler does not run; the next event finds out."""
        self.now += seconds

    def take(self, worker_id: str, *changes: Change) -> None:
        """The next effects are these changes of this worker."""
        for change in changes:
            assert self._effects, f"no effect is left, expected {worker_id} {change}"
            effect = self._effects.pop(0)
            assert (effect.worker_id, effect.change) == (worker_id, change), effect

    def take_all(self) -> list[WorkerChanged]:
        """All effects that were not taken yet."""
        taken, self._effects = self._effects, []
        return taken

    def quiet(self) -> None:
        """Every effect was taken."""
        assert self._effects == []


def an_ask(task_id: str = "t", required: str = "", *, preferred: str = "", **fields: Any) -> Ask:
    """A question, with requirements and preferred tags in their text form."""
    return Ask(task_id, tags.parse(_split(required)), _split(preferred), **fields)


def _split(text: str) -> tuple[str, ...]:
    return tags.split(text)
