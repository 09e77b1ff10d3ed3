"""What has failed, by what it failed of: the list of dead letters. For reader threads."""

from collections.abc import Iterator
from typing import Final

from dtask.core.jobs.rows import JobRow, TaskRow
from dtask.core.jobs.states import Cause, State
from dtask.scheduler.api.answers import encode_struct
from dtask.store.base import Store
from dtask.wire.job_answers import FailureGroup, FailuresAnswer
from dtask.wire.limits import JOBS_LIMIT_MAX, ROWS_LOOKED_AT_MAX

#: Jobs that are named of one group, and elements that are looked at of one array.
JOBS_NAMED_MAX: Final = 100
ELEMENTS_MAX: Final = 1_000

_FAILED: Final = frozenset({State.FAILED})

#: Name of the job, task, cause, exit code, error.
_Likeness = tuple[str, str, Cause | None, int | None, str | None]


class _Group:
    """Tasks and elements that failed alike."""

    def __init__(self) -> None:
        self.count = 0
        #: The newest first.
        self.jobs: dict[int, None] = {}
        self.last_at = 0.0

    def add(self, row: TaskRow) -> None:
        """One more."""
        self.count += 1
        self.jobs[row.job_id] = None
        self.last_at = max(self.last_at, row.ended_at or 0.0)


def groups(store: Store, *, queue: str | None, limit: int) -> bytes:
    """At most `limit` groups of the newest failed jobs."""
    found: dict[_Likeness, _Group] = {}
    looked_at = 0
    jobs = store.jobs(states=_FAILED, queue=queue, before=None, limit=JOBS_LIMIT_MAX)
    complete = len(jobs) < JOBS_LIMIT_MAX
    for job in jobs:
        if looked_at >= ROWS_LOOKED_AT_MAX:
            complete = False
            break
        for row in _failed(store, job):
            if row.counts is not None:  # only some of its elements are looked at
                complete = False
                continue
            looked_at += 1
            likeness = (job.name, row.task, row.cause, row.exit_code, row.error)
            found.setdefault(likeness, _Group()).add(row)
    newest = sorted(found.items(), key=lambda pair: -pair[1].last_at)
    answer = FailuresAnswer(
        [_answer(likeness, group) for likeness, group in newest[:limit]],
        complete and len(newest) <= limit,
    )
    return encode_struct(answer)


def _failed(store: Store, job: JobRow) -> Iterator[TaskRow]:
    """The rows of a job's tasks and elements that failed.

    After those of an array of which more have failed than are looked at, its own.
    """
    record = store.record(job.job_id, elements=False)
    for row in record.tasks if record is not None else ():
        if row.counts is not None:
            elements = store.elements(
                job.job_id, row.task, states=_FAILED, after=-1, limit=ELEMENTS_MAX
            )
            yield from elements
            if len(elements) == ELEMENTS_MAX:
                yield row
        elif row.state is State.FAILED:
            yield row


def _answer(likeness: _Likeness, group: _Group) -> FailureGroup:
    job_name, task, cause, exit_code, error = likeness
    return FailureGroup(
        job_name=job_name,
        task=task,
        cause=cause,
        exit_code=exit_code,
        error=error,
        count=group.count,
        jobs=list(group.jobs)[:JOBS_NAMED_MAX],
        last_at=group.last_at,
    )
