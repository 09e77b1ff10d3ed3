"""Jobs that have not ended, as they stand in memory.

An array of a million elements is not a million objects. It has one byte of state an element, and
an `Element` only for those that were touched: that run, back off, or did not succeed. Elements
are dispatched in the order of their index, so that those never touched are the range from `fresh`
to the end; they all stand in the same state, and move together.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from dtask.core.jobs import model
from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.core.jobs.names import attempt_text
from dtask.core.jobs.rows import WHOLE, AttemptRow, JobRow, TaskRow
from dtask.core.jobs.states import ENDS, MOVES, Cause, State

if TYPE_CHECKING:
    from dtask.core.jobs.queues import Queue

#: A state is one byte in an array: its place in this list.
STATES: Final = tuple(State)
CODES: Final = {state: code for code, state in enumerate(STATES)}

PENDING: Final = CODES[State.PENDING]
QUEUED: Final = CODES[State.QUEUED]
SCHEDULED: Final = CODES[State.SCHEDULED]
RUNNING: Final = CODES[State.RUNNING]
SUCCEEDED: Final = CODES[State.SUCCEEDED]
FAILED: Final = CODES[State.FAILED]
CANCELLED: Final = CODES[State.CANCELLED]
SKIPPED: Final = CODES[State.SKIPPED]

#: By code: the codes that may follow.
_LEGAL: Final = tuple(frozenset(CODES[to] for to in MOVES[state]) for state in STATES)
ENDED: Final = frozenset(CODES[state] for state in ENDS)


#: Each empty set would take 216 bytes, in every job.
NO_JOBS: Final[frozenset[int]] = frozenset()


class Attempt:
    """One run of an element on one worker, as long as the worker may hold it."""

    __slots__ = (
        "element",
        "fence",
        "number",
        "scheduled_at",
        "seated",
        "start_by",
        "started_at",
        "stopping",
        "worker_id",
    )

    def __init__(self, element: "Element", fence: int, worker_id: str, scheduled_at: float) -> None:
        self.element = element
        self.fence = fence
        self.worker_id = worker_id
        self.number = element.number
        #: Epoch seconds.
        self.scheduled_at = scheduled_at
        self.started_at: float | None = None
        #: Core time when the worker must have started it; holds until it has.
        self.start_by = 0.0
        #: A slot of its worker is held for it. Not after a restart, until the worker says hello.
        self.seated = True
        #: A cancel was asked for: however it ends, it is cancelled.
        self.stopping = False

    def row(self) -> AttemptRow:
        """As it stands now."""
        task = self.element.task
        started = self.started_at is not None
        return AttemptRow(
            task.job.job_id,
            task.name,
            self.element.idx,
            self.number,
            self.fence,
            self.worker_id,
            State.RUNNING if started else State.SCHEDULED,
            self.scheduled_at,
            self.started_at,
            stopping=self.stopping,
        )


class Element:
    """A plain task, or an element of an array, that was touched."""

    __slots__ = (
        "attempt",
        "cause",
        "crashes",
        "ended_at",
        "error",
        "exit_code",
        "failures",
        "index",
        "not_before",
        "number",
        "queued_at",
        "task",
        "trials",
    )

    def __init__(self, task: "Task", index: int) -> None:
        self.task = task
        #: 0 for a plain task.
        self.index = index
        #: Attempts so far.
        self.number = 0
        #: Failures, and losses of a worker, since the submit or the last explicit retry.
        self.failures = 0
        self.crashes = 0
        #: Times in a row that it was returned unstarted.
        self.trials = 0
        #: Epoch seconds: backing off until then; last queued; ended.
        self.not_before: float | None = None
        self.queued_at: float | None = None
        self.ended_at: float | None = None
        #: Of the last attempt that ended by itself.
        self.exit_code: int | None = None
        self.cause: Cause | None = None
        self.error: str | None = None
        #: The attempt that a worker may hold.
        self.attempt: Attempt | None = None

    @property
    def idx(self) -> int:
        """The index in its rows."""
        return self.index if self.task.is_array else WHOLE

    @property
    def shown_index(self) -> int | None:
        """The index that others see: None for a plain task."""
        return self.index if self.task.is_array else None

    @property
    def code(self) -> int:
        """Its state."""
        return self.task.states[self.index]

    def __str__(self) -> str:
        return attempt_text(self.task.job.job_id, self.task.name, self.shown_index)

    def row(self) -> TaskRow:
        """As it stands now. (A plain task's; an array as a whole has `Task.row`.)"""
        return TaskRow(
            self.task.job.job_id,
            self.task.name,
            self.idx,
            STATES[self.code],
            None,
            None,
            self.number,
            self.failures,
            self.crashes,
            self.not_before,
            self.queued_at,
            self.ended_at,
            self.exit_code,
            self.cause,
            self.error,
        )

    def take(self, row: TaskRow) -> None:
        """Take over what a row remembers."""
        self.number = row.number
        self.failures = row.failures
        self.crashes = row.crashes
        self.not_before = row.not_before
        self.queued_at = row.queued_at
        self.ended_at = row.ended_at
        self.exit_code = row.exit_code
        self.cause = row.cause
        self.error = row.error


class Task:
    """One task of a live job."""

    __slots__ = (
        "cause",
        "counts",
        "elements",
        "ended_at",
        "fresh",
        "heirs",
        "is_array",
        "job",
        "name",
        "place",
        "queued_at",
        "size",
        "spec",
        "states",
        "tags",
        "unmet",
    )

    def __init__(self, job: "Job", name: str, place: int, spec: TaskSpec) -> None:
        self.job = job
        self.name = name
        #: Its place in the job's order: earlier ones are dispatched first.
        self.place = place
        self.spec = spec
        self.is_array = spec.array is not None
        self.size = model.size(spec)
        #: The requirements, each once and sorted: equal lists are one demand.
        self.tags = tuple(sorted(set(spec.tags))) if len(spec.tags) > 1 else spec.tags
        self.states = bytearray(self.size)
        self.counts = [0] * len(STATES)
        self.counts[PENDING] = self.size
        #: The first element that was never touched. All from here on stand in one state.
        self.fresh = 0
        self.elements: dict[int, Element] = {}
        #: Needs that have not ended.
        self.unmet = 0
        #: Tasks that need this one.
        self.heirs: list[Task] = []
        #: Of the elements never touched: when they were queued, ended, and why they failed.
        self.queued_at: float | None = None
        self.ended_at: float | None = None
        self.cause: Cause | None = None

    @property
    def ended(self) -> bool:
        """Whether all elements have."""
        counts = self.counts
        return not (counts[PENDING] or counts[QUEUED] or counts[SCHEDULED] or counts[RUNNING])

    @property
    def state(self) -> State:
        """Of a plain task its state; of an array the summary."""
        return summary(self.counts)

    @property
    def rest(self) -> int:
        """How many elements were never touched."""
        return self.size - self.fresh

    def element(self, index: int) -> Element:
        """The element, touched from now on if it is the first that was not."""
        element = self.elements.get(index)
        if element is None:
            element = self.elements[index] = Element(self, index)
            if index == self.fresh:
                self.fresh += 1
                element.queued_at = self.queued_at
        return element

    def move(self, index: int, to: int) -> None:
        """One element moves."""
        came = self.states[index]
        assert to in _LEGAL[came], f"{self} [{index}]: {STATES[came]} -> {STATES[to]}"
        self.states[index] = to
        for counts in (self.counts, self.job.counts, self.job.queue.counts):
            counts[came] -= 1
            counts[to] += 1

    def move_rest(self, to: int) -> int:
        """All that were never touched move together; how many that were."""
        count = self.size - self.fresh
        if not count:
            return 0
        came = self.states[self.fresh]
        assert to in _LEGAL[came], f"{self}: {STATES[came]} -> {STATES[to]}"
        self.states[self.fresh :] = bytes((to,)) * count
        for counts in (self.counts, self.job.counts, self.job.queue.counts):
            counts[came] -= count
            counts[to] += count
        return count

    def rest_code(self) -> int | None:
        """The state of those that were never touched; None if there are none."""
        return self.states[self.fresh] if self.fresh < self.size else None

    def check(self) -> None:
        """Assert that states, counts, elements and attempts agree."""
        assert self.counts == [self.states.count(code) for code in range(len(STATES))], self
        assert len(set(self.states[self.fresh :])) <= 1, self
        for index, element in self.elements.items():
            assert element.index == index < self.fresh, element
            assert (element.attempt is not None) == (element.code in (SCHEDULED, RUNNING)), element
            assert element.not_before is None or element.code == PENDING, element
        for index in range(self.fresh):
            assert index in self.elements or self.states[index] == SUCCEEDED, (str(self), index)
        if self.counts[QUEUED] + self.counts[SCHEDULED] + self.counts[RUNNING]:
            assert not self.job.after, self
            if self.spec.when == "all_succeeded":  # else an explicit retry may overtake it
                assert self.unmet == 0, self
                needs = [self.job.tasks[need] for need in self.spec.needs]
                assert all(need.counts[SUCCEEDED] == need.size for need in needs), self

    def __str__(self) -> str:
        return attempt_text(self.job.job_id, self.name, None)

    def row(self) -> TaskRow:
        """The task as a whole, as it stands now."""
        if not self.is_array and self.fresh:
            return self.elements[0].row()
        code = self.rest_code()
        return TaskRow(
            self.job.job_id,
            self.name,
            WHOLE,
            self.state,
            STATES[code] if code is not None and self.is_array else None,
            _counts_text(self.counts) if self.is_array else None,
            queued_at=self.queued_at,
            ended_at=self.ended_at,
            cause=self.cause,
        )


class Job:
    """One live job."""

    __slots__ = (
        "after",
        "cancelled",
        "counts",
        "digest",
        "ended_at",
        "job_id",
        "key",
        "queue",
        "raw",
        "shown",
        "spec",
        "submitted_at",
        "tasks",
        "waits_until",
    )

    def __init__(self, job_id: int, spec: JobSpec, queue: "Queue", submitted_at: float) -> None:
        self.job_id = job_id
        self.spec = spec
        self.queue = queue
        self.key: str | None = None
        self.digest = ""
        #: The spec as JSON.
        self.raw = ""
        #: Epoch seconds.
        self.submitted_at = submitted_at
        self.ended_at: float | None = None
        self.cancelled = False
        #: The state in its row; None if that must be written.
        self.shown: State | None = None
        #: Jobs that come first and have not ended.
        self.after = NO_JOBS
        #: Epoch seconds of `not_before`, until it has come.
        self.waits_until = spec.not_before
        self.counts = [0] * len(STATES)
        self.tasks: dict[str, Task] = {}
        for place, (name, task) in enumerate(spec.tasks.items()):
            self.tasks[name] = Task(self, name, place, task)
            self.counts[PENDING] += self.tasks[name].size
        queue.counts[PENDING] += self.counts[PENDING]
        for task_ in self.tasks.values():
            task_.unmet = len(task_.spec.needs)
            for need in task_.spec.needs:
                self.tasks[need].heirs.append(task_)

    @property
    def state(self) -> State:
        """The summary of its tasks."""
        return summary(self.counts)

    @property
    def ended(self) -> bool:
        """Whether all tasks have."""
        counts = self.counts
        return not (counts[PENDING] or counts[QUEUED] or counts[SCHEDULED] or counts[RUNNING])

    @property
    def under_way(self) -> bool:
        """Whether any task is beyond waiting: then the job waits for no other, and for no time.

        If its time has come and it has not ended, then something of it is queued, held or backs
        off: so this can be told from its rows alone.
        """
        counts = self.counts
        return bool(counts[QUEUED] or counts[SCHEDULED] or counts[RUNNING]) or any(
            element.not_before is not None
            for task in self.tasks.values()
            for element in task.elements.values()
        )

    def check(self) -> None:
        """Assert that all counts and states of its tasks agree."""
        totals = [0] * len(STATES)
        for task in self.tasks.values():
            task.check()
            for code, count in enumerate(task.counts):
                totals[code] += count
        assert totals == self.counts, self.job_id

    def row(self) -> JobRow:
        """As it stands now."""
        return JobRow(
            self.job_id,
            self.spec.name,
            self.queue.name,
            self.spec.priority,
            self.key,
            self.digest,
            self.state,
            self.submitted_at,
            self.ended_at,
            self.cancelled,
            self.raw,
        )


def summary(counts: list[int]) -> State:
    """One state for many: what goes on, or how it all ended."""
    for code in (RUNNING, SCHEDULED, QUEUED, PENDING, FAILED, CANCELLED, SUCCEEDED):
        if counts[code]:
            return STATES[code]
    return State.SKIPPED


def _counts_text(counts: list[int]) -> str:
    shown = {STATES[code]: count for code, count in enumerate(counts) if count}
    return msgspec.json.encode(shown).decode()
