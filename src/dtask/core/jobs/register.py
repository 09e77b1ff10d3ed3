"""The live jobs and their attempts, the past ones in brief, and what of them is to be persisted.

All moves of tasks are made here, so that none is forgotten: each touches the rows that it changes
and tells whoever watches. `emit` turns what one event touched into rows, each once.
"""

from typing import Final

from dtask.core.jobs.events import TaskChanged
from dtask.core.jobs.job import CODES, ENDED, STATES, SUCCEEDED, Attempt, Element, Job, Task
from dtask.core.jobs.queues import Lines
from dtask.core.jobs.rows import Change, Forget, Past
from dtask.core.jobs.states import Cause, State

#: The specification of a job that is written again with each change of its state.
SPEC_CHARS_SMALL: Final = 16 * 1024

#: What `effects` of the job half are; see `events`.
Effect = object


class Register:
    """All that is known of jobs. Its owner is `Jobs`."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.jobs: dict[int, Job] = {}
        #: Those that ended and are kept, the one that ended first comes first.
        self.past: dict[int, Past] = {}
        #: Job by key, live or past.
        self.keys: dict[str, int] = {}
        self.last_job_id = 0
        #: Every attempt that a worker may hold, by fence, and by worker.
        self.attempts: dict[int, Attempt] = {}
        self.by_worker: dict[str, dict[int, Attempt]] = {}
        #: Live jobs by the jobs that they were submitted to come after, live or not.
        self.heirs: dict[int, set[int]] = {}
        #: What this event has brought about so far.
        self.rows: list[Change] = []
        self.effects: list[Effect] = []
        self._forgotten: list[Forget] = []
        #: Tasks that have ended in this event and whose heirs have not been told yet.
        self.ended: list[Task] = []
        self._elements: dict[Element, None] = {}
        self._tasks: dict[Task, None] = {}
        self._jobs: dict[Job, None] = {}

    def add(self, job: Job) -> None:
        """One more live job."""
        self.jobs[job.job_id] = job
        if job.key is not None:
            self.keys[job.key] = job.job_id
        for earlier in job.spec.after:
            self.heirs.setdefault(earlier, set()).add(job.job_id)

    def remove(self, job: Job) -> None:
        """It has ended: it is remembered in brief."""
        assert job.ended_at is not None
        queue = job.queue
        for code, count in enumerate(job.counts):
            queue.counts[code] -= count
        del self.jobs[job.job_id]
        for earlier in job.spec.after:
            heirs = self.heirs.get(earlier, set())
            heirs.discard(job.job_id)
            if not heirs:
                self.heirs.pop(earlier, None)
        self.past[job.job_id] = Past(job.job_id, job.state, job.key, job.digest, job.ended_at)

    def forget(self, past: Past) -> None:
        """A past job is kept no longer."""
        del self.past[past.job_id]
        self._forgotten.append(Forget(past.job_id))
        if past.key is not None and self.keys.get(past.key) == past.job_id:
            del self.keys[past.key]

    def hold(self, attempt: Attempt) -> None:
        """A worker may hold it from now on."""
        attempt.element.attempt = attempt
        self.attempts[attempt.fence] = attempt
        self.by_worker.setdefault(attempt.worker_id, {})[attempt.fence] = attempt

    def let_go(self, attempt: Attempt) -> None:
        """Nobody waits for it any more."""
        attempt.element.attempt = None
        del self.attempts[attempt.fence]
        its = self.by_worker[attempt.worker_id]
        del its[attempt.fence]
        if not its:
            del self.by_worker[attempt.worker_id]

    def move(self, element: Element, to: int, at: float, *, cause: Cause | None = None) -> None:
        """One element moves at `at`, epoch seconds."""
        task = element.task
        task.move(element.index, to)
        if to in ENDED:
            element.ended_at = at
            if task.ended:
                self.ended.append(task)
        self.touch(element)
        attempt = element.attempt
        self.effects.append(
            TaskChanged(
                task.job.job_id,
                task.name,
                element.shown_index,
                STATES[to],
                at,
                task.job.queue.name,
                element.number or None,
                attempt.worker_id if attempt is not None else None,
                element.exit_code,
                cause,
                element.error if cause is not None and cause is element.cause else None,
                queued_at=element.queued_at,
            )
        )

    def move_rest(self, task: Task, to: int, at: float, *, cause: Cause | None = None) -> int:
        """All untouched elements of a task move together; how many they are."""
        count = task.move_rest(to)
        if not count:
            return 0
        task.cause = cause
        if to in ENDED:
            task.ended_at = at
            if task.ended:
                self.ended.append(task)
        self.touch_task(task)
        self.effects.append(
            TaskChanged(
                task.job.job_id,
                task.name,
                None,
                STATES[to],
                at,
                task.job.queue.name,
                cause=cause,
                count=count,
            )
        )
        return count

    def touch(self, element: Element) -> None:
        """Its row, and its task's, are to be written."""
        self._elements[element] = None
        self.touch_task(element.task)

    def touch_task(self, task: Task) -> None:
        """The task's row is to be written, and its job's if that moves with it."""
        self._tasks[task] = None
        self.touch_job(task.job)

    def touch_job(self, job: Job, *, anyhow: bool = False) -> None:
        """The job's row is to be written, if its state has changed or `anyhow`."""
        if anyhow:
            job.shown = None
        self._jobs[job] = None

    def emit(self) -> tuple[tuple[Change, ...], tuple[Effect, ...]]:
        """The rows and effects of all that was touched since the last call."""
        rows = self.rows
        for element in self._elements:
            rows.append(element.row())
        for task in self._tasks:
            if task.is_array or not task.fresh:
                rows.append(task.row())
        for job in self._jobs:
            state = job.state
            if state is not job.shown and not _steps_back(job, state):
                job.shown = state
                rows.append(job.row())
        for element in self._elements:
            task = element.task
            if task.is_array and element.code == SUCCEEDED:
                task.elements.pop(element.index, None)  # its row tells all that anybody asks for
        rows += self._forgotten  # last: some may have ended in this very step
        self._forgotten.clear()
        self._elements.clear()
        self._tasks.clear()
        self._jobs.clear()
        changes, effects = tuple(rows), tuple(self.effects)
        rows.clear()
        self.effects.clear()
        return changes, effects


def _steps_back(job: Job, state: State) -> bool:
    """Whether the row of a huge job need not be written for this state.

    A row holds the whole specification. The summary of an array goes back and forth with each of
    its attempts; so a huge job's row only ever goes forward, and says `running` in between.
    """
    huge = len(job.raw) > SPEC_CHARS_SMALL
    return huge and job.shown is not None and CODES[state] < CODES[job.shown]
