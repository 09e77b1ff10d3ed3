"""What is persisted: rows of five tables, each named by its key. The changes of a Step are these.

A change is always a whole row, and a later row of the same key replaces an earlier one. So a store
is a set of keyed tables; several steps that are committed together write each key once; and a step
that is written twice does no harm.
"""

from typing import ClassVar, Final

from msgspec import Struct

from dtask.core.jobs.states import Cause, State

#: The index that stands for a plain task, and for an array as a whole.
WHOLE: Final = -1


class JobRow(Struct, frozen=True, gc=False, array_like=True):
    """One job."""

    table: ClassVar[str] = "job"

    job_id: int
    name: str
    queue: str
    priority: int
    #: The client's, to make a repeated submit harmless; None if it gave none.
    key: str | None
    #: Of the body, to tell a repeated submit from another one with the same key.
    digest: str
    state: State
    #: Epoch seconds.
    submitted_at: float
    ended_at: float | None
    #: `cancel` was asked for.
    cancelled: bool
    #: The JobSpec as JSON.
    spec: str

    @property
    def key_of(self) -> tuple[int]:
        """Its primary key."""
        return (self.job_id,)


class TaskRow(Struct, frozen=True, gc=False, array_like=True):
    """One task, or one element of an array that is not as fresh as it was submitted."""

    table: ClassVar[str] = "task"

    job_id: int
    task: str
    #: WHOLE, or the element's.
    idx: int
    #: Of an array as a whole: the summary.
    state: State
    #: Of an array as a whole: where the elements stand that have no row of their own.
    rest: State | None
    #: Of an array as a whole: {state: how many}, as JSON.
    counts: str | None
    #: Attempts so far; the last one has this number.
    number: int = 0
    #: Failures since the submit or the last explicit retry, and losses of a worker.
    failures: int = 0
    crashes: int = 0
    #: Epoch seconds: backing off until then.
    not_before: float | None = None
    #: Epoch seconds when it was last queued, and when it ended.
    queued_at: float | None = None
    ended_at: float | None = None
    #: Of the last attempt that ended by itself; negative for a signal.
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None

    @property
    def key_of(self) -> tuple[int, str, int]:
        """Its primary key."""
        return (self.job_id, self.task, self.idx)


class AttemptRow(Struct, frozen=True, gc=False, array_like=True):
    """One run of a task or element on one worker."""

    table: ClassVar[str] = "attempt"

    job_id: int
    task: str
    idx: int
    number: int
    fence: int
    worker_id: str
    #: SCHEDULED, RUNNING, or how it ended: SUCCEEDED, FAILED or CANCELLED.
    state: State
    scheduled_at: float
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    result_bytes: int = 0
    #: A stream was cut at its cap.
    truncated: bool = False
    #: Some of the log never arrived: its worker was lost with it.
    log_lost: bool = False
    #: CPU seconds of the process tree, and the largest resident size of one process.
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    #: A cancel was asked for: however it ends, it is cancelled.
    stopping: bool = False

    @property
    def key_of(self) -> tuple[int, str, int, int]:
        """Its primary key."""
        return (self.job_id, self.task, self.idx, self.number)


class QueueRow(Struct, frozen=True, gc=False, array_like=True):
    """One queue."""

    table: ClassVar[str] = "queue"

    name: str
    #: Attempts at a time, and queued tasks at a time; None: no limit.
    max_running: int | None
    max_queued: int | None
    weight: float
    paused: bool

    @property
    def key_of(self) -> tuple[str]:
        """Its primary key."""
        return (self.name,)


class Forget(Struct, frozen=True, gc=False):
    """Delete a job and all rows of its tasks and attempts."""

    job_id: int


Row = JobRow | TaskRow | AttemptRow | QueueRow
Change = Row | Forget


class JobRecord(Struct, frozen=True):
    """All that is kept of a job, but for the attempts that ended."""

    job: JobRow
    tasks: list[TaskRow]
    #: Attempts in state SCHEDULED or RUNNING.
    live: list[AttemptRow]


class Past(Struct, frozen=True, gc=False):
    """What the core remembers of a job that ended."""

    job_id: int
    state: State
    key: str | None
    digest: str
    ended_at: float


class Snapshot(Struct, frozen=True):
    """All that a scheduler needs to go on."""

    cluster_id: str
    queues: list[QueueRow]
    #: Jobs that have not ended, by id.
    jobs: list[JobRecord]
    #: The others, by id.
    past: list[Past]
    #: The highest job id and fence ever stored; 0 if there was none.
    last_job_id: int
    last_fence: int
