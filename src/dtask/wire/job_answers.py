"""What is answered about jobs. Times are epoch seconds; what is not known is left out."""

from msgspec import Struct

from dtask.core.jobs.model import TaskSpec, When
from dtask.core.jobs.states import Cause, State


class SubmitAnswer(Struct, frozen=True):
    """The job is accepted, and survives whatever comes."""

    job_id: int
    #: It was submitted before, with the same key.
    known: bool


class CancelAnswer(Struct, frozen=True):
    """The cancel is under way."""

    job_id: int
    state: State
    #: Attempts that are still to be stopped.
    attempts: int


class RetryAnswer(Struct, frozen=True):
    """What did not succeed starts over."""

    job_id: int
    #: Tasks and elements that do.
    tasks: int


class Progress(Struct, frozen=True):
    """How many tasks and elements a job has, how many have ended, and how, but for success."""

    total: int
    ended: int
    failed: int
    cancelled: int = 0
    skipped: int = 0


class JobSummary(Struct, frozen=True, omit_defaults=True):
    """One job of `GET /api/v1/jobs`."""

    job_id: int
    name: str
    queue: str
    priority: int
    state: State
    submitted_at: float
    ended_at: float | None = None
    key: str | None = None
    #: A cancel was asked for.
    cancelled: bool = False
    #: Not told when too much would have to be looked at.
    tasks: Progress | None = None


class TaskSummary(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a task stands; of an array, all its elements together."""

    state: State
    #: As submitted; told with the tasks of a job of several.
    needs: list[str] = []
    when: When = "all_succeeded"
    #: Of an array: how many elements are in each state.
    counts: dict[State, int] | None = None
    #: Attempts so far; failures and losses since the submit or the last retry that was asked for.
    number: int = 0
    failures: int = 0
    crashes: int = 0
    #: Backing off until then.
    not_before: float | None = None
    queued_at: float | None = None
    #: Of the last attempt.
    worker_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    #: Negative for a signal.
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None


class JobAnswer(Struct, frozen=True, omit_defaults=True):
    """`GET /api/v1/jobs/{job_id}`."""

    job_id: int
    name: str
    queue: str
    priority: int
    state: State
    submitted_at: float
    tasks: dict[str, TaskSummary]
    ended_at: float | None = None
    key: str | None = None
    cancelled: bool = False


class AttemptAnswer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One run of a task or an element on one worker."""

    #: Where attempts of several tasks are told.
    task: str | None = None
    #: Of an array's element.
    index: int | None = None
    number: int
    fence: int
    worker_id: str
    #: `scheduled`, `running`, or how it ended.
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
    #: It wrote more than is kept.
    truncated: bool = False
    #: Some of its log was lost with its worker.
    log_lost: bool = False
    #: CPU seconds of all its processes, and the largest resident size of one.
    cpu_s: float | None = None
    max_rss_bytes: int | None = None


class TaskAnswer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`GET /api/v1/jobs/{job_id}/tasks/{task}`: `summary` with the spec and the last attempts."""

    job_id: int
    task: str
    summary: TaskSummary
    #: As it was submitted.
    spec: TaskSpec
    #: The newest first, 10 at most.
    attempts: list[AttemptAnswer]


class ElementAnswer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One element of an array."""

    index: int
    state: State
    number: int = 0
    failures: int = 0
    crashes: int = 0
    not_before: float | None = None
    queued_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None


class ElementsAnswer(Struct, frozen=True, omit_defaults=True):
    """A page of `GET /api/v1/jobs/{job_id}/tasks/{task}/elements`."""

    elements: list[ElementAnswer]
    #: There may be more: ask with `after` set to this.
    after: int | None = None


class StatesAnswer(Struct, frozen=True):
    """`GET /api/v1/jobs/{job_id}/tasks/{task}/states`: elements counted in spans."""

    #: Of the whole array.
    elements: int
    #: The index of the first that was counted, and how many a span has; the last may have fewer.
    first: int
    every: int
    #: By state how many elements of each span are in it; states that none is in are left out.
    states: dict[State, list[int]]


class EventAnswer(Struct, frozen=True, omit_defaults=True):
    """The data of one event of `GET /api/v1/events`: a task, an element or a job moved."""

    job_id: int
    state: State
    at: float
    queue: str
    #: Not of a job's event.
    task: str | None = None
    index: int | None = None
    #: Of the attempt that brought this about.
    number: int | None = None
    worker_id: str | None = None
    exit_code: int | None = None
    cause: Cause | None = None
    error: str | None = None


class BlobAnswer(Struct, frozen=True):
    """The blob is there."""

    sha256: str
    bytes: int


class FailureGroup(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Tasks and elements that failed alike."""

    job_name: str
    task: str
    cause: Cause | None
    exit_code: int | None = None
    error: str | None = None
    #: Tasks and elements.
    count: int
    #: The newest first, some at most.
    jobs: list[int]
    last_at: float


class FailuresAnswer(Struct, frozen=True):
    """`GET /api/v1/failures`."""

    #: The one that failed last comes first.
    groups: list[FailureGroup]
    #: False: there is more than was looked at.
    complete: bool
