"""The job half's state machine: one handler an event, and all that follows from it.

An event moves tasks (all of it through `Register.move`). Then, in the same step, tasks that have
thereby ended release or skip those that need them, jobs end, and what waits is dispatched as far
as slots go. `finish` closes the step and hands out its changes and effects.

Two times are reckoned with. `now` is epoch seconds: `not_before`, backoffs, what is shown. `at` is
core time, without the scheduler's own stalls: how long a worker may take to start an attempt, or
stay away.
"""

from collections.abc import Callable
from typing import Any, Final

from dtask.core.jobs import again, graph, model, restoring, retry, why
from dtask.core.jobs.events import (
    Attach,
    Cancel,
    CountJobs,
    CountTasks,
    Detached,
    Explain,
    ListHeld,
    ListMisfits,
    ListQueues,
    Look,
    Misfit,
    NeedsRecord,
    QueueView,
    Reports,
    Retried,
    RetryJob,
    SetQueue,
    Stats,
    Stopping,
    Submit,
    Submitted,
    TaskCounts,
    Why,
)
from dtask.core.jobs.flow import Flow, Settings
from dtask.core.jobs.holding import Holding
from dtask.core.jobs.job import (
    CANCELLED,
    FAILED,
    NO_JOBS,
    PENDING,
    QUEUED,
    SKIPPED,
    STATES,
    Job,
    Task,
)
from dtask.core.jobs.model import DEFAULT_QUEUE
from dtask.core.jobs.moment import Moment
from dtask.core.jobs.names import check_task_name
from dtask.core.jobs.queues import Lines, Queue
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import Change, Past, Snapshot
from dtask.core.jobs.seats import Seats
from dtask.core.jobs.states import Cause, State
from dtask.errors import Busy, Conflict, DtaskError, InvalidRequest, NotFound

#: Tasks (not elements) of live jobs, and queues.
LIVE_TASKS_MAX: Final = 1_000_000
QUEUES_MAX: Final = 1_000


class Jobs:
    """All jobs. One writer: the Cluster."""

    def __init__(self, seats: Seats, settings: Settings, draw: retry.Draw) -> None:
        self._seats = seats
        #: Of the step under way.
        self._moment = Moment()
        self._lines = Lines(seats)
        self._register = Register(self._lines)
        self._flow = Flow(self._register, settings, self._moment)
        self._holding = Holding(
            self._register, seats, self._flow, self._moment, away_s=settings.away_s, draw=draw
        )
        #: Since the start.
        self._submitted = 0
        self._handlers: dict[type, Callable[[Any], Any]] = {
            Submit: self._on_submit,
            Cancel: self._on_cancel,
            RetryJob: self._on_retry,
            SetQueue: self._on_set_queue,
            ListQueues: self._on_list_queues,
            Explain: self._on_explain,
            Look: self._on_look,
            CountJobs: self._on_count,
            CountTasks: self._on_count_tasks,
            ListHeld: self._holding.held_by,
            ListMisfits: self._on_list_misfits,
            Attach: self._holding.attach,
            Detached: self._holding.detached,
            Reports: self._holding.heed,
        }

    @property
    def hurries(self) -> bool:
        """Whether more can be dispatched at once than one step may."""
        return self._holding.hurries

    # The door

    def restore(self, snapshot: Snapshot, at: float, now: float) -> None:
        """Take up what a store remembers. To be called once, before any event."""
        self._moment.at, self._moment.now = at, now
        register = self._register
        for row in snapshot.queues:
            self._lines.queues[row.name] = queue = Queue(row.name)
            queue.take(row)
        self._lines.queues.setdefault(DEFAULT_QUEUE, Queue(DEFAULT_QUEUE))
        register.last_job_id = snapshot.last_job_id
        for past in sorted(snapshot.past, key=_ended_at):
            register.past[past.job_id] = past
            if past.key is not None:
                register.keys[past.key] = past.job_id
        live = frozenset(record.job.job_id for record in snapshot.jobs)
        for record in snapshot.jobs:
            queue = self._lines.queues.setdefault(record.job.queue, Queue(record.job.queue))
            job = restoring.job(record, queue)
            if not job.under_way:
                job.after = live.intersection(job.spec.after) or NO_JOBS
            register.add(job)
            self._flow.tasks_live += len(job.tasks)
            for attempt in restoring.attempts(job, record):
                register.hold(attempt)
        for job in register.jobs.values():
            for task in job.tasks.values():
                self._flow.line_up(task)
            self._flow.take_up(job)
        for worker_id in register.by_worker:
            self._holding.note_away(worker_id)
        self._flow.begin_to_forget()

    def handle(self, event: Any, at: float, now: float) -> Any:  # noqa: ANN401 (see events)
        """Let one event happen. Raises a DtaskError if it is refused: then it changed nothing."""
        self._moment.at, self._moment.now = at, now
        return self._handlers[type(event)](event)

    def pass_time(self, at: float, now: float) -> None:
        """Let what time alone brings about happen."""
        self._moment.at, self._moment.now = at, now
        self._flow.wall.ring(now)
        self._flow.core.ring(at)

    def next_due(self, stalled_s: float) -> float:
        """Epoch seconds when `pass_time` has something to do."""
        return min(self._flow.wall.next_due(), self._flow.core.next_due() + stalled_s)

    def lose(self, worker_id: str, at: float, now: float) -> None:
        """The worker is offline or has left: its attempts are lost."""
        self._moment.at, self._moment.now = at, now
        self._holding.lose(worker_id)

    def cut(self, worker_id: str, incarnation: str, at: float, now: float) -> None:
        """The worker's channel is not heard any more, though it may still be open."""
        self._moment.at, self._moment.now = at, now
        self._holding.cut(worker_id, incarnation)

    def finish(self) -> tuple[tuple[Change, ...], tuple[object, ...]]:
        """Let all that follows from the events so far happen: its changes and effects."""
        self._flow.cascade()
        self._holding.dispatch()
        return self._register.emit()

    def seated(self) -> set[int]:
        """Fences of the attempts that a slot is held for."""
        return {fence for fence, one in self._register.attempts.items() if one.seated}

    def check(self) -> None:
        """Assert every invariant. Slow: for tests and the simulation."""
        self._lines.check()
        register = self._register
        totals = {name: [0] * len(STATES) for name in self._lines.queues}
        for job in register.jobs.values():
            assert not job.ended, job.job_id
            assert job.job_id <= register.last_job_id
            assert job.job_id not in register.past
            job.check()
            for code, count in enumerate(job.counts):
                totals[job.queue.name][code] += count
        for name, queue in self._lines.queues.items():
            assert queue.counts == totals[name], name
        held = 0
        for worker_id, attempts in register.by_worker.items():
            assert attempts
            for fence, attempt in attempts.items():
                held += 1
                assert register.attempts[fence] is attempt
                assert attempt.element.attempt is attempt
                assert (attempt.fence, attempt.worker_id) == (fence, worker_id)
                assert attempt.element.task.job.job_id in register.jobs
        assert held == len(register.attempts)

    # Clients

    def _on_submit(self, event: Submit) -> Submitted:
        register = self._register
        if event.key is not None and (known := register.keys.get(event.key)) is not None:
            return self._submitted_before(event, known)
        spec = event.spec
        graph.check(spec)
        for name, task in spec.tasks.items():
            self._seats.check(task.tags, f"tasks.{name}.tags")
        queue = self._queue(spec.queue)
        elements = sum(model.size(task) for task in spec.tasks.values())
        self._check_room(elements, len(spec.tasks), queue)
        for earlier in spec.after:
            if earlier not in register.jobs and earlier not in register.past:
                raise _no_job(earlier)
        register.last_job_id += 1
        job = Job(register.last_job_id, spec, queue, self._moment.now)
        job.key, job.digest, job.raw = event.key, event.digest, event.raw
        job.after = self._live_among(spec.after)
        register.add(job)
        self._flow.tasks_live += len(job.tasks)
        self._submitted += 1
        register.touch_job(job)
        for task_ in job.tasks.values():
            register.touch_task(task_)
        self._flow.tell(job)
        if any(_failed(register.past.get(earlier), spec) for earlier in spec.after):
            self._flow.skip_job(job)
        else:
            self._flow.wait_for_its_time(job)
        return Submitted(job.job_id)

    def _submitted_before(self, event: Submit, job_id: int) -> Submitted:
        register = self._register
        known = register.jobs.get(job_id) or register.past[job_id]
        if known.digest != event.digest:
            raise Conflict(
                f"key: job {job_id} was submitted with this key and another body: send the same "
                f"body again, or use a new key.",
                code="key_taken",
                job_id=job_id,
            )
        return Submitted(job_id, known=True)

    def _check_room(self, elements: int, tasks: int, queue: Queue) -> None:
        """Raise Busy unless so many more may wait in the queue, and so many tasks live."""
        most = queue.max_queued
        if most is not None and elements > most:
            raise Busy(
                f"The queue {queue.name!r} takes at most {most} waiting tasks, and this has "
                f"{elements}: it will never fit. Submit it in parts, to another queue, or raise "
                f"the limit (dtask queue {queue.name} --max-queued {elements}).",
                code="queue_full",
                queue=queue.name,
                max_queued=most,
            )
        if most is not None and queue.waiting + elements > most:
            raise Busy(
                f"The queue {queue.name!r} holds {queue.waiting} waiting tasks of at most {most}, "
                f"and this would add {elements}: ask again later.",
                code="queue_full",
                queue=queue.name,
                max_queued=most,
            )
        if self._flow.tasks_live + tasks > LIVE_TASKS_MAX:
            raise Busy(
                f"The jobs that have not ended hold {self._flow.tasks_live} tasks of at most "
                f"{LIVE_TASKS_MAX}: submit later, or use arrays, which count as one task.",
                code="queue_full",
            )

    def _on_cancel(self, event: Cancel) -> Stopping:
        job = self._live(event.job_id, "It has ended already")
        if event.task is None:
            tasks = list(job.tasks.values())
            job.cancelled = True
            self._register.touch_job(job, anyhow=True)
        else:
            tasks = [_task(job, event.task)]
        for task in tasks:
            self._cancel(task)
        left = sum(element.attempt is not None for t in tasks for element in t.elements.values())
        return Stopping(job.job_id, job.state, left)

    def _cancel(self, task: Task) -> None:
        register = self._register
        if task.rest_code() in (PENDING, QUEUED):
            register.move_rest(task, CANCELLED, self._moment.now, cause=Cause.STOPPED)
        for element in list(task.elements.values()):
            if element.code in (PENDING, QUEUED):
                element.not_before = None
                self._flow.end(element, CANCELLED, Cause.STOPPED)
            elif element.attempt is not None and not element.attempt.stopping:
                element.attempt.stopping = True
                register.rows.append(element.attempt.row())
                self._holding.stop(element.attempt)

    def _on_retry(self, event: RetryJob) -> Retried | NeedsRecord:
        register = self._register
        past = register.past.get(event.job_id)
        job = register.jobs.get(event.job_id)
        if job is None:
            if past is None:
                raise _no_job(event.job_id)
            if event.record is None or event.record.job.ended_at != past.ended_at:
                return NeedsRecord(event.job_id)
            queue = self._lines.queues.setdefault(
                event.record.job.queue, Queue(event.record.job.queue)
            )
            job = restoring.job(event.record, queue)
        codes = (FAILED, SKIPPED) if event.again == "failed" else (FAILED, SKIPPED, CANCELLED)
        try:
            chosen = self._to_start_over(job, event.task, codes)
        except DtaskError:
            self._discard(job)
            raise
        if not chosen:
            self._discard(job)
            return Retried(event.job_id, 0)
        if past is not None:
            del register.past[event.job_id]
            job.shown = past.state
            job.after = self._live_among(job.spec.after)
            register.add(job)
            self._flow.tasks_live += len(job.tasks)
            for heir_id in register.heirs.get(job.job_id, ()):
                if not (heir := register.jobs[heir_id]).under_way:
                    heir.after |= {job.job_id}
        job.ended_at = None
        job.cancelled = False
        register.touch_job(job, anyhow=True)
        count = sum(self._start_over(task, codes) for task in chosen)
        self._flow.take_up(job)
        self._flow.tell(job)
        return Retried(event.job_id, count)

    def _to_start_over(self, job: Job, name: str | None, codes: tuple[int, ...]) -> list[Task]:
        """What a retry starts over. Raises DtaskError if it is refused; changes nothing."""
        chosen = list(job.tasks.values()) if name is None else again.with_heirs(_task(job, name))
        found = again.startable(job, chosen, codes)
        if not found:
            return []
        past = self._register.past
        is_past = job.job_id in past
        if is_past and job.spec.when == "all_succeeded":
            for earlier in job.spec.after:
                if earlier in past:
                    again.check_after(job.job_id, past[earlier])
        elements = sum(task.counts[code] for task in found for code in codes)
        self._check_room(elements, len(job.tasks) if is_past else 0, job.queue)
        return found

    def _discard(self, job: Job) -> None:
        """A job that was brought back for nothing does not live, so it does not count."""
        if job.job_id not in self._register.jobs:
            for code, count in enumerate(job.counts):
                job.queue.counts[code] -= count

    def _start_over(self, task: Task, codes: tuple[int, ...]) -> int:
        """Put what stands in one of these states back to the beginning; how many that are."""
        register = self._register
        count = 0
        if task.rest_code() in codes:
            count += register.move_rest(task, PENDING, self._moment.now)
            task.ended_at = task.queued_at = None
        for element in list(task.elements.values()):
            if element.code in codes:
                element.failures = element.crashes = element.trials = 0
                element.ended_at = element.queued_at = element.not_before = None
                element.exit_code = element.cause = element.error = None
                register.move(element, PENDING, self._moment.now)
                count += 1
        return count

    def _on_set_queue(self, event: SetQueue) -> QueueView:
        check_task_name(event.name, "name")
        if event.weight is not None and not 0 < event.weight <= 1e6:  # noqa: PLR2004 (a bound)
            raise InvalidRequest(
                f"weight: expected a number above 0 and at most 1000000, got {event.weight:g}.",
                code="malformed",
                field="weight",
            )
        queues = self._lines.queues
        queue = queues.get(event.name)
        if queue is None:
            if len(queues) >= QUEUES_MAX:
                raise Busy(f"There are {QUEUES_MAX} queues, which is the limit.", code="queue_full")
            queue = queues[event.name] = Queue(event.name)
        if event.max_running is not None:
            queue.max_running = event.max_running or None
        if event.max_queued is not None:
            queue.max_queued = event.max_queued or None
        if event.weight is not None:
            queue.weight = event.weight
        if event.paused is not None:
            queue.paused = event.paused
        self._register.rows.append(queue.row())
        return queue.view()

    def _on_list_queues(self, event: ListQueues) -> list[QueueView]:
        if event.name is not None:
            return [self._queue(event.name).view()]
        return [queue.view() for _, queue in sorted(self._lines.queues.items())]

    def _on_list_misfits(self, event: ListMisfits) -> list[Misfit]:
        return self._lines.misfits(event.limit)

    def _on_explain(self, event: Explain) -> Why:
        job = self._live(event.job_id, "It has ended")
        tasks = list(job.tasks.values()) if event.task is None else [_task(job, event.task)]
        if event.index is not None:
            _check_index(tasks[0], event.index)
        return why.explain(job, tasks, event.index, self._seats, self._moment.now)

    def _on_look(self, event: Look) -> State:
        register = self._register
        if (job := register.jobs.get(event.job_id)) is not None:
            return job.state
        if (past := register.past.get(event.job_id)) is not None:
            return past.state
        raise _no_job(event.job_id)

    def _on_count(self, _event: CountJobs) -> Stats:
        tasks = dict.fromkeys((state.value for state in STATES), 0)
        for queue in self._lines.queues.values():
            for state, count in zip(STATES, queue.counts, strict=True):
                tasks[state.value] += count
        return Stats(
            tasks=tasks,
            jobs=len(self._register.jobs),
            past=len(self._register.past),
            attached=self._seats.attached(),
            ended=dict(self._flow.ends),
            submitted=self._submitted,
            **self._holding.counted,
        )

    def _on_count_tasks(self, _event: CountTasks) -> TaskCounts:
        queues = tuple(queue.tally() for queue in self._lines.queues.values())
        return TaskCounts(len(self._register.jobs), len(self._register.past), queues)

    # Look-ups

    def _queue(self, name: str) -> Queue:
        queue = self._lines.queues.get(name)
        if queue is None:
            known = ", ".join(sorted(self._lines.queues)[:10])
            raise NotFound(
                f"There is no queue {name[:80]!r}: expected one of {known}, or make it with "
                f"`dtask queue {name[:80]} --max-running 4` or PUT /api/v1/queues/{name[:80]}.",
                code="unknown_queue",
            )
        return queue

    def _live_among(self, job_ids: tuple[int, ...]) -> frozenset[int]:
        return frozenset(one for one in job_ids if one in self._register.jobs) or NO_JOBS

    def _live(self, job_id: int, if_past: str) -> Job:
        job = self._register.jobs.get(job_id)
        if job is not None:
            return job
        past = self._register.past.get(job_id)
        if past is None:
            raise _no_job(job_id)
        raise Conflict(
            f"Job {job_id} is {past.state}. {if_past}.",
            code="job_ended",
            job_id=job_id,
            state=past.state.value,
        )


def _ended_at(past: Past) -> tuple[float, int]:
    return past.ended_at, past.job_id


def _failed(past: Past | None, spec: model.JobSpec) -> bool:
    """Whether a job that this one comes after has ended so that it can't run."""
    if past is None or spec.when == "all_done":
        return False
    return past.state is not State.SUCCEEDED


def _task(job: Job, name: str) -> Task:
    task = job.tasks.get(name)
    if task is None:
        raise _no_task(job.job_id, name)
    return task


def _check_index(task: Task, index: int) -> None:
    if not task.is_array:
        raise NotFound(
            f"Task {task} is no array: it has no element {index}.",
            code="no_task",
            job_id=task.job.job_id,
        )
    if index >= task.size:
        raise NotFound(
            f"Task {task} has no element {index}: it has {task.size}, counted from 0.",
            code="no_task",
            job_id=task.job.job_id,
        )


def _no_job(job_id: int) -> NotFound:
    return NotFound(
        f"There is no job {job_id}: it was never submitted, or is kept no longer.",
        code="no_job",
        job_id=job_id,
    )


def _no_task(job_id: int, name: str) -> NotFound:
    return NotFound(
        f"Job {job_id} has no task {name[:80]!r}: `dtask job {job_id}` lists them.",
        code="no_task",
        job_id=job_id,
    )
