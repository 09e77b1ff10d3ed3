"""The job half's state machine: one handler an event, and all that follows from it.

An event moves tasks (all of it through `Register.move`). Then, in the same step, tasks that have
thereby ended release or skip those that need them, jobs end, and what waits is dispatched as far
as slots go. `finish` closes the step and hands out its changes and effects.

Two times are reckoned with. `now` is epoch seconds: `not_before`, backoffs, what is shown. `at` is
core time, without the scheduler's own stalls: how long a worker may take to start an attempt, or
stay away.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from msgspec import Struct, structs

from dtask.core.jobs import graph, model, restoring, retry, why
from dtask.core.jobs.events import (
    Attach,
    Attached,
    AttemptName,
    Cancel,
    ChannelOpened,
    CloseChannel,
    CountJobs,
    Detached,
    Ended,
    Explain,
    Heeded,
    JobForgotten,
    ListQueues,
    LogLost,
    Look,
    NeedsRecord,
    QueueView,
    Reports,
    Retried,
    RetryJob,
    SetQueue,
    StartAttempt,
    Started,
    Stats,
    StopAttempt,
    Stopping,
    Submit,
    Submitted,
    TaskChanged,
    Why,
)
from dtask.core.jobs.job import (
    CANCELLED,
    FAILED,
    PENDING,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    STATES,
    SUCCEEDED,
    Attempt,
    Element,
    Job,
    Task,
)
from dtask.core.jobs.model import DEFAULT_QUEUE
from dtask.core.jobs.names import check_task_name
from dtask.core.jobs.queues import Lines, Queue
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import AttemptRow, Change, Past, Snapshot
from dtask.core.jobs.seats import Seat, Seats
from dtask.core.jobs.states import Cause, State
from dtask.core.jobs.timers import Timers
from dtask.errors import Busy, Conflict, InvalidRequest, NotFound

#: Tasks (not elements) of live jobs, and queues.
LIVE_TASKS_MAX: Final = 1_000_000
QUEUES_MAX: Final = 1_000

#: Attempts dispatched in one step, so that none holds up the loop; the rest follow in the next.
DISPATCH_MAX: Final = 200

#: Ended jobs are kept so long, and so many of them at most, unless an operator says otherwise.
KEEP_S: Final = 30 * 86_400.0
KEEP_JOBS: Final = 100_000

#: Past jobs forgotten in one step for their age, how often anybody looks for some, and how soon
#: again if there are more.
FORGET_MAX: Final = 100
FORGET_EVERY_S: Final = 10.0
FORGET_AGAIN_S: Final = 0.1

#: Ends that an attempt can have without a start.
_MAY_NOT_HAVE_RUN: Final = frozenset(
    {Cause.START_FAILED, Cause.WORKER_FAILED, Cause.RETURNED, Cause.LOST, Cause.STOPPED}
)


class Settings(Struct, frozen=True):
    """What an operator can set of the job half."""

    #: Ended jobs are kept so long, and so many of them at most.
    keep_s: float = KEEP_S
    keep_jobs: int = KEEP_JOBS
    #: A worker whose channel is gone this long has lost its attempts: the offline period.
    away_s: float = 20.0


class Jobs:
    """All jobs. One writer: the Cluster."""

    def __init__(self, seats: Seats, settings: Settings, draw: retry.Draw) -> None:
        self._seats = seats
        self._settings = settings
        self._draw = draw
        #: Of the step under way.
        self._at = 0.0
        self._now = 0.0
        self._lines = Lines(seats.meets)
        self._register = Register(self._lines)
        self._tasks_live = 0
        #: By epoch seconds, and by core time.
        self._wall = Timers()
        self._core = Timers()
        #: Workers that may hold attempts and whose channel is gone: core time since when.
        self._away: dict[str, float] = {}
        #: More can be dispatched at once than one step may.
        self.hurries = False
        self._counted = {"submitted": 0, "dispatched": 0, "requeued": 0, "refused": 0}
        self._ends = dict.fromkeys(("succeeded", "failed", "cancelled", "skipped"), 0)
        self._handlers: dict[type, Callable[[Any], Any]] = {
            Submit: self._on_submit,
            Cancel: self._on_cancel,
            RetryJob: self._on_retry,
            SetQueue: self._on_set_queue,
            ListQueues: self._on_list_queues,
            Explain: self._on_explain,
            Look: self._on_look,
            CountJobs: self._on_count,
            Attach: self._on_attach,
            Detached: self._on_detached,
            Reports: self._on_reports,
        }

    # The door

    def restore(self, snapshot: Snapshot, at: float, now: float) -> None:
        """Take up what a store remembers. To be called once, before any event."""
        self._at, self._now = at, now
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
        live = {record.job.job_id for record in snapshot.jobs}
        for record in snapshot.jobs:
            queue = self._lines.queues.setdefault(record.job.queue, Queue(record.job.queue))
            job = restoring.job(record, queue)
            if not job.under_way:
                job.after.update(live.intersection(job.spec.after))
            register.add(job)
            self._tasks_live += len(job.tasks)
            for attempt in restoring.attempts(job, record):
                register.hold(attempt)
        for job in register.jobs.values():
            for task in job.tasks.values():
                self._line_up(task)
            self._take_up(job)
        for worker_id in register.by_worker:
            self._note_away(worker_id)
        self._core.add(at + FORGET_EVERY_S, _always, self._forget_some)

    def handle(self, event: Any, at: float, now: float) -> Any:  # noqa: ANN401 (see events)
        """Let one event happen. Raises a DtaskError if it is refused: then it changed nothing."""
        self._at, self._now = at, now
        return self._handlers[type(event)](event)

    def pass_time(self, at: float, now: float) -> None:
        """Let what time alone brings about happen."""
        self._at, self._now = at, now
        self._wall.ring(now)
        self._core.ring(at)

    def next_due(self, stalled_s: float) -> float:
        """Epoch seconds when `pass_time` has something to do."""
        return min(self._wall.next_due(), self._core.next_due() + stalled_s)

    def lose(self, worker_id: str, at: float, now: float) -> None:
        """The worker is offline or has left: its attempts are lost."""
        self._at, self._now = at, now
        self._away.pop(worker_id, None)
        for attempt in list(self._register.by_worker.get(worker_id, {}).values()):
            self._lose(attempt)

    def cut(self, worker_id: str, incarnation: str, at: float, now: float) -> None:
        """The worker's channel is not heard any more, though it may still be open."""
        self._at, self._now = at, now
        self._register.effects.append(CloseChannel(worker_id, incarnation))
        self._note_away(worker_id)

    def finish(self) -> tuple[tuple[Change, ...], tuple[object, ...]]:
        """Let all that follows from the events so far happen: its changes and effects."""
        self._cascade()
        self._dispatch()
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
        self._check_room(spec, queue)
        for earlier in spec.after:
            if earlier not in register.jobs and earlier not in register.past:
                raise _no_job(earlier)
        register.last_job_id += 1
        job = Job(register.last_job_id, spec, queue, self._now)
        job.key, job.digest, job.raw = event.key, event.digest, event.raw
        job.after.update(earlier for earlier in spec.after if earlier in register.jobs)
        register.add(job)
        self._tasks_live += len(job.tasks)
        self._counted["submitted"] += 1
        register.touch_job(job)
        for task_ in job.tasks.values():
            register.touch_task(task_)
        self._tell(job)
        if any(_failed(register.past.get(earlier), spec) for earlier in spec.after):
            self._skip_job(job)
        else:
            self._wait_for_its_time(job)
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

    def _check_room(self, spec: model.JobSpec, queue: Queue) -> None:
        elements = sum(model.size(task) for task in spec.tasks.values())
        most = queue.max_queued
        if most is not None and queue.waiting + elements > most:
            raise Busy(
                f"The queue {queue.name!r} holds {queue.waiting} waiting tasks of at most {most}, "
                f"and this job has {elements}: submit it later.",
                code="queue_full",
                queue=queue.name,
                max_queued=most,
            )
        if self._tasks_live + len(spec.tasks) > LIVE_TASKS_MAX:
            raise Busy(
                f"The jobs that have not ended hold {self._tasks_live} tasks of at most "
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
            register.move_rest(task, CANCELLED, self._now, cause=Cause.STOPPED)
        for element in list(task.elements.values()):
            if element.code in (PENDING, QUEUED):
                element.not_before = None
                self._end(element, CANCELLED, Cause.STOPPED)
            elif element.attempt is not None and not element.attempt.stopping:
                element.attempt.stopping = True
                register.rows.append(element.attempt.row())
                self._stop(element.attempt)

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
        chosen = list(job.tasks.values())
        if event.task is not None and event.task not in job.tasks:
            self._discard(job)
            raise _no_task(job.job_id, event.task)
        if event.task is not None:
            chosen = _with_heirs(job.tasks[event.task])
        codes = (FAILED, SKIPPED) if event.again == "failed" else (FAILED, SKIPPED, CANCELLED)
        if not any(task.counts[code] for task in chosen for code in codes):
            self._discard(job)
            return Retried(event.job_id, 0)
        if past is not None:
            del register.past[event.job_id]
            job.shown = past.state
            job.after.update(job_id for job_id in job.spec.after if job_id in register.jobs)
            register.add(job)
            self._tasks_live += len(job.tasks)
        job.ended_at = None
        job.cancelled = False
        register.touch_job(job, anyhow=True)
        count = sum(self._start_over(task, codes) for task in chosen)
        self._take_up(job)
        self._tell(job)
        return Retried(event.job_id, count)

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
            count += register.move_rest(task, PENDING, self._now)
            task.ended_at = task.queued_at = None
        for element in list(task.elements.values()):
            if element.code in codes:
                element.failures = element.crashes = element.trials = 0
                element.ended_at = element.queued_at = element.not_before = None
                element.exit_code = element.cause = element.error = None
                register.move(element, PENDING, self._now)
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

    def _on_explain(self, event: Explain) -> Why:
        job = self._live(event.job_id, "It has ended")
        tasks = list(job.tasks.values()) if event.task is None else [_task(job, event.task)]
        return why.explain(job, tasks, event.index, self._seats, self._now)

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
            ended=dict(self._ends),
            **self._counted,
        )

    # Workers

    def _on_attach(self, event: Attach) -> Attached:
        register = self._register
        self._away.pop(event.worker_id, None)
        its = register.by_worker.get(event.worker_id, {})
        kept, refused = [], []
        register.effects.append(ChannelOpened(event.worker_id, event.incarnation, event.connection))
        told = {held.fence for held in event.held}
        for attempt in [attempt for fence, attempt in its.items() if fence not in told]:
            self._lose(attempt)
        for held in event.held:
            found = register.attempts.get(held.fence)
            if found is None or found.worker_id != event.worker_id:
                refused.append(held.fence)
                continue
            kept.append(_name(found))
            if not found.seated:
                found.seated = True
                self._seats.adopt(found.worker_id, found.fence)
            if found.started_at is None:
                if held.started:
                    self._start(found, self._now)
                else:
                    self._await_start(found)
            if found.stopping:
                self._stop(found)
        self._counted["refused"] += len(refused)
        return Attached(tuple(kept), tuple(refused))

    def _on_detached(self, event: Detached) -> None:
        self._note_away(event.worker_id)

    def _note_away(self, worker_id: str) -> None:
        """Its channel is gone: if it stays away, its attempts are lost."""
        since = self._away[worker_id] = self._at
        due = since + self._settings.away_s
        self._core.add(due, self._is_away, self._away_too_long, worker_id, since)

    def _is_away(self, worker_id: str, since: float) -> bool:
        return self._away.get(worker_id) == since

    def _away_too_long(self, worker_id: str, _since: float) -> None:
        self.lose(worker_id, self._at, self._now)

    def _on_reports(self, event: Reports) -> Heeded:
        register = self._register
        refused = []
        for report in event.reports:
            attempt = register.attempts.get(report.fence)
            if attempt is None or attempt.worker_id != event.worker_id:
                refused.append(report.fence)
            elif isinstance(report, Started):
                if attempt.started_at is None:
                    self._start(attempt, report.started_at)
            else:
                self._on_ended(attempt, report)
        self._counted["refused"] += len(refused)
        return Heeded(tuple(refused)) if refused else _ALL_HEEDED

    def _start(self, attempt: Attempt, started_at: float) -> None:
        attempt.started_at = started_at
        attempt.element.trials = 0
        self._register.move(attempt.element, RUNNING, self._now)
        self._register.rows.append(attempt.row())

    def _on_ended(self, attempt: Attempt, report: Ended) -> None:
        """Nothing is left of the attempt: what follows for its task."""
        element = attempt.element
        cause = report.cause
        if cause is None and report.exit_code != 0:
            cause = Cause.EXIT
        ran = report.started_at is not None or cause not in _MAY_NOT_HAVE_RUN
        if attempt.started_at is None and ran:
            self._start(attempt, report.started_at or report.ended_at)
        if cause in (Cause.LOST, Cause.STOPPED, Cause.RETURNED) and not attempt.stopping:
            self._note_end(attempt, State.CANCELLED, cause, report)
            self._run_again(attempt, cause)
            return
        element.exit_code = report.exit_code
        element.error = report.error
        if attempt.stopping:
            self._note_end(attempt, State.CANCELLED, Cause.STOPPED, report)
            self._end(element, CANCELLED, Cause.STOPPED)
        elif cause is None:
            self._note_end(attempt, State.SUCCEEDED, None, report)
            self._end(element, SUCCEEDED, None)
        else:
            self._note_end(attempt, State.FAILED, cause, report)
            self._fail(element, cause)
        self._let_go(attempt)

    def _fail(self, element: Element, cause: Cause) -> None:
        """An attempt of it failed: it is backed off from, or that was the last one."""
        spec = element.task.spec
        element.cause = cause
        if cause is Cause.WORKER_FAILED:
            element.crashes += 1
            if element.crashes < spec.crash_limit:
                self._back_off(element, retry.worker_pause_s(element.crashes, self._draw))
            else:
                self._end(element, FAILED, cause)
            return
        element.failures += 1
        if retry.worth_it(spec.retry, element.failures, cause, element.exit_code):
            self._back_off(element, retry.pause_s(spec.retry, element.failures, self._draw))
        else:
            self._end(element, FAILED, cause)

    def _lose(self, attempt: Attempt) -> None:
        """Its worker is lost, or does not hold it: it runs again, elsewhere or there."""
        started = attempt.started_at is not None
        cause = Cause.LOST if started else Cause.RETURNED
        if started:
            self._register.effects.append(LogLost(**structs.asdict(_name(attempt))))
        self._note_end(attempt, State.CANCELLED, cause, None)
        self._run_again(attempt, cause)

    def _run_again(self, attempt: Attempt, cause: Cause) -> None:
        """The attempt came to nothing by no fault of the task (as far as anybody knows)."""
        element = attempt.element
        if attempt.stopping:
            self._end(element, CANCELLED, Cause.STOPPED)
        elif cause is Cause.RETURNED and element.code == SCHEDULED and element.trials:
            # Returned before: whoever returned it may do so again and again.
            element.trials += 1
            self._back_off(element, retry.worker_pause_s(element.trials, self._draw))
        else:
            element.trials += cause is Cause.RETURNED
            element.crashes += cause is Cause.LOST and attempt.started_at is not None
            if cause is Cause.LOST and element.crashes >= element.task.spec.crash_limit:
                element.error = f"Its worker was lost {element.crashes} times while it ran."
                self._end(element, FAILED, Cause.LOST)
            else:
                self._counted["requeued"] += 1
                self._queue_again(element)
        self._let_go(attempt)

    def _note_end(
        self, attempt: Attempt, state: State, cause: Cause | None, report: Ended | None
    ) -> None:
        """The attempt's last row."""
        row = attempt.row()
        if report is None:
            row = structs.replace(
                row,
                state=state,
                cause=cause,
                ended_at=self._now,
                log_lost=row.started_at is not None,
            )
        else:
            row = AttemptRow(
                row.job_id,
                row.task,
                row.idx,
                row.number,
                row.fence,
                row.worker_id,
                state,
                row.scheduled_at,
                report.started_at or row.started_at,
                report.ended_at or self._now,
                report.exit_code,
                cause,
                report.error,
                report.stdout_bytes,
                report.stderr_bytes,
                report.result_bytes,
                report.truncated,
                report.log_lost,
                report.cpu_s,
                report.max_rss_bytes,
                row.stopping,
            )
        self._register.rows.append(row)

    def _let_go(self, attempt: Attempt) -> None:
        self._register.let_go(attempt)
        self._seats.give_back(attempt.fence)

    def _stop(self, attempt: Attempt) -> None:
        """Have the worker stop it, if it can be told; else it is told when it says hello."""
        incarnation = self._seats.incarnation(attempt.worker_id)
        if incarnation is not None:
            grace_s = attempt.element.task.spec.grace_s
            self._register.effects.append(
                StopAttempt(attempt.worker_id, incarnation, attempt.fence, grace_s)
            )

    # What follows

    def _cascade(self) -> None:
        """Tasks that have ended release or skip their heirs, and jobs end with their last task."""
        ended = self._register.ended
        for task in ended:  # it grows while it is walked
            succeeded = task.counts[SUCCEEDED] == task.size
            for heir in task.heirs:
                if heir.ended:
                    continue
                heir.unmet -= 1
                if not succeeded and heir.spec.when == "all_succeeded":
                    self._skip(heir)
                elif heir.unmet == 0:
                    self._release(heir)
            job = task.job
            if job.ended and job.job_id in self._register.jobs:
                self._end_job(job)
        ended.clear()

    def _end_job(self, job: Job) -> None:
        register = self._register
        job.ended_at = self._now
        register.touch_job(job, anyhow=True)
        register.remove(job)
        self._tasks_live -= len(job.tasks)
        for code, state in enumerate(STATES):
            if state.value in self._ends:
                self._ends[state.value] += job.counts[code]
        self._tell(job)
        for heir_id in sorted(register.heirs.pop(job.job_id, ())):
            heir = register.jobs.get(heir_id)
            if heir is None or job.job_id not in heir.after:
                continue
            heir.after.discard(job.job_id)
            if job.state is not State.SUCCEEDED and heir.spec.when == "all_succeeded":
                self._skip_job(heir)
            else:
                self._take_up(heir)
        for past in list(islice(register.past.values(), 2)):  # two for one, if there were more
            if len(register.past) > self._settings.keep_jobs:
                self._forget(past)

    def _skip_job(self, job: Job) -> None:
        """A job that it comes after did not succeed."""
        job.after.clear()
        for task in job.tasks.values():
            self._skip(task)

    def _skip(self, task: Task) -> None:
        """An upstream did not succeed. (Then nothing of it was ever touched, but by a retry.)"""
        if task.rest_code() == PENDING:
            self._register.move_rest(task, SKIPPED, self._now, cause=Cause.UPSTREAM)
        for element in list(task.elements.values()):
            if element.code == PENDING:
                element.not_before = None
                self._end(element, SKIPPED, Cause.UPSTREAM)

    def _take_up(self, job: Job) -> None:
        """Begin or go on with a job: what may be queued is, the rest is waited for."""
        hopeless = []
        for task in job.tasks.values():
            if task.ended:
                continue
            needs = [job.tasks[need] for need in task.spec.needs]
            task.unmet = sum(not need.ended for need in needs)
            bad = any(need.ended and need.counts[SUCCEEDED] < need.size for need in needs)
            if bad and task.spec.when == "all_succeeded":
                hopeless.append(task)
        for task in hopeless:
            self._skip(task)
        self._wait_for_its_time(job)

    def _wait_for_its_time(self, job: Job) -> None:
        """Release the tasks that need nothing, when the job's time has come."""
        if job.after:
            return
        if job.under_way:
            job.waits_until = None  # whatever the clock says by now
        if job.waits_until is not None and job.waits_until > self._now:
            self._wall.add(job.waits_until, _waits_until, self._wait_for_its_time, job)
            return
        job.waits_until = None
        for task in job.tasks.values():
            if task.unmet == 0:
                self._release(task)

    def _release(self, task: Task) -> None:
        """All that its needs held back is queued."""
        if task.job.after or task.job.waits_until is not None:
            return
        if task.rest_code() == PENDING:
            task.queued_at = self._now
            self._register.move_rest(task, QUEUED, self._now)
            self._line_up_rest(task)
        for element in list(task.elements.values()):
            if element.code == PENDING and element.not_before is None:
                self._queue_again(element)

    def _line_up(self, task: Task) -> None:
        """After a restart: what was queued stands in line again, what backed off is waited for."""
        if task.rest_code() == QUEUED:
            self._line_up_rest(task)
        for element in task.elements.values():
            if element.code == QUEUED:
                self._line_up_element(element)
            elif element.code == PENDING and element.not_before is not None:
                self._await_backoff(element, element.not_before)

    def _line_up_rest(self, task: Task) -> None:
        self._lines.add(task)
        if task.spec.max_queue_s is not None and task.queued_at is not None:
            due = task.queued_at + task.spec.max_queue_s
            self._wall.add(due, _rest_waits_since, self._rest_waited_too_long, task, task.queued_at)

    def _line_up_element(self, element: Element) -> None:
        self._lines.add(element)
        most_s = element.task.spec.max_queue_s
        if most_s is not None and element.queued_at is not None:
            due = element.queued_at + most_s
            self._wall.add(due, _waits_since, self._waited_too_long, element, element.queued_at)

    def _queue_again(self, element: Element) -> None:
        element.queued_at = self._now
        self._register.move(element, QUEUED, self._now)
        self._line_up_element(element)

    def _back_off(self, element: Element, pause_s: float) -> None:
        element.not_before = self._now + pause_s
        self._register.move(element, PENDING, self._now, cause=element.cause)
        self._await_backoff(element, element.not_before)

    def _await_backoff(self, element: Element, not_before: float) -> None:
        self._wall.add(not_before, _backs_off, self._backoff_over, element, not_before)

    def _backoff_over(self, element: Element, _not_before: float) -> None:
        element.not_before = None
        self._queue_again(element)

    def _rest_waited_too_long(self, task: Task, _queued_at: float) -> None:
        self._register.move_rest(task, FAILED, self._now, cause=Cause.QUEUE_TIMEOUT)

    def _waited_too_long(self, element: Element, _queued_at: float) -> None:
        self._end(element, FAILED, Cause.QUEUE_TIMEOUT)

    def _end(self, element: Element, code: int, cause: Cause | None) -> None:
        element.cause = cause
        if cause is None:
            element.error = None
        self._register.move(element, code, self._now, cause=cause)

    # Dispatch

    def _dispatch(self) -> None:
        """Give slots to whose turn it is, until nothing fits or the step is long enough."""
        self._lines.open(self._seats.opened())
        self.hurries = False
        for _ in range(DISPATCH_MAX):
            line = self._lines.next()
            if line is None:
                return
            seat = self._seats.take(line.demand.tags)
            if seat is None:
                self._lines.shut(line.demand)
            else:
                self._assign(line.first(), seat)
        self.hurries = True

    def _assign(self, element: Element, seat: Seat) -> None:
        register = self._register
        task = element.task
        element.number += 1
        attempt = Attempt(element, seat.fence, seat.worker_id, self._now)
        register.hold(attempt)
        register.move(element, SCHEDULED, self._now)
        register.rows.append(attempt.row())
        self._counted["dispatched"] += 1
        self._await_start(attempt)
        register.effects.append(
            StartAttempt(
                seat.worker_id,
                seat.incarnation,
                seat.fence,
                task.job.job_id,
                task.name,
                element.shown_index,
                element.number,
                task.spec,
            )
        )

    def _await_start(self, attempt: Attempt) -> None:
        """The worker has it, and some time to start it."""
        attempt.start_by = due = self._at + attempt.element.task.spec.start_timeout_s
        self._core.add(due, _is_to_start_by, self._not_started, attempt, due)

    def _not_started(self, attempt: Attempt, _start_by: float) -> None:
        """It was not started in time: it is stopped and queued again.

        But not while the worker's channel is gone: it may have started, and nobody could tell.
        Then either its hello does, or it is lost.
        """
        if self._seats.incarnation(attempt.worker_id) is not None:
            self._stop(attempt)
            self._note_end(attempt, State.CANCELLED, Cause.RETURNED, None)
            self._run_again(attempt, Cause.RETURNED)

    # Memory

    def _forget_some(self) -> None:
        """Ended jobs are kept for a time; some that were kept so long are forgotten."""
        past = self._register.past
        oldest = list(islice(past.values(), FORGET_MAX))
        for one in oldest:
            if not self._kept_enough(one):
                break
            self._forget(one)
        self._lines.sweep()
        more = len(oldest) == FORGET_MAX and oldest[-1].job_id not in past
        pause_s = FORGET_AGAIN_S if more else FORGET_EVERY_S
        self._core.add(self._at + pause_s, _always, self._forget_some)

    def _kept_enough(self, past: Past) -> bool:
        """Whether the job that ended first need not be kept any longer."""
        settings = self._settings
        too_many = len(self._register.past) > settings.keep_jobs
        return too_many or past.ended_at + settings.keep_s <= self._now

    def _forget(self, past: Past) -> None:
        self._register.forget(past)
        self._register.effects.append(JobForgotten(past.job_id))

    # Look-ups

    def _queue(self, name: str) -> Queue:
        queue = self._lines.queues.get(name)
        if queue is None:
            known = ", ".join(sorted(self._lines.queues)[:10])
            raise NotFound(
                f"There is no queue {name[:80]!r}: expected one of {known}, or make it with "
                f"PUT /api/v1/queues/{name[:80]}.",
                code="unknown_queue",
            )
        return queue

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

    def _tell(self, job: Job) -> None:
        self._register.effects.append(
            TaskChanged(job.job_id, None, None, job.state, self._now, job.queue.name)
        )


_ALL_HEEDED: Final = Heeded()


# Whether what a timer was set for is still to be done


def _always() -> bool:
    return True


def _waits_until(job: Job) -> bool:
    return job.waits_until is not None and not job.ended


def _backs_off(element: Element, not_before: float) -> bool:
    return element.code == PENDING and element.not_before == not_before


def _waits_since(element: Element, queued_at: float) -> bool:
    return element.code == QUEUED and element.queued_at == queued_at


def _rest_waits_since(task: Task, queued_at: float) -> bool:
    return task.rest_code() == QUEUED and task.queued_at == queued_at


def _is_to_start_by(attempt: Attempt, start_by: float) -> bool:
    held = attempt.element.attempt is attempt
    return held and attempt.started_at is None and attempt.start_by == start_by


# Look-ups


def _ended_at(past: Past) -> tuple[float, int]:
    return past.ended_at, past.job_id


def _failed(past: Past | None, spec: model.JobSpec) -> bool:
    """Whether a job that this one comes after has ended so that it can't run."""
    if past is None or spec.when == "all_done":
        return False
    return past.state is not State.SUCCEEDED


def _name(attempt: Attempt) -> AttemptName:
    element = attempt.element
    return AttemptName(
        attempt.fence,
        element.task.job.job_id,
        element.task.name,
        element.shown_index,
        attempt.number,
    )


def _with_heirs(task: Task) -> list[Task]:
    """The task and all that come after it."""
    found = {task: None}
    for one in (queue := [task]):  # it grows while it is walked
        for heir in one.heirs:
            if heir not in found:
                found[heir] = None
                queue.append(heir)
    return list(found)


def _task(job: Job, name: str) -> Task:
    task = job.tasks.get(name)
    if task is None:
        raise _no_task(job.job_id, name)
    return task


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
