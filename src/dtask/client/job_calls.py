"""Requests about jobs as values, and the answers to them as typed results. No I/O."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.json import Decoder

from dtask.client.acts import Reply, Request
from dtask.client.calls import encoded, path_segment, query_text, read
from dtask.client.job_results import Event, JobResult
from dtask.client.server_sent import Message
from dtask.core.jobs.events import Again, QueueView, Stats, Why
from dtask.core.jobs.names import Name
from dtask.errors import InvalidRequest
from dtask.wire.job_answers import (
    AttemptAnswer,
    CancelAnswer,
    ElementsAnswer,
    JobSummary,
    RetryAnswer,
    SubmitAnswer,
    TaskAnswer,
)

_SUBMITTED = Decoder(SubmitAnswer)
_JOB = Decoder(JobResult)
_JOBS = Decoder(list[JobSummary])
_TASK = Decoder(TaskAnswer)
_ELEMENTS = Decoder(ElementsAnswer)
_ATTEMPTS = Decoder(list[AttemptAnswer])
_CANCELLED = Decoder(CancelAnswer)
_RETRIED = Decoder(RetryAnswer)
_WHY = Decoder(Why)
_QUEUE = Decoder(QueueView)
_QUEUES = Decoder(list[QueueView])
_STATS = Decoder(Stats)
_EVENT = Decoder(Event)

_JOBS_PATH = "/api/v1/jobs"

#: A state, or several; None: any.
States = str | Iterable[str] | None


def submit(body: object) -> Request:
    """A job."""
    return Request(method="POST", target=_JOBS_PATH, body=encoded(body))


def blob(digest: str, content: bytes) -> Request:
    """Bytes that a job names by `sha256:HEX`."""
    return Request(
        method="PUT",
        target=f"/api/v1/blobs/{digest.partition(':')[2]}",
        body=content,
        content_type="application/octet-stream",
    )


def job(job_id: int, *, wait_s: float = 0.0) -> Request:
    """How a job stands; with `wait_s`, once it has ended or that time has passed."""
    query = f"?wait_s={wait_s:g}" if wait_s else ""
    return Request(method="GET", target=f"{_JOBS_PATH}/{job_id}{query}")


def jobs(*, state: States, queue: str | None, limit: int, before: int | None) -> Request:
    """One page of jobs, the newest first."""
    return _get(
        _JOBS_PATH, {"state": _states(state), "queue": queue, "limit": limit, "before": before}
    )


def task(name: Name) -> Request:
    """How a task stands, with its last attempts."""
    return _get(_task_path(name), {})


def elements(name: Name, *, state: States, after: int | None, limit: int) -> Request:
    """One page of an array's elements, by index, those above `after`."""
    query = {"state": _states(state), "after": after, "limit": limit}
    return _get(f"{_task_path(name)}/elements", query)


def attempts(name: Name) -> Request:
    """The attempts of a task or an element, the newest first."""
    return _get(f"{_task_path(name)}/attempts", {"index": name.index})


def log(name: Name, *, stream: str, offset: int, follow: bool) -> Request:
    """What an attempt wrote, from `offset` on; with `follow`, as it is written, to its end."""
    query = {
        "stream": stream,
        "index": name.index,
        "attempt": name.number,
        "offset": offset or None,
        "follow": 1 if follow else None,
    }
    return _get(f"{_task_path(name)}/log", query)


def result(name: Name) -> Request:
    """The bytes that an attempt left as its result."""
    return _get(f"{_task_path(name)}/result", {"index": name.index, "attempt": name.number})


def cancel(job_id: int, task: str | None) -> Request:
    """Stop a job, or one task of it."""
    tail = "" if task is None else f"/tasks/{path_segment(task)}"
    return Request(method="DELETE", target=f"{_JOBS_PATH}/{job_id}{tail}")


def retry(job_id: int, *, again: Again, task: str | None) -> Request:
    """Start over what did not succeed."""
    body: dict[str, str] = {"again": again} | ({} if task is None else {"task": task})
    return Request(method="POST", target=f"{_JOBS_PATH}/{job_id}/retry", body=encoded(body))


def why(name: Name) -> Request:
    """What everything of a job, or one task or element of it, waits for."""
    path = f"{_JOBS_PATH}/{name.job_id}/why"
    return _get(path, {"task": name.task, "index": name.index})


def events(*, job_id: int | None, after: str | None) -> Request:
    """What moves, as it happens; after the event of that id, or from now on.

    Raises InvalidRequest for what is no id.
    """
    if after is not None and not after.isdecimal():
        raise InvalidRequest(
            f"after: {after!r:.40} is no id of an event: expected one such as '1795203872406798'.",
            code="malformed",
            field="after",
        )
    return Request(
        method="GET",
        target=_get("/api/v1/events", {"job": job_id}).target,
        headers={} if after is None else {"last-event-id": after},
    )


def queues() -> Request:
    """All queues, by name."""
    return _get("/api/v1/queues", {})


def set_queue(name: str, settings: dict[str, object]) -> Request:
    """Make a queue, or change it."""
    target = f"/api/v1/queues/{path_segment(name)}"
    return Request(method="PUT", target=target, body=encoded(settings))


def stats() -> Request:
    """Counts of jobs and tasks."""
    return _get("/api/v1/stats", {})


def backup() -> Request:
    """A copy of the store."""
    return _get("/api/v1/backup", {})


# Answers


def read_submitted(reply: Reply) -> SubmitAnswer:
    """The number of the job."""
    return read(_SUBMITTED, reply)


def read_job(reply: Reply) -> JobResult:
    """How a job stands."""
    return read(_JOB, reply)


def read_jobs(reply: Reply) -> list[JobSummary]:
    """One page of jobs."""
    return read(_JOBS, reply)


def read_task(reply: Reply) -> TaskAnswer:
    """How a task stands."""
    return read(_TASK, reply)


def read_elements(reply: Reply) -> ElementsAnswer:
    """One page of elements."""
    return read(_ELEMENTS, reply)


def read_attempts(reply: Reply) -> list[AttemptAnswer]:
    """Attempts, the newest first."""
    return read(_ATTEMPTS, reply)


def read_cancelled(reply: Reply) -> CancelAnswer:
    """What is still to be stopped."""
    return read(_CANCELLED, reply)


def read_retried(reply: Reply) -> RetryAnswer:
    """What starts over."""
    return read(_RETRIED, reply)


def read_why(reply: Reply) -> Why:
    """What everything of a job waits for."""
    return read(_WHY, reply)


def read_queue(reply: Reply) -> QueueView:
    """One queue."""
    return read(_QUEUE, reply)


def read_queues(reply: Reply) -> list[QueueView]:
    """All queues."""
    return read(_QUEUES, reply)


def read_stats(reply: Reply) -> Stats:
    """Counts."""
    return read(_STATS, reply)


def read_event(message: Message) -> Event | None:
    """What a message of the stream of events tells; None if it is of a kind not known here."""
    try:
        event = _EVENT.decode(message.data)
    except msgspec.DecodeError:
        return None
    return msgspec.structs.replace(event, id=message.id)


def _states(state: States) -> list[str] | None:
    return [state] if isinstance(state, str) else None if state is None else list(state)


def _task_path(name: Name) -> str:
    assert name.task is not None
    return f"{_JOBS_PATH}/{name.job_id}/tasks/{path_segment(name.task)}"


def _get(path: str, query: Mapping[str, object]) -> Request:
    given = {name: value for name, value in query.items() if value is not None}
    return Request(method="GET", target=f"{path}?{query_text(given)}" if given else path)
