"""What is read from a dtask.db. Each function wants a connection that sees one commit throughout.

They raise sqlite3.Error, and msgspec.DecodeError if the file holds what nobody wrote.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from dtask.core.jobs.rows import WHOLE, AttemptRow, JobRecord, JobRow, Past, Snapshot, TaskRow
from dtask.core.jobs.states import ENDS, HELD, State
from dtask.store.tables import ATTEMPTS, JOBS, QUEUES, TASKS, Table

#: Rows that one statement reads, and jobs, whose specs may be megabytes.
_ROWS_AT_ONCE: Final = 1_000
_JOBS_AT_ONCE: Final = 16

#: Above all numbers.
ANY: Final = 2**63 - 1

_ENDED: Final = ", ".join(f"'{state}'" for state in State if state in ENDS)
_LIVE: Final = ", ".join(f"'{state}'" for state in State if state not in ENDS)
_HELD: Final = ", ".join(f"'{state}'" for state in State if state in HELD)
_AMONG: Final = "IN (SELECT value FROM json_each(?))"

_JOBS_WITHOUT_SPEC: Final = Table(
    JobRow, f"(SELECT {', '.join(JOBS.columns[:-1])}, '' AS spec FROM job)"
)
_PAST: Final = Table(
    Past,
    "(SELECT job_id, state, key, digest, ifnull(ended_at, submitted_at) AS ended_at "
    f"FROM job NOT INDEXED WHERE state IN ({_ENDED}))",
)

#: The row as a whole of each task of a job, without a look at the elements.
_WHOLES: Final = f"""WHERE job_id = ?1 AND idx = {WHOLE} AND task IN (
    WITH RECURSIVE names (task) AS (
        SELECT min(task) FROM task WHERE job_id = ?1
        UNION ALL
        SELECT (SELECT min(task) FROM task WHERE job_id = ?1 AND task > names.task)
        FROM names WHERE names.task IS NOT NULL
    ) SELECT task FROM names)"""

#: The newest attempts of a task: their keys out of the index alone.
_NEWEST_OF_TASK: Final = """NATURAL JOIN (
    SELECT job_id, task, idx, number FROM attempt INDEXED BY attempt_by_fence
    WHERE job_id = ? AND task = ? ORDER BY fence DESC LIMIT ?)
    ORDER BY fence DESC"""


_TALLY: Final = """SELECT json_group_array(json_array(span, state, total)) FROM (
    SELECT (idx - ?2) / ?1 AS span, state, count(*) AS total FROM task
    WHERE job_id = ?3 AND task = ?4 AND idx >= ?2 AND idx < ?5 GROUP BY 1, 2 ORDER BY 1, 2)"""


def snapshot(connection: sqlite3.Connection) -> Snapshot:
    """What a scheduler needs to go on."""
    live = sorted(ids(connection, f"SELECT job_id FROM job WHERE state IN ({_LIVE})"))
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    (job_id,) = connection.execute("SELECT max(job_id) FROM job").fetchone()
    (fence,) = connection.execute(
        "SELECT max(fence) FROM attempt INDEXED BY attempt_by_fence"
    ).fetchone()
    return Snapshot(
        cluster_id=meta["cluster_id"],
        queues=QUEUES.read(connection, "ORDER BY name"),
        jobs=[
            record
            for start in range(0, len(live), _JOBS_AT_ONCE)
            for record in records(connection, live[start : start + _JOBS_AT_ONCE])
        ],
        past=list(_past(connection)),
        last_job_id=max(job_id or 0, meta["last_job_id"]),
        last_fence=max(fence or 0, meta["last_fence"]),
    )


def records(connection: sqlite3.Connection, job_ids: Sequence[int]) -> list[JobRecord]:
    """Those of these jobs that are there, by id; few enough for one statement."""
    jobs = JOBS.read(connection, f"WHERE job_id {_AMONG} ORDER BY job_id", (json.dumps(job_ids),))
    by_job = attrgetter("job_id")
    tasks = {job_id: list(rows) for job_id, rows in groupby(_tasks(connection, job_ids), by_job)}
    held = ATTEMPTS.read(
        connection,
        f"WHERE job_id {_AMONG} AND state IN ({_HELD}) ORDER BY job_id, fence",
        (json.dumps(job_ids),),
    )
    live = {job_id: list(rows) for job_id, rows in groupby(held, by_job)}
    return [JobRecord(job, tasks.get(job.job_id, []), live.get(job.job_id, [])) for job in jobs]


def outline(connection: sqlite3.Connection, job_id: int) -> JobRecord | None:
    """A job with the rows of its tasks as a whole: no elements, attempts, or spec."""
    jobs = _JOBS_WITHOUT_SPEC.read(connection, "WHERE job_id = ?", (job_id,))
    return JobRecord(jobs[0], TASKS.read(connection, _WHOLES, (job_id,)), []) if jobs else None


def spec(connection: sqlite3.Connection, job_id: int) -> str | None:
    """The spec of a job; None if there is no such job."""
    found = connection.execute("SELECT spec FROM job WHERE job_id = ?", (job_id,)).fetchone()
    return found[0] if found is not None else None


def jobs(
    connection: sqlite3.Connection,
    *,
    states: frozenset[State],
    queue: str | None,
    before: int | None,
    limit: int,
    search: str | None = None,
) -> list[JobRow]:
    """Jobs in one of these states (none given: any), the newest first, ids below `before`.

    With `search`: those whose name has it in it, or whose id it is.
    """
    bounds: tuple[object, ...] = (ANY if before is None else before, queue)
    newest = "job_id < ? AND queue = ifnull(?, queue)"
    if search is not None:
        newest += " AND (instr(lower(name), lower(?)) OR CAST(job_id AS TEXT) = ?)"
        bounds += (search, search)
    newest += " ORDER BY job_id DESC LIMIT ?"
    bounds += (limit,)
    if not states:
        return _JOBS_WITHOUT_SPEC.read(connection, f"WHERE {newest}", bounds)
    # The newest of each state, by the index, and of those the newest.
    each = " UNION ALL ".join(
        f"SELECT * FROM (SELECT job_id FROM job WHERE state = ? AND {newest})" for _ in states
    )
    parameters = [value for state in states for value in (state.value, *bounds)]
    return _JOBS_WITHOUT_SPEC.read(
        connection, f"WHERE job_id IN ({each}) ORDER BY job_id DESC LIMIT ?", (*parameters, limit)
    )


def elements(
    connection: sqlite3.Connection,
    job_id: int,
    task: str,
    *,
    states: frozenset[State],
    after: int,
    limit: int,
) -> list[TaskRow]:
    """Rows of elements in one of these states (none given: any), by index, above `after`."""
    if _hidden(connection, job_id):
        return []
    return TASKS.read(
        connection,
        f"WHERE job_id = ? AND task = ? AND idx > ? AND state {_AMONG} ORDER BY idx LIMIT ?",
        (job_id, task, max(after, WHOLE), json.dumps(list(states or State)), limit),
    )


def tally(
    connection: sqlite3.Connection, job_id: int, task: str, first: int, end: int, *, every: int
) -> list[tuple[int, State, int]]:
    """Rows of elements with `first` <= index < `end`, counted by span and state, in one step."""
    if _hidden(connection, job_id):
        return []
    (text,) = connection.execute(_TALLY, (every, first, job_id, task, end)).fetchone()
    return [(span, State(state), count) for span, state, count in json.loads(text)]


def attempts(
    connection: sqlite3.Connection, job_id: int, task: str | None, idx: int | None, *, limit: int
) -> list[AttemptRow]:
    """Attempts of a job, a task or an element, the newest first."""
    if _hidden(connection, job_id):
        return []
    if task is None:
        return ATTEMPTS.read(
            connection, "WHERE job_id = ? ORDER BY fence DESC LIMIT ?", (job_id, limit)
        )
    if idx is None:
        return ATTEMPTS.read(connection, _NEWEST_OF_TASK, (job_id, task, limit))
    # With the plus the few of an element are sorted; without it all of the job are gone through.
    return ATTEMPTS.read(
        connection,
        "WHERE job_id = ? AND task = ? AND idx = ? ORDER BY +fence DESC LIMIT ?",
        (job_id, task, idx, limit),
    )


def attempt_keys(connection: sqlite3.Connection, job_id: int) -> set[tuple[str, int, int]]:
    """Task, index and number of all attempts of a job."""
    if _hidden(connection, job_id):
        return set()
    sql = "SELECT task, idx, number FROM attempt WHERE job_id = ?"
    return set(connection.execute(sql, (job_id,)))


def ids(connection: sqlite3.Connection, sql: str) -> list[int]:
    """The one column of `sql`, in one step."""
    (text,) = connection.execute(f"SELECT json_group_array(job_id) FROM ({sql})").fetchone()
    found: list[int] = json.loads(text)
    return found


def _hidden(connection: sqlite3.Connection, job_id: int) -> bool:
    """Whether the job was forgotten and some of its rows are still there."""
    hidden = connection.execute("SELECT 1 FROM forgotten WHERE job_id = ?", (job_id,))
    return hidden.fetchone() is not None


def _tasks(connection: sqlite3.Connection, job_ids: Sequence[int]) -> list[TaskRow]:
    """All rows of these jobs, by key: in one statement unless there are many."""
    rows = TASKS.read(
        connection,
        f"WHERE job_id {_AMONG} LIMIT ?",
        (json.dumps(job_ids), _ROWS_AT_ONCE),
    )
    if len(rows) < _ROWS_AT_ONCE:
        return sorted(rows, key=attrgetter("key_of"))
    return [row for job_id in sorted(job_ids) for row in _tasks_of(connection, job_id)]


def _tasks_of(connection: sqlite3.Connection, job_id: int) -> Iterator[TaskRow]:
    """All rows of a job, by key, however many there are."""
    task, idx = "", 0
    while True:
        rows = TASKS.read(
            connection,
            "WHERE job_id = ? AND (task, idx) > (?, ?) ORDER BY task, idx LIMIT ?",
            (job_id, task, idx, _ROWS_AT_ONCE),
        )
        yield from rows
        if len(rows) < _ROWS_AT_ONCE:
            return
        task, idx = rows[-1].task, rows[-1].idx


def _past(connection: sqlite3.Connection) -> Iterator[Past]:
    """All jobs that ended, by id."""
    last = 0
    while True:
        found = _PAST.read(
            connection, "WHERE job_id > ? ORDER BY job_id LIMIT ?", (last, _ROWS_AT_ONCE)
        )
        yield from found
        if len(found) < _ROWS_AT_ONCE:
            return
        last = found[-1].job_id
