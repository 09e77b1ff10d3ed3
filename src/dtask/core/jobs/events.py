"""What happens to the job half, what it answers, and what the shell is told to do.

Values only. Events go into `Cluster.handle(event, now)`. The Step's changes are rows to persist;
its answer and its effects are released once they are durable, and may be repeated: whoever
receives them knows an attempt by its fence.

Names of one thing: (job_id, task, index); the index is None for a plain task. An attempt is also
known by its fence alone, which no other attempt ever has.
"""

from typing import Literal

from msgspec import Struct

from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.core.jobs.rows import JobRecord
from dtask.core.jobs.states import Cause, State

#: Which tasks an explicit retry starts over: all that did not succeed, or those that failed and
#: what was skipped because of them.
Again = Literal["unsuccessful", "failed"]


# What clients ask for


class Submit(Struct, frozen=True):
    """A job. Answer: Submitted. Raises InvalidRequest, NotFound, Conflict or Busy."""

    spec: JobSpec
    #: The spec as JSON, to be kept.
    raw: str
    #: Of the body without its key, to tell a repeated submit from another with the same key.
    digest: str
    key: str | None = None


class Cancel(Struct, frozen=True):
    """Stop a job or one task of it, elements included. Answer: Stopping.

    Raises NotFound, or Conflict if the job has ended.
    """

    job_id: int
    task: str | None = None


class RetryJob(Struct, frozen=True):
    """Start over what did not succeed. Answer: Retried. Raises NotFound or Conflict.

    A job that ended is not in memory: then `record` brings it back. If it is needed, and missing
    or of another end than the last, the answer is NeedsRecord, and nothing has happened.
    """

    job_id: int
    again: Again = "unsuccessful"
    task: str | None = None
    record: JobRecord | None = None


class SetQueue(Struct, frozen=True):
    """Make or change a queue; None leaves a setting as it is. Answer: QueueView.

    `max_running` and `max_queued` of 0 mean no limit.
    """

    name: str
    max_running: int | None = None
    max_queued: int | None = None
    weight: float | None = None
    paused: bool | None = None


class ListQueues(Struct, frozen=True):
    """Answer: a list of QueueView by name, or of the one named. Raises NotFound."""

    name: str | None = None


class Explain(Struct, frozen=True):
    """Why does this wait? Answer: Why. Raises NotFound, or Conflict if the job has ended."""

    job_id: int
    task: str | None = None
    index: int | None = None


class Look(Struct, frozen=True):
    """Does the job live? Answer: its State, ended or not. Raises NotFound.

    What the answer promises once it is released: the store knows everything up to now.
    """

    job_id: int


class CountJobs(Struct, frozen=True):
    """Answer: Stats."""


class CountTasks(Struct, frozen=True):
    """Answer: TaskCounts."""


class ListMisfits(Struct, frozen=True):
    """What waits that no worker could take, were it idle? Answer: a list of Misfit."""

    #: At most so many.
    limit: int


class ListHeld(Struct, frozen=True):
    """Which attempts does this worker hold? Answer: a list of AttemptName, by fence."""

    worker_id: str


# What workers say


class HeldAttempt(Struct, frozen=True, gc=False):
    """An attempt that a worker holds, or whose end it has not been told to forget."""

    fence: int
    started: bool


class Attach(Struct, frozen=True):
    """A worker's channel is open, and this is all it holds. Answer: Attached.

    Raises NotFound or Conflict if no heartbeat of this life has been taken in, Denied if the
    worker is not trusted.
    """

    worker_id: str
    incarnation: str
    held: tuple[HeldAttempt, ...] = ()
    #: The shell's number of this connection: a later one replaces those before.
    connection: int = 0


class Detached(Struct, frozen=True):
    """This connection of the worker is gone. Answer: None. Nothing happens if it was replaced."""

    worker_id: str
    connection: int = 0


class Started(Struct, frozen=True, gc=False):
    """The attempt's process runs."""

    fence: int
    #: Epoch seconds, by the worker's clock.
    started_at: float


class Ended(Struct, frozen=True, gc=False):
    """Nothing is left of the attempt's process tree, and its log has arrived."""

    fence: int
    #: None if there was no process, or its end was not seen.
    exit_code: int | None
    #: Why it ended other than by itself; None if it did.
    cause: Cause | None = None
    error: str | None = None
    started_at: float | None = None
    ended_at: float = 0.0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    result_bytes: int = 0
    truncated: bool = False
    log_lost: bool = False
    cpu_s: float | None = None
    max_rss_bytes: int | None = None


class Reports(Struct, frozen=True):
    """What a worker says of its attempts, in order. Answer: Heeded.

    A report of an attempt that is not the worker's any more is refused: it changes nothing, and
    the attempt is stopped.
    """

    worker_id: str
    incarnation: str
    reports: tuple[Started | Ended, ...]


# Answers


class Submitted(Struct, frozen=True):
    """The job is accepted."""

    job_id: int
    #: It was submitted before, with the same key.
    known: bool = False


class Stopping(Struct, frozen=True):
    """The cancel is under way: how many attempts are still to be stopped."""

    job_id: int
    state: State
    attempts: int


class Retried(Struct, frozen=True):
    """How many tasks and elements start over."""

    job_id: int
    tasks: int


class NeedsRecord(Struct, frozen=True):
    """The job has ended: ask again with its record."""

    job_id: int


class QueueView(Struct, frozen=True):
    """A queue and what stands in it."""

    name: str
    max_running: int | None
    max_queued: int | None
    weight: float
    paused: bool
    pending: int
    queued: int
    #: Attempts on workers.
    running: int
    #: Epoch seconds when that one was queued which has waited longest for a slot.
    oldest_queued_at: float | None = None


class Misfit(Struct, frozen=True):
    """Requirements that no worker meets which jobs can run on."""

    tags: tuple[str, ...]
    #: The task, or the element, that stands first with them.
    job_id: int
    name: str


class Reason(Struct, frozen=True):
    """Why one task, or a group of elements in the same position, stands where it does."""

    #: `42/train`, `42/tile[7]`, or the array.
    name: str
    state: State
    #: A stable word: needs, not_before, backoff, paused, queue_limit, no_worker, full, turn,
    #: starting, running, stopping, after.
    code: str
    #: For people.
    sentence: str
    #: Elements that it holds for; 1 for a plain task.
    count: int = 1
    #: Epoch seconds when that changes by itself, if that is known.
    until: float | None = None
    #: For `no_worker`: how many workers miss what, and near misses of tags.
    facts: dict[str, object] = {}


class Why(Struct, frozen=True):
    """Everything of a job that has not ended, and why."""

    job_id: int
    state: State
    reasons: tuple[Reason, ...]


class AttemptName(Struct, frozen=True, gc=False):
    """Which attempt a fence stands for."""

    fence: int
    job_id: int
    task: str
    index: int | None
    number: int


class Attached(Struct, frozen=True):
    """The channel is heard from now on."""

    #: Those held that go on.
    kept: tuple[AttemptName, ...]
    #: Fences held that nobody waits for: to be stopped and forgotten.
    refused: tuple[int, ...]


class Heeded(Struct, frozen=True):
    """Fences that were refused, and are to be stopped and forgotten."""

    refused: tuple[int, ...] = ()


class Stats(Struct, frozen=True):
    """Counts of now, and since the start."""

    #: Tasks and elements of jobs that have not ended, by state.
    tasks: dict[str, int]
    #: Jobs that have not ended, and those that are kept though they have.
    jobs: int
    past: int
    #: Workers whose channel is attached.
    attached: int
    #: Since the start.
    submitted: int
    dispatched: int
    ended: dict[str, int]
    requeued: int
    refused: int


class QueueCounts(Struct, frozen=True):
    """How many tasks and elements of a queue's jobs stand how."""

    name: str
    pending: int
    queued: int
    scheduled: int
    running: int
    #: Epoch seconds when that one was queued which has waited longest for a slot.
    oldest_queued_at: float | None


class TaskCounts(Struct, frozen=True):
    """What there is of jobs now: those that have not ended, those kept though they have."""

    jobs: int
    past: int
    queues: tuple[QueueCounts, ...]


# Effects


class ChannelOpened(Struct, frozen=True):
    """The worker's hello was heeded.

    Effects before this one were for an earlier connection of it, and came too late; those after
    it are for this one.
    """

    worker_id: str
    incarnation: str
    connection: int


class StartAttempt(Struct, frozen=True):
    """Send the worker an attempt to start."""

    worker_id: str
    incarnation: str
    fence: int
    job_id: int
    task: str
    index: int | None
    number: int
    spec: TaskSpec


class StopAttempt(Struct, frozen=True):
    """Tell the worker to stop an attempt, its whole tree."""

    worker_id: str
    incarnation: str
    fence: int
    grace_s: float


class CloseChannel(Struct, frozen=True):
    """The worker is lost: whoever is at the other end must say hello again."""

    worker_id: str
    incarnation: str


class TaskChanged(Struct, frozen=True, gc=False):
    """A task, an element or (task None) a job moved; for whoever watches."""

    job_id: int
    task: str | None
    index: int | None
    state: State
    at: float
    queue: str
    #: Of the attempt that brought this about.
    number: int | None = None
    worker_id: str | None = None
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None
    #: How many elements moved, and when the one was queued that did.
    count: int = 1
    queued_at: float | None = None


class StartedOver(Struct, frozen=True):
    """The jobs have been read from the store again.

    What had not been released before may have happened all the same, and nobody was told: who
    waits for news looks anew.
    """


class JobForgotten(Struct, frozen=True):
    """A job is kept no longer: its logs and results can go."""

    job_id: int
