"""The bodies of a worker's own listener: tasks run directly, by ticket."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dtask.wire.placement import Fence, Id

#: Words of a command, characters of one word, variables of its environment.
COMMAND_WORDS_MAX = 1_000
WORD_CHARS_MAX = 32 * 1024
ENV_MAX = 256

#: Longest run that can be asked for: thirty days.
TIMEOUT_S_MAX = 30 * 86_400.0
#: Longest that `GET /tasks/{id}?wait_s=` is held open.
WAIT_S_MAX = 60.0

Word = Annotated[str, Meta(max_length=WORD_CHARS_MAX)]


class TaskBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/v1/tasks`: run this command in the slot that was placed."""

    task_id: Id
    command: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=COMMAND_WORDS_MAX)]
    fence: Fence
    env: Annotated[dict[str, Word], Meta(max_length=ENV_MAX)] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] | None = None


class TaskAnswer(Struct, frozen=True, omit_defaults=True):
    """A task on a worker.

    `waiting`: accepted, an older run of the same task is still being stopped. `running`.
    `stopping`: what is left of its processes is being stopped. `ended`.
    """

    task_id: str
    fence: int
    worker_id: str
    state: Literal["waiting", "running", "stopping", "ended"]
    #: Epoch seconds: accepted, and from its launch on, launched.
    started_at: float
    ended_at: float | None = None
    #: Exit code of an ended task, negative for a signal; null when it never ran or its end was
    #: not seen.
    exit_code: int | None = None
    #: Why it ended other than by itself: `stopped`, `timeout`, `superseded` (a newer fence of the
    #: task came), `start_failed`.
    cause: str | None = None
    #: The sentence that goes with `start_failed`.
    error: str | None = None
    #: Bytes that can be read of `.../log`.
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    #: The log was cut at its cap.
    truncated: bool = False
