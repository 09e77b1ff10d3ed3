"""What a user submits: a job of tasks. The body of `POST /jobs`, and of a job file.

One definition for the wire, the files, the store and the core: msgspec decodes and checks what
one value can show, `graph.check` what takes the whole.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

#: Limits of one job.
TASKS_MAX: Final = 10_000
ELEMENTS_MAX: Final = 1_000_000
NEEDS_MAX: Final = 1_000
COMMAND_WORDS_MAX: Final = 1_000
WORD_CHARS_MAX: Final = 32 * 1024
ENV_MAX: Final = 256
FILES_MAX: Final = 256
TAGS_MAX: Final = 64
NAME_CHARS_MAX: Final = 200
KEY_CHARS_MAX: Final = 128
AFTER_MAX: Final = 1_000
RETRIES_MAX: Final = 1_000

#: Priorities: higher first.
PRIORITY_MAX: Final = 100

#: Thirty days, the longest of any duration here; a backoff is a day at most.
DURATION_S_MAX: Final = 30 * 86_400.0
BACKOFF_S_MAX: Final = 86_400.0

#: How often a task may be lost while it runs before it is given up: it may be what kills workers.
CRASH_LIMIT: Final = 5
#: Seconds between SIGTERM and SIGKILL.
GRACE_S: Final = 10.0
#: Seconds in which a worker must start what it was given.
START_TIMEOUT_S: Final = 10.0
#: The queue of jobs that name none.
DEFAULT_QUEUE: Final = "default"

Word = Annotated[str, Meta(max_length=WORD_CHARS_MAX)]
Seconds = Annotated[float, Meta(gt=0, le=DURATION_S_MAX)]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
When = Literal["all_succeeded", "all_done"]


class Retry(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """When a failed task runs again."""

    #: Failures after which it does.
    max: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] = 0
    #: Bound of the first pause; it doubles with each failure, and the pause is drawn between 0
    #: and it (full jitter).
    backoff_s: Annotated[float, Meta(ge=0, le=BACKOFF_S_MAX)] = 1.0
    #: The bound never grows above this.
    backoff_max_s: Annotated[float, Meta(ge=0, le=BACKOFF_S_MAX)] = 600.0
    #: Exit codes worth a retry; empty: any failure.
    on_exit: Annotated[tuple[Annotated[int, Meta(ge=-64, le=255)], ...], Meta(max_length=256)] = ()


class TaskSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One task."""

    command: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=COMMAND_WORDS_MAX)]
    #: Requirements that the worker must meet, as in `required_tags`.
    tags: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=TAGS_MAX)
    ] = ()
    #: How many elements, or the item of each. `{}` in the command stands for the item (of a
    #: count: the index), and so does DTASK_ITEM.
    array: (
        Annotated[int, Meta(ge=1, le=ELEMENTS_MAX)]
        | Annotated[tuple[Word, ...], Meta(min_length=1, max_length=ELEMENTS_MAX)]
        | None
    ) = None
    #: Tasks of the same job that come first.
    needs: Annotated[tuple[str, ...], Meta(max_length=NEEDS_MAX)] = ()
    #: Whether it runs after needs that did not succeed.
    when: When = "all_succeeded"
    retry: Retry = Retry()
    #: Losses of its worker after a reported start after which it fails.
    crash_limit: Annotated[int, Meta(ge=1, le=RETRIES_MAX)] = CRASH_LIMIT
    #: Seconds one attempt may run; None: as long as it likes.
    timeout_s: Seconds | None = None
    #: Seconds it may be queued; None: as long as it takes.
    max_queue_s: Seconds | None = None
    #: Seconds a worker has to start it.
    start_timeout_s: Seconds = START_TIMEOUT_S
    #: Seconds between SIGTERM and SIGKILL.
    grace_s: Annotated[float, Meta(ge=0, le=3600)] = GRACE_S
    env: Annotated[dict[str, Word], Meta(max_length=ENV_MAX)] = {}
    #: Blobs put into the working directory before the start, by relative name.
    files: Annotated[dict[str, Digest], Meta(max_length=FILES_MAX)] = {}
    #: Blob that is its standard input; None: empty.
    stdin: Digest | None = None
    #: Where it runs; None: a directory of the attempt's own.
    cwd: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    #: Limits of its process tree, held by the kernel where that can be had.
    cpus: Annotated[float, Meta(gt=0, le=4096)] | None = None
    memory_mb: Annotated[int, Meta(ge=1, le=16_777_216)] | None = None


class JobSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One job."""

    tasks: Annotated[dict[str, TaskSpec], Meta(min_length=1, max_length=TASKS_MAX)]
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)] = ""
    queue: str = DEFAULT_QUEUE
    priority: Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    #: Jobs that come first; they must be known.
    after: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(max_length=AFTER_MAX)] = ()
    #: Whether it runs after jobs that did not succeed.
    when: When = "all_succeeded"
    #: Epoch seconds before which nothing of it runs.
    not_before: Annotated[float, Meta(ge=0, le=2**40)] | None = None


def size(spec: TaskSpec) -> int:
    """How many elements the task has; 1 for a plain one."""
    if spec.array is None:
        return 1
    return spec.array if isinstance(spec.array, int) else len(spec.array)


def item(spec: TaskSpec, index: int) -> str:
    """What `{}` stands for in an element of an array."""
    array = spec.array
    return str(index) if array is None or isinstance(array, int) else array[index]


def command(spec: TaskSpec, index: int | None) -> tuple[str, ...]:
    """The command of a plain task (index None), or of one element."""
    if index is None:
        return spec.command
    what = item(spec, index)
    return tuple(word.replace("{}", what) for word in spec.command)


def element_env(spec: TaskSpec, index: int | None) -> dict[str, str]:
    """The variables that tell an element which one it is."""
    if index is None:
        return {}
    return {"DTASK_INDEX": str(index), "DTASK_ITEM": item(spec, index)}
