"""A cluster with a time that is told, for tests of the core.

Builders have defaults, every step is followed by `cluster.check()`, and every effect must be
taken: what a test does not expect must not happen. (But for the moves of tasks: those are kept
as a `story`, for the tests that look.)

With `with_jobs` there is a job half too, and a `book` of what a store would remember of it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from core.book import Book
from dtask.core.cluster import Cluster, Settings, Step
from dtask.core.jobs.events import (
    Attach,
    Attached,
    Cancel,
    ChannelOpened,
    Detached,
    Ended,
    Explain,
    Heeded,
    HeldAttempt,
    NeedsRecord,
    QueueView,
    Reason,
    Reports,
    Retried,
    RetryJob,
    SetQueue,
    StartAttempt,
    Started,
    Stopping,
    Submit,
    Submitted,
    TaskChanged,
)
from dtask.core.jobs.model import JobSpec
from dtask.core.jobs.states import Cause, State
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
    WorkerView,
)

#: Epoch seconds when the time of a test starts.
START = 1_700_000_000.0

WARM = Settings(warm_up_s=0.0)

#: Tasks by name, each as its fields; the command may be left out.
Tasks = dict[str, dict[str, Any]]

_OF_JOBS = {"name", "queue", "priority", "after", "not_before"}


class Env:
    """One cluster and the workers that heartbeat to it, each as it last said."""

    def __init__(
        self, settings: Settings = WARM, now: float = START, *, with_jobs: bool = False
    ) -> None:
        self.now = now
        #: What the next pauses are drawn from: 1 is the longest that may be.
        self.draw = 1.0
        self._settings = settings
        self._beats: dict[str, Heartbeat] = {}
        self._effects: list[Any] = []
        #: What a store would remember, and the changes of the last step.
        self.book = Book()
        self.changes: tuple[Any, ...] = ()
        self.story: list[TaskChanged] = []
        #: By worker the fences that it was given and did not report as ended: started or not.
        self.held: dict[str, dict[int, bool]] = {}
        #: Of each worker the last one.
        self.connections: dict[str, int] = {}
        self._connection = 0
        self.cluster = self._new_cluster()
        if with_jobs:
            self._note(self.cluster.restore(self.book.snapshot(), now))

    def handle(self, event: Any) -> Any:
        """Let `event` happen now; return its answer."""
        try:
            step = self.cluster.handle(event, self.now)
        finally:
            self.cluster.check()
        self._note(step)
        return step.answer

    def _new_cluster(self) -> Cluster:
        return Cluster(self.now, self._settings, lambda: self.draw)

    def _note(self, step: Step) -> None:
        self.changes = step.changes
        self.book.write(step.changes)
        for effect in step.effects:
            if isinstance(effect, TaskChanged):
                self.story.append(effect)
                continue
            self._effects.append(effect)
            if isinstance(effect, StartAttempt):
                self.held.setdefault(effect.worker_id, {})[effect.fence] = False

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
        self.tick()  # after a stall, the deadline is one that has passed
        while (deadline := self.cluster.next_deadline()) < end:
            assert deadline > self.now, "a deadline that has passed would spin the loop"
            self.now = deadline
            self.tick()
        self.now = end
        self.tick()

    def tick(self) -> None:
        """Tell the time, and again as long as something is left to do at once."""
        self.handle(Tick())
        while self.cluster.hurries or self.cluster.next_deadline() <= self.now:
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

    def take(self, what: Any, *changes: Change) -> Any:
        """The next effects are these changes of this worker; or the next one is of this type."""
        for change in changes:
            assert self._effects, f"no effect is left, expected {what} {change}"
            effect = self._effects.pop(0)
            assert (effect.worker_id, effect.change) == (what, change), effect
        if isinstance(what, type):
            assert self._effects, f"no effect is left, expected {what.__name__}"
            effect = self._effects.pop(0)
            assert isinstance(effect, what), effect
            return effect
        return None

    def take_all(self) -> list[Any]:
        """All effects that were not taken yet."""
        taken, self._effects = self._effects, []
        return taken

    def quiet(self) -> None:
        """Every effect was taken."""
        assert self._effects == []

    # Jobs

    def submit(self, tasks: Tasks | None = None, *, key: str | None = None, **fields: Any) -> int:
        """A job of these tasks, or of the one task `main` with these fields; its id."""
        answer = self.send(tasks, key=key, **fields)
        assert not answer.known
        return answer.job_id

    def send(
        self, tasks: Tasks | None = None, *, key: str | None = None, **fields: Any
    ) -> Submitted:
        """The same, with the whole answer."""
        submitted: Submitted = self.handle(a_job(tasks, key=key, **fields))
        return submitted

    def attach(
        self,
        worker_id: str = "w1",
        tags: str = "",
        slots: int = 4,
        held: Iterable[tuple[int, bool]] | None = None,
    ) -> Attached:
        """A worker's channel is open; it joins before, if it has not.

        It holds what it was given and did not report as ended, if nothing else is said.
        """
        if worker_id not in self._beats:
            self.worker(worker_id, tags, slots, incarnation=f"{worker_id}-1", trusted=True)
        fences = self.held.setdefault(worker_id, {})
        if held is not None:
            fences.clear()
            fences.update(held)
        told = tuple(HeldAttempt(fence, started) for fence, started in fences.items())
        before = len(self._effects)
        self._connection += 1
        event = Attach(worker_id, self.life(worker_id), told, self._connection)
        attached: Attached = self.handle(event)
        opened = self._effects.pop(before)
        assert opened == ChannelOpened(worker_id, event.incarnation, event.connection)
        self.connections[worker_id] = event.connection
        for fence in attached.refused:
            del fences[fence]
        return attached

    def detach(self, worker_id: str = "w1") -> None:
        """The worker's channel is gone."""
        self.handle(Detached(worker_id, self.connections[worker_id]))

    def life(self, worker_id: str) -> str:
        """The incarnation that the worker last told of."""
        life = self._beats[worker_id].incarnation
        assert life is not None
        return life

    def given(self, name: str | None = None) -> StartAttempt:
        """The next effect gives a worker an attempt: of the task `name`, such as `1/main[3]`."""
        start: StartAttempt = self.take(StartAttempt)
        if name is not None:
            index = "" if start.index is None else f"[{start.index}]"
            assert f"{start.job_id}/{start.task}{index}" == name
        return start

    def started(self, start: StartAttempt) -> Heeded:
        """The worker reports that an attempt runs."""
        if start.fence in self.held[start.worker_id]:
            self.held[start.worker_id][start.fence] = True
        return self.report(start.worker_id, Started(start.fence, self.now))

    def ended(
        self,
        start: StartAttempt,
        exit_code: int | None = 0,
        cause: Cause | None = None,
        **more: Any,
    ) -> Heeded:
        """The worker reports that an attempt has ended."""
        self.held[start.worker_id].pop(start.fence, None)
        more.setdefault("ended_at", self.now)
        return self.report(start.worker_id, Ended(start.fence, exit_code, cause, **more))

    def stopped(self, start: StartAttempt) -> Heeded:
        """The worker reports that it has stopped an attempt, as it was told."""
        return self.ended(start, -15, Cause.STOPPED)

    def report(self, worker_id: str, *reports: Started | Ended) -> Heeded:
        """A worker says something of its attempts."""
        heeded: Heeded = self.handle(Reports(worker_id, self.life(worker_id), reports))
        return heeded

    def run(self, name: str | None = None, exit_code: int = 0) -> StartAttempt:
        """The next attempt given out starts and ends at once."""
        start = self.given(name)
        self.started(start)
        self.ended(start, exit_code)
        return start

    def cancel(self, job_id: int, task: str | None = None) -> Stopping:
        """Stop a job, or one task of it."""
        stopping: Stopping = self.handle(Cancel(job_id, task))
        return stopping

    def retry(self, job_id: int, task: str | None = None, **fields: Any) -> int:
        """Start over what did not succeed; how many tasks and elements that is."""
        answer = self.handle(RetryJob(job_id, task=task, **fields))
        if isinstance(answer, NeedsRecord):
            record = self.book.record(job_id)
            answer = self.handle(RetryJob(job_id, task=task, record=record, **fields))
        assert isinstance(answer, Retried)
        return answer.tasks

    def set_queue(self, name: str = "default", **fields: Any) -> QueueView:
        """Make or change a queue."""
        shown: QueueView = self.handle(SetQueue(name, **fields))
        return shown

    def why(
        self, job_id: int, task: str | None = None, index: int | None = None
    ) -> tuple[Reason, ...]:
        """Why it waits."""
        reasons: tuple[Reason, ...] = self.handle(Explain(job_id, task, index)).reasons
        return reasons

    def state(self, job_id: int, task: str | None = None, index: int | None = None) -> State:
        """Where a job, a task or an element stands, by the book."""
        if task is None:
            return self.book.jobs[job_id,].state
        return self.book.state(job_id, task, index)

    def states(self, job_id: int) -> dict[str, State]:
        """Where the tasks of a job stand, by the book."""
        rows = self.book.tasks.items()
        return {name: row.state for (of, name, idx), row in rows if of == job_id and idx < 0}

    def restart(self, *, suspended: bool = False) -> None:
        """A scheduler begins anew with what the store remembers, or its job half alone does."""
        if suspended:
            self._note(self.cluster.suspend(self.now))
        else:
            self.cluster = self._new_cluster()
        self._note(self.cluster.restore(self.book.snapshot(), self.now))
        self.cluster.check()


def a_job(
    tasks: Tasks | None = None, *, key: str | None = None, digest: str | None = None, **fields: Any
) -> Submit:
    """A submit: fields of a job are taken as such, all others as those of its one task."""
    if tasks is None:
        alone = {name: fields.pop(name) for name in list(fields) if name not in _OF_JOBS}
        tasks = {"main": alone}
    body = {"tasks": {name: _a_task(**task) for name, task in tasks.items()}, **fields}
    spec = msgspec.convert(body, JobSpec)
    raw = msgspec.json.encode(spec).decode()
    return Submit(spec, raw, raw if digest is None else digest, key)


def _a_task(*, tags: str = "", **fields: Any) -> dict[str, Any]:
    return {"command": ["true"], "tags": list(_split(tags)), **fields}


def an_ask(task_id: str = "t", required: str = "", *, preferred: str = "", **fields: Any) -> Ask:
    """A question, with requirements and preferred tags in their text form."""
    return Ask(task_id, tags.parse(_split(required)), _split(preferred), **fields)


def _split(text: str) -> tuple[str, ...]:
    return tags.split(text)
