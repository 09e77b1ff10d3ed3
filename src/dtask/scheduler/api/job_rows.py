"""From rows of the store to what is answered about jobs. All of it for reader threads."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Raw, Struct

from dtask.core.jobs.events import Reason, Why
from dtask.core.jobs.model import When
from dtask.core.jobs.names import attempt_text
from dtask.core.jobs.rows import WHOLE, AttemptRow, JobRecord, JobRow, TaskRow
from dtask.core.jobs.states import ENDS, Cause, State
from dtask.errors import InvalidRequest, NotFound
from dtask.scheduler.api.answers import encode_struct
from dtask.scheduler.api.skipped import Skipped
from dtask.store.base import Store
from dtask.wire.job_answers import (
    AttemptAnswer,
    ElementAnswer,
    ElementsAnswer,
    JobAnswer,
    JobSummary,
    Progress,
    TaskSummary,
)
from dtask.wire.limits import LAST_ATTEMPTS_MAX, ROWS_LOOKED_AT_MAX

_ANY: Final[frozenset[State]] = frozenset()


class _Specs(Struct):
    """The specs of a job's tasks, not looked into: a list of a million items costs its bytes."""

    tasks: dict[str, Raw]
    after: list[int] = []


class _TaskAnswer(Struct, frozen=True):
    """A TaskAnswer whose spec is JSON already."""

    job_id: int
    task: str
    summary: TaskSummary
    spec: Raw
    attempts: list[AttemptAnswer]


class _Links(Struct):
    """Of a task's spec, how it hangs together with others."""

    needs: list[str] = []
    when: When = "all_succeeded"


_specs: Final = msgspec.json.Decoder(_Specs).decode
_links: Final = msgspec.json.Decoder(_Links).decode
_UNLINKED: Final = _Links()


def jobs(
    store: Store,
    *,
    states: frozenset[State],
    queue: str | None,
    search: str | None,
    before: int | None,
    limit: int,
) -> bytes:
    """A page of jobs, the newest first."""
    rows = store.jobs(states=states, queue=queue, search=search, before=before, limit=limit)
    summaries = []
    looked_at = 0
    for row in rows:
        progress = None
        if looked_at < ROWS_LOOKED_AT_MAX:
            record = store.record(row.job_id, elements=False)
            if record is not None:
                looked_at += len(record.tasks)
                progress = _progress(record.tasks)
        summaries.append(_job_summary(row, progress))
    return encode_struct(summaries)


def job(store: Store, job_id: int) -> bytes:
    """One job and its tasks. Raises NotFound."""
    record = _record(store, job_id)
    row = record.job
    last = _last_attempts(store, record)
    rows = {task.task: task for task in record.tasks}
    needs_specs = len(rows) > 1 or row.state is State.SKIPPED
    specs = _spec_of(store, job_id) if needs_specs else _Specs({name: Raw(b"{}") for name in rows})
    skipped = Skipped(store, rows, specs.after)
    tasks = {
        name: _task_summary(rows[name], last.get(name), _links(spec), skipped)
        for name, spec in specs.tasks.items()
    }
    answer = JobAnswer(
        row.job_id,
        row.name,
        row.queue,
        row.priority,
        row.state,
        row.submitted_at,
        tasks,
        row.ended_at,
        row.key,
        row.cancelled,
    )
    return encode_struct(answer)


def task(store: Store, job_id: int, name: str) -> bytes:
    """One task, its spec and its last attempts. Raises NotFound."""
    record = _record(store, job_id)
    row = _whole(record, name)
    attempts = store.attempts(job_id, name, None, limit=LAST_ATTEMPTS_MAX)
    last = attempts[0] if attempts and row.counts is None else None
    answer = _TaskAnswer(
        job_id,
        name,
        _task_summary(row, last),
        _spec_of(store, job_id).tasks[name],
        [_attempt_answer(attempt) for attempt in attempts],
    )
    return encode_struct(answer)


def attempts(store: Store, job_id: int, name: str, index: int, limit: int) -> bytes:
    """Attempts of a task or an element, the newest first. Raises NotFound or InvalidRequest."""
    row = _whole(_record(store, job_id), name)
    if index != WHOLE:
        _check_index(row, index)
    rows = store.attempts(job_id, name, None if index == WHOLE else index, limit=limit)
    return encode_struct([_attempt_answer(attempt) for attempt in rows])


def job_attempts(store: Store, job_id: int, limit: int) -> bytes:
    """Attempts of all tasks of a job, the newest first. Raises NotFound."""
    _record(store, job_id)
    rows = store.attempts(job_id, None, None, limit=limit)
    return encode_struct(
        [msgspec.structs.replace(_attempt_answer(row), task=row.task) for row in rows]
    )


def attempt(store: Store, job_id: int, name: str, index: int, number: int | None) -> AttemptRow:
    """One attempt, by default the last. Raises NotFound or InvalidRequest."""
    if number is None:
        rows = store.attempts(job_id, name, index, limit=1)
        found = rows[0] if rows else None
    else:
        found = _first_from(store, job_id, name, index, number)
    if found is not None and number in (None, found.number):
        return found
    _element(store, job_id, name, index)
    text = attempt_text(job_id, name, None if index == WHOLE else index, number)
    sentence = "It has not been tried yet" if number is None else "There was no such attempt"
    raise NotFound(f"{text}: {sentence}.", code="no_attempt")


def following(
    store: Store, job_id: int, name: str, index: int, number: int
) -> tuple[AttemptRow | None, bool]:
    """The first attempt that has this number or a higher one, and whether none will come.

    Raises NotFound or InvalidRequest.
    """
    found = _first_from(store, job_id, name, index, number)
    if found is not None:
        return found, False
    return None, _element(store, job_id, name, index) in ENDS


def elements(
    store: Store, job_id: int, name: str, *, states: frozenset[State], after: int, limit: int
) -> bytes:
    """Elements of an array from the one after `after` on. Raises NotFound or InvalidRequest.

    Those without a row of their own stand where the array's row says the rest does.
    """
    row = _whole(_record(store, job_id), name)
    if row.counts is None:
        raise _no_array(row)
    counts = _counts(row)
    if states and not any(counts.get(state) for state in states):
        return encode_struct(ElementsAnswer([]))
    found: list[ElementAnswer] = []
    total = sum(counts.values())
    rest = row.rest if row.rest is not None and (not states or row.rest in states) else None
    at = after
    looked_at = 0
    while at + 1 < total and len(found) < limit and looked_at < ROWS_LOOKED_AT_MAX:
        # Only if elements without a row are wanted, the rows of the others have to be seen.
        rows = store.elements(
            job_id, name, states=states if rest is None else _ANY, after=at, limit=limit
        )
        looked_at += max(1, len(rows))
        end = rows[-1].idx if len(rows) == limit else total - 1
        for element in _filled(rows, at, end, rest, cause=row.cause):
            if not states or element.state in states:
                found.append(element)
                if len(found) == limit:
                    end = element.index
                    break
        at = end
    return encode_struct(ElementsAnswer(found, at if at + 1 < total else None))


def array(store: Store, job_id: int, name: str) -> tuple[TaskRow, int]:
    """The row of an array as a whole, and how many elements it has.

    Raises NotFound or InvalidRequest.
    """
    row = _whole(_record(store, job_id), name)
    if row.counts is None:
        raise _no_array(row)
    return row, sum(_counts(row).values())


def ended_why(store: Store, job_id: int, name: str | None, index: int) -> bytes:
    """Why an ended job, a task or an element of it ended as it did.

    Raises NotFound or InvalidRequest.
    """
    record = _record(store, job_id)
    tasks = {row.task: row for row in record.tasks}
    specs = _spec_of(store, job_id)
    skipped = Skipped(store, tasks, specs.after)
    rows = [tasks[each] for each in specs.tasks] if name is None else [_whole(record, name)]
    if name is not None and index != WHOLE:
        _check_index(rows[0], index)
        found = store.elements(job_id, name, states=_ANY, after=index - 1, limit=1)
        rows = [row for row in found if row.idx == index] or rows
    reasons = [
        _end(row, skipped.told(row, _links(specs.tasks[row.task]).needs))
        for row in rows
        if row.state is not State.SUCCEEDED
    ]
    return encode_struct(Why(job_id, record.job.state, tuple(reasons)))


# Rows


def _record(store: Store, job_id: int) -> JobRecord:
    """The job, without its spec and the elements of its arrays. Raises NotFound."""
    record = store.record(job_id, elements=False)
    if record is None:
        raise no_job(job_id)
    return record


def _spec_of(store: Store, job_id: int) -> _Specs:
    spec = store.spec(job_id)
    if spec is None:  # it was forgotten this moment
        raise no_job(job_id)
    return _specs(spec)


def no_job(job_id: int) -> NotFound:
    """The error for a job that nobody knows."""
    return NotFound(
        f"There is no job {job_id}: it was never submitted, or is kept no longer.",
        code="no_job",
        job_id=job_id,
    )


def _whole(record: JobRecord, name: str) -> TaskRow:
    for row in record.tasks:
        if row.task == name:
            return row
    raise NotFound(
        f"Job {record.job.job_id} has no task {name[:80]!r}: expected one of "
        f"{', '.join([row.task for row in record.tasks[:10]])}.",
        code="no_task",
        job_id=record.job.job_id,
    )


def _element(store: Store, job_id: int, name: str, index: int) -> State:
    """Where a task or an element stands. Raises NotFound or InvalidRequest."""
    row = _whole(_record(store, job_id), name)
    if index == WHOLE:
        if row.counts is not None:
            raise InvalidRequest(
                f"{job_id}/{name} is an array: expected one of its elements by its index, as in "
                f"dtask logs '{job_id}/{name}[0]'.",
                code="malformed",
                field="index",
            )
        return row.state
    _check_index(row, index)
    rows = store.elements(job_id, name, states=_ANY, after=index - 1, limit=1)
    if rows and rows[0].idx == index:
        return rows[0].state
    assert row.rest is not None
    return row.rest


def _check_index(row: TaskRow, index: int) -> None:
    if row.counts is None:
        raise _no_array(row)
    total = sum(_counts(row).values())
    if index >= total:
        raise NotFound(
            f"{row.job_id}/{row.task} has no element {index}: it has {total}, counted from 0.",
            code="no_task",
            job_id=row.job_id,
        )


def _no_array(row: TaskRow) -> InvalidRequest:
    return InvalidRequest(
        f"{row.job_id}/{row.task} is no array, and has no elements.",
        code="malformed",
        field="index",
    )


def _first_from(store: Store, job_id: int, name: str, index: int, number: int) -> AttemptRow | None:
    """The first attempt that has this number or a higher one."""
    newest = store.attempts(job_id, name, index, limit=1)
    if not newest or newest[0].number < number:
        return None
    rows = store.attempts(job_id, name, index, limit=newest[0].number - number + 1)
    return min((row for row in rows if row.number >= number), key=lambda row: row.number)


def _last_attempts(store: Store, record: JobRecord) -> dict[str, AttemptRow]:
    """The last attempt of each plain task."""
    job_id = record.job.job_id
    tried = [row.task for row in record.tasks if row.number and row.counts is None]
    found: dict[str, AttemptRow] = {}
    if tried:
        for row in store.attempts(job_id, None, None, limit=2 * len(tried)):
            if row.idx == WHOLE:
                found.setdefault(row.task, row)
    for name in tried:
        if name not in found:
            found |= {row.task: row for row in store.attempts(job_id, name, WHOLE, limit=1)}
    return found


def _counts(row: TaskRow) -> dict[State, int]:
    """How many elements of an array are in each state."""
    assert row.counts is not None
    counts: dict[str, int] = json.loads(row.counts)
    return {State(name): count for name, count in counts.items() if count}


def _filled(
    rows: list[TaskRow], after: int, end: int, rest: State | None, *, cause: Cause | None
) -> Iterator[ElementAnswer]:
    """The elements after `after` up to `end`; those without a row only if `rest` is given.

    Those ended, if at all, all at once and for the `cause` that the array's row tells.
    """
    at = after + 1
    told = cause if rest in ENDS else None
    for row in rows:
        if rest is not None:
            for index in range(at, row.idx):
                yield ElementAnswer(index=index, state=rest, cause=told)
        yield _element_answer(row)
        at = row.idx + 1
    if rest is not None:
        for index in range(at, end + 1):
            yield ElementAnswer(index=index, state=rest, cause=told)


def _end(row: TaskRow, skipped: str | None) -> Reason:
    """Why a task that ended did not succeed; `skipped`: what it was skipped for."""
    name = attempt_text(row.job_id, row.task, None if row.idx == WHOLE else row.idx)
    counts = _counts(row) if row.counts is not None else {}
    if counts:
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        sentence = " ".join(filter(None, (f"Of its elements: {told}.", skipped)))
        return Reason(name, row.state, row.state.value, sentence)
    if row.cause is Cause.EXIT and row.exit_code is not None:
        code = row.exit_code
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        sentence = f"Its last attempt, number {row.number}, ended with {how}."
    else:
        sentence = skipped or _ENDINGS.get(row.cause, f"It is {row.state}.")
    if row.error:
        sentence += f" {row.error}"
    return Reason(name, row.state, row.cause.value if row.cause else row.state.value, sentence)


_ENDINGS: Final[dict[Cause | None, str]] = {
    Cause.TIMEOUT: "It ran longer than its `timeout_s`.",
    Cause.START_FAILED: "Its command could not be started.",
    Cause.WORKER_FAILED: "Its worker could not do its part.",
    Cause.RESULT_TOO_LARGE: "Its result was over the limit.",
    Cause.LOST: "Its worker was lost while it ran, as often as `crash_limit` allows.",
    Cause.QUEUE_TIMEOUT: "It was queued longer than its `max_queue_s`.",
    Cause.STOPPED: "It was cancelled.",
    Cause.UPSTREAM: "Something that it needs did not succeed.",
}


# Answers


def _progress(tasks: list[TaskRow]) -> Progress:
    """How far the tasks of a job are, by their rows as a whole."""
    counts: Counter[State] = Counter()
    for row in tasks:
        counts.update({row.state: 1} if row.counts is None else _counts(row))
    return Progress(
        counts.total(),
        sum(counts[state] for state in ENDS),
        counts[State.FAILED],
        counts[State.CANCELLED],
        counts[State.SKIPPED],
    )


def _job_summary(row: JobRow, progress: Progress | None) -> JobSummary:
    return JobSummary(
        row.job_id,
        row.name,
        row.queue,
        row.priority,
        row.state,
        row.submitted_at,
        row.ended_at,
        row.key,
        row.cancelled,
        progress,
    )


def _task_summary(
    row: TaskRow,
    last: AttemptRow | None,
    links: _Links = _UNLINKED,
    skipped: Skipped | None = None,
) -> TaskSummary:
    return TaskSummary(
        state=row.state,
        needs=links.needs,
        when=links.when,
        counts=None if row.counts is None else _counts(row),
        number=row.number,
        failures=row.failures,
        crashes=row.crashes,
        not_before=row.not_before,
        queued_at=row.queued_at,
        worker_id=None if last is None else last.worker_id,
        started_at=None if last is None else last.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        cause=row.cause,
        error=row.error if skipped is None else row.error or skipped.told(row, links.needs),
    )


def _element_answer(row: TaskRow) -> ElementAnswer:
    return ElementAnswer(
        index=row.idx,
        state=row.state,
        number=row.number,
        failures=row.failures,
        crashes=row.crashes,
        not_before=row.not_before,
        queued_at=row.queued_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        cause=row.cause,
        error=row.error,
    )


def _attempt_answer(row: AttemptRow) -> AttemptAnswer:
    return AttemptAnswer(
        index=None if row.idx == WHOLE else row.idx,
        number=row.number,
        fence=row.fence,
        worker_id=row.worker_id,
        state=row.state,
        scheduled_at=row.scheduled_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        cause=row.cause,
        error=row.error,
        stdout_bytes=row.stdout_bytes,
        stderr_bytes=row.stderr_bytes,
        result_bytes=row.result_bytes,
        truncated=row.truncated,
        log_lost=row.log_lost,
        cpu_s=row.cpu_s,
        max_rss_bytes=row.max_rss_bytes,
    )
