"""The routes of jobs as OpenAPI describes them."""

from typing import Final

from dtask.core.jobs.events import QueueView, Stats, Why
from dtask.core.jobs.model import ELEMENTS_MAX, NAME_CHARS_MAX
from dtask.core.jobs.names import TASK_NAME_PATTERN
from dtask.core.jobs.states import State
from dtask.scheduler.api.job_query import JOB_ID_MAX, NUMBER_MAX
from dtask.scheduler.api.operations import (
    BYTES,
    GUARDED,
    TOKEN,
    WITH_BODY,
    Json,
    operation,
    parameter,
    ref,
    response,
)
from dtask.scheduler.log_files import LOG_BYTES_MAX
from dtask.wire.job_answers import (
    AttemptAnswer,
    BlobAnswer,
    CancelAnswer,
    ElementsAnswer,
    EventAnswer,
    FailuresAnswer,
    JobAnswer,
    JobSummary,
    RetryAnswer,
    StatesAnswer,
    SubmitAnswer,
    TaskAnswer,
)
from dtask.wire.jobs import CommandBody, JobBody, QueueBody, RetryBody
from dtask.wire.limits import (
    ATTEMPTS_LIMIT_MAX,
    ELEMENTS_LIMIT_MAX,
    FENCE_MAX,
    JOBS_LIMIT_MAX,
    LIMIT_DEFAULT,
    LOG_ANSWER_BYTES,
)
from dtask.wire.tasks import WAIT_S_MAX

TYPES: Final = (
    JobBody,
    CommandBody,
    RetryBody,
    QueueBody,
    SubmitAnswer,
    JobSummary,
    JobAnswer,
    TaskAnswer,
    ElementsAnswer,
    StatesAnswer,
    AttemptAnswer,
    CancelAnswer,
    RetryAnswer,
    EventAnswer,
    FailuresAnswer,
    BlobAnswer,
    Why,
    QueueView,
    Stats,
)

#: What any route of jobs may be told, and one with a body of JSON.
_ANY: Final = (*GUARDED, "store_failed")
_BODY: Final = (*WITH_BODY, "store_failed")

_NAME: Final[Json] = {"type": "string", "pattern": f"^{TASK_NAME_PATTERN}$"}
_TEXT: Final[Json] = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
_STATE: Final[Json] = {"type": "array", "items": {"enum": [state.value for state in State]}}
_SEARCH: Final[Json] = {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX}
_FLAG: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 1}
_FILE: Final[Json] = {"type": "string", "contentMediaType": BYTES}


def _whole(least: int, most: int, default: int | None = None) -> Json:
    schema: Json = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


_JOB: Final = parameter("job_id", _whole(1, 10**15 - 1), "The job, by its number.", where="path")
_TASK: Final = parameter("task", _TEXT, "The task, by its name.", where="path")
_QUEUE: Final = parameter("name", _NAME, "The queue.", where="path")
_BLOB: Final = parameter(
    "sha256",
    {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "The SHA-256 of the bytes, in hexadecimal digits.",
    where="path",
)
_INDEX: Final = parameter("index", _whole(0, ELEMENTS_MAX - 1), "The element of an array.")
_ATTEMPT: Final = parameter(
    "attempt", _whole(1, NUMBER_MAX), "The attempt; by default the last one."
)


def _limit(most: int) -> Json:
    return parameter("limit", _whole(1, most, LIMIT_DEFAULT), "At most so many.")


def paths() -> Json:
    """All of them."""
    job, task = "/api/v1/jobs/{job_id}", "/api/v1/jobs/{job_id}/tasks/{task}"
    return {
        "/api/v1/jobs": {"post": _submit(), "get": _list()},
        job: {"get": _look(), "delete": _cancel()},
        f"{job}/retry": {"post": _retry()},
        f"{job}/why": {"get": _why()},
        f"{job}/attempts": {"get": _job_attempts()},
        "/api/v1/failures": {"get": _failures()},
        task: {"get": _task(), "delete": _cancel_task()},
        f"{task}/elements": {"get": _elements()},
        f"{task}/states": {"get": _states()},
        f"{task}/attempts": {"get": _attempts()},
        f"{task}/log": {"get": _log()},
        f"{task}/result": {"get": _result()},
        "/api/v1/events": {"get": _events()},
        "/api/v1/queues": {"get": _queues()},
        "/api/v1/queues/{name}": {"get": _queue(), "put": _set_queue()},
        "/api/v1/blobs/{sha256}": {"get": _blob(), "put": _put_blob()},
        "/api/v1/stats": {"get": _stats()},
        "/api/v1/backup": {"get": _backup()},
    }


def _submit() -> Json:
    described = operation(
        "submit",
        "A job: tasks to be run, once each, however long that takes.",
        ref(SubmitAnswer),
        (
            *_BODY,
            "bad_requirement",
            "bad_graph",
            "missing_blobs",
            "no_job",
            "unknown_queue",
            "key_taken",
            "queue_full",
        ),
        body={"anyOf": [ref(CommandBody), ref(JobBody)]},
        security=TOKEN,
    )
    return _created(described, "The job is new.", ref(SubmitAnswer))


def _list() -> Json:
    return operation(
        "jobs",
        "The jobs, the newest first.",
        {"type": "array", "items": ref(JobSummary)},
        _ANY,
        parameters=[
            parameter("state", _STATE, "In one of these states."),
            parameter("queue", _NAME, "Of this queue."),
            parameter("search", _SEARCH, "With this in the name, or of this number."),
            _limit(JOBS_LIMIT_MAX),
            parameter("before", _whole(1, JOB_ID_MAX), "Those with a lower number."),
        ],
        security=TOKEN,
    )


def _look() -> Json:
    wait_s = {"type": "number", "minimum": 0, "maximum": WAIT_S_MAX}
    return operation(
        "job",
        "How a job and its tasks stand.",
        ref(JobAnswer),
        (*_ANY, "no_job", "too_many_waiters"),
        parameters=[
            _JOB,
            parameter("wait_s", wait_s, "Answer when it has ended, or after so many seconds."),
        ],
        security=TOKEN,
    )


def _cancel() -> Json:
    return operation(
        "cancel",
        "Stop a job.",
        ref(CancelAnswer),
        (*_ANY, "no_job", "job_ended"),
        parameters=[_JOB],
        security=TOKEN,
    )


def _retry() -> Json:
    return operation(
        "retry",
        "Start over what did not succeed.",
        ref(RetryAnswer),
        (*_BODY, "no_job", "no_task", "upstream", "queue_full"),
        body=ref(RetryBody),
        parameters=[_JOB],
        security=TOKEN,
    )


def _why() -> Json:
    task = parameter("task", {"type": "string"}, "This task alone.")
    return operation(
        "why",
        "Why everything of a job that has not ended stands where it does.",
        ref(Why),
        (*_ANY, "no_job", "no_task"),
        parameters=[_JOB, task, _INDEX],
        security=TOKEN,
    )


def _task() -> Json:
    return operation(
        "task",
        "How a task stands, its spec and its last attempts.",
        ref(TaskAnswer),
        (*_ANY, "no_job", "no_task"),
        parameters=[_JOB, _TASK],
        security=TOKEN,
    )


def _cancel_task() -> Json:
    return operation(
        "cancelTask",
        "Stop one task of a job.",
        ref(CancelAnswer),
        (*_ANY, "no_job", "no_task", "job_ended"),
        parameters=[_JOB, _TASK],
        security=TOKEN,
    )


def _elements() -> Json:
    return operation(
        "elements",
        "The elements of an array, by index.",
        ref(ElementsAnswer),
        (*_ANY, "no_job", "no_task"),
        parameters=[
            _JOB,
            _TASK,
            parameter("state", _STATE, "In one of these states."),
            parameter("after", _whole(0, ELEMENTS_MAX), "Those after this index."),
            _limit(ELEMENTS_LIMIT_MAX),
        ],
        security=TOKEN,
    )


def _states() -> Json:
    return operation(
        "states",
        "The elements of an array, counted by state.",
        ref(StatesAnswer),
        (*_ANY, "no_job", "no_task"),
        parameters=[
            _JOB,
            _TASK,
            parameter("first", _whole(0, ELEMENTS_MAX, 0), "From this index on."),
            parameter("count", _whole(1, ELEMENTS_MAX), "So many elements; by default all."),
            parameter("every", _whole(1, ELEMENTS_MAX), "So many are counted together."),
        ],
        security=TOKEN,
    )


def _attempts() -> Json:
    return operation(
        "attempts",
        "The attempts of a task or an element, the newest first.",
        {"type": "array", "items": ref(AttemptAnswer)},
        (*_ANY, "no_job", "no_task"),
        parameters=[_JOB, _TASK, _INDEX, _limit(ATTEMPTS_LIMIT_MAX)],
        security=TOKEN,
    )


def _job_attempts() -> Json:
    return operation(
        "jobAttempts",
        "The attempts of all tasks of a job, the newest first.",
        {"type": "array", "items": ref(AttemptAnswer)},
        (*_ANY, "no_job"),
        parameters=[_JOB, _limit(ATTEMPTS_LIMIT_MAX)],
        security=TOKEN,
    )


def _failures() -> Json:
    return operation(
        "failures",
        "What failed, by what it failed of.",
        ref(FailuresAnswer),
        _ANY,
        parameters=[parameter("queue", _NAME, "In this queue."), _limit(JOBS_LIMIT_MAX)],
        security=TOKEN,
    )


def _log() -> Json:
    stream = {"enum": ["stdout", "stderr"], "default": "stdout"}
    described = operation(
        "log",
        "What an attempt wrote.",
        _FILE,
        (*_ANY, "no_job", "no_task", "no_attempt", "too_many_waiters"),
        parameters=[
            _JOB,
            _TASK,
            _INDEX,
            _ATTEMPT,
            parameter("stream", stream, "Which of its outputs."),
            parameter("offset", _whole(0, FENCE_MAX, 0), "Begin there."),
            parameter(
                "limit", _whole(0, LOG_BYTES_MAX, LOG_ANSWER_BYTES), "At most so many bytes."
            ),
            parameter("follow", _FLAG, "1: all of it, as it is written, until it has ended."),
        ],
        security=TOKEN,
    )
    return _bytes(described)


def _result() -> Json:
    described = operation(
        "result",
        "What an attempt left as its result.",
        _FILE,
        (*_ANY, "no_job", "no_task", "no_attempt", "no_result"),
        parameters=[_JOB, _TASK, _INDEX, _ATTEMPT],
        security=TOKEN,
    )
    return _bytes(described)


def _events() -> Json:
    described = operation(
        "events",
        "What happens to jobs, as it happens.",
        {"type": "string"},
        (*_ANY, "too_many_waiters"),
        parameters=[
            parameter("job", _whole(1, 10**15 - 1), "Of this job."),
            parameter("queue", _NAME, "Of jobs of this queue."),
            parameter("state", _STATE, "Into one of these states."),
            parameter("after", _whole(0, FENCE_MAX), "After the event of this id."),
            parameter("follow", _FLAG, "0: those that there are, and no more."),
        ],
        security=TOKEN,
    )
    described["responses"]["200"] = response(
        "Server-sent events; the data of each is an EventAnswer.",
        {"type": "string"},
        media="text/event-stream",
    )
    return described


def _queues() -> Json:
    queues = {"type": "array", "items": ref(QueueView)}
    return operation("queues", "The queues, by name.", queues, _ANY, security=TOKEN)


def _queue() -> Json:
    return operation(
        "queue",
        "A queue and what stands in it.",
        ref(QueueView),
        (*_ANY, "unknown_queue"),
        parameters=[_QUEUE],
        security=TOKEN,
    )


def _set_queue() -> Json:
    return operation(
        "setQueue",
        "Make a queue, or change it.",
        ref(QueueView),
        (*_BODY, "queue_full"),
        body=ref(QueueBody),
        parameters=[_QUEUE],
        security=TOKEN,
    )


def _blob() -> Json:
    described = operation(
        "blob",
        "The bytes of a blob.",
        _FILE,
        (*_ANY, "no_blob"),
        parameters=[_BLOB],
        security=TOKEN,
    )
    return _bytes(described)


def _put_blob() -> Json:
    described = operation(
        "putBlob",
        "Bytes that jobs bring along, by their hash.",
        ref(BlobAnswer),
        (*_ANY, "too_large", "wrong_hash"),
        parameters=[_BLOB],
        security=TOKEN,
    )
    described["requestBody"] = {"required": True, "content": {BYTES: {"schema": _FILE}}}
    return _created(described, "The blob is new.", ref(BlobAnswer))


def _stats() -> Json:
    return operation("stats", "Counts of jobs and tasks.", ref(Stats), _ANY, security=TOKEN)


def _backup() -> Json:
    described = operation(
        "backup",
        "A copy of the store, while it goes on.",
        _FILE,
        (*_ANY, "too_many_waiters"),
        security=TOKEN,
    )
    return _bytes(described)


def _created(described: Json, meaning: str, schema: Json) -> Json:
    """A route that answers 201 for what is new, and 200 for what was there."""
    described["responses"]["200"]["description"] = "It was there."
    described["responses"]["201"] = response(meaning, schema)
    return described


def _bytes(described: Json) -> Json:
    """A route that answers with bytes."""
    described["responses"]["200"] = response("Its bytes.", _FILE, media=BYTES)
    return described
