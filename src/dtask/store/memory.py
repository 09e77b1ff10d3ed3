"""The store that forgets all at the end of its process: for tests, and for the simulation."""

import secrets
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter
from pathlib import Path
from threading import Lock

from msgspec.structs import replace

from dtask.core.jobs.rows import (
    WHOLE,
    AttemptRow,
    Change,
    Forget,
    JobRecord,
    JobRow,
    Past,
    QueueRow,
    Snapshot,
    TaskRow,
)
from dtask.core.jobs.states import ENDS, HELD, State
from dtask.errors import Unavailable

_by_key = attrgetter("key_of")


class MemoryStore:
    """Rows in dicts, by key. `cluster_id` is drawn if none is given."""

    def __init__(self, cluster_id: str | None = None) -> None:
        self._cluster_id = cluster_id or secrets.token_hex(16)
        self._queues: dict[str, QueueRow] = {}
        self._jobs: dict[int, JobRow] = {}
        #: By job.
        self._tasks: dict[int, dict[tuple[str, int], TaskRow]] = {}
        self._attempts: dict[int, dict[tuple[str, int, int], AttemptRow]] = {}
        self._last_job_id = 0
        self._last_fence = 0
        self._lock = Lock()

    def copy(self) -> "MemoryStore":
        """Another store that holds the same now. The rows themselves are shared: none changes."""
        with self._lock:
            other = MemoryStore(self._cluster_id)
            other._queues = dict(self._queues)
            other._jobs = dict(self._jobs)
            other._tasks = {job_id: dict(rows) for job_id, rows in self._tasks.items()}
            other._attempts = {job_id: dict(rows) for job_id, rows in self._attempts.items()}
            other._last_job_id = self._last_job_id
            other._last_fence = self._last_fence
            return other

    def load(self) -> Snapshot:
        """What a scheduler needs to go on."""
        with self._lock:
            jobs = [self._jobs[job_id] for job_id in sorted(self._jobs)]
            return Snapshot(
                cluster_id=self._cluster_id,
                queues=[self._queues[name] for name in sorted(self._queues)],
                jobs=[self._record(job) for job in jobs if job.state not in ENDS],
                past=[_past(job) for job in jobs if job.state in ENDS],
                last_job_id=self._last_job_id,
                last_fence=self._last_fence,
            )

    def commit(self, changes: Iterable[Change]) -> None:
        """Take in all of these, in this order."""
        with self._lock:
            for change in changes:
                self._apply(change)

    def _apply(self, change: Change) -> None:
        if isinstance(change, TaskRow):
            self._tasks.setdefault(change.job_id, {})[change.task, change.idx] = change
        elif isinstance(change, AttemptRow):
            key = change.task, change.idx, change.number
            self._attempts.setdefault(change.job_id, {})[key] = change
            self._last_fence = max(self._last_fence, change.fence)
        elif isinstance(change, JobRow):
            self._jobs[change.job_id] = change
            self._last_job_id = max(self._last_job_id, change.job_id)
        elif isinstance(change, Forget):
            for table in (self._jobs, self._tasks, self._attempts):
                table.pop(change.job_id, None)
        else:
            self._queues[change.name] = change

    def record(self, job_id: int, *, elements: bool = True) -> JobRecord | None:
        """All that is kept of one job, but for the attempts that ended.

        Without `elements`: of its tasks only the rows as a whole, no live attempts, and no `spec`.
        """
        with self._lock:
            job = self._jobs.get(job_id)
            return self._record(job, elements=elements) if job is not None else None

    def _record(self, job: JobRow, *, elements: bool = True) -> JobRecord:
        tasks = sorted(self._tasks.get(job.job_id, {}).values(), key=_by_key)
        if not elements:
            whole = [row for row in tasks if row.idx == WHOLE]
            return JobRecord(replace(job, spec=""), whole, [])
        live = [row for row in self._attempts.get(job.job_id, {}).values() if row.state in HELD]
        return JobRecord(job, tasks, sorted(live, key=attrgetter("fence")))

    def spec(self, job_id: int) -> str | None:
        """The spec of a job as JSON, which may be megabytes; None if there is no such job."""
        with self._lock:
            job = self._jobs.get(job_id)
            return job.spec if job is not None else None

    def jobs(
        self,
        *,
        states: frozenset[State],
        queue: str | None,
        before: int | None,
        limit: int,
        search: str | None = None,
    ) -> list[JobRow]:
        """Jobs in one of these states (none given: any), the newest first, ids below `before`.

        With `search`: those whose name has it in it, capital letters of ASCII or not, and the one
        whose id it is.

        Their `spec` is left empty.
        """
        with self._lock:
            rows = [self._jobs[job_id] for job_id in sorted(self._jobs, reverse=True)]
        fitting = (
            row
            for row in rows
            if (before is None or row.job_id < before)
            and (not states or row.state in states)
            and queue in (None, row.queue)
            and (search is None or _is_found(row, search))
        )
        return [replace(row, spec="") for row in islice(fitting, limit)]

    def elements(
        self, job_id: int, task: str, *, states: frozenset[State], after: int, limit: int
    ) -> list[TaskRow]:
        """Rows of elements (not WHOLE) with an index above `after`, by index."""
        with self._lock:
            rows = list(self._tasks.get(job_id, {}).values())
        fitting = [
            row
            for row in rows
            if row.task == task
            and row.idx > max(after, WHOLE)
            and (not states or row.state in states)
        ]
        return sorted(fitting, key=_by_key)[:limit]

    def tally(
        self, job_id: int, task: str, first: int, end: int, *, every: int
    ) -> list[tuple[int, State, int]]:
        """Rows of elements with `first` <= index < `end`, counted: (span, state, count), by span.

        Span 0 begins at `first`, and each has `every` indexes.
        """
        with self._lock:
            rows = list(self._tasks.get(job_id, {}).values())
        counts = Counter(
            ((row.idx - first) // every, row.state)
            for row in rows
            if row.task == task and first <= row.idx < end
        )
        return sorted((span, state, count) for (span, state), count in counts.items())

    def attempts(
        self, job_id: int, task: str | None, idx: int | None, *, limit: int
    ) -> list[AttemptRow]:
        """Attempts of a job, a task or an element, the newest first: by fence, descending."""
        with self._lock:
            rows = list(self._attempts.get(job_id, {}).values())
        fitting = [row for row in rows if task in (None, row.task) and idx in (None, row.idx)]
        return sorted(fitting, key=attrgetter("fence"), reverse=True)[:limit]

    def backup(self, target: Path) -> None:
        """Raise Unavailable: what is not on a disk has no copy."""
        raise Unavailable(
            f"This scheduler keeps its jobs in memory alone: {target} can't be written.",
            code="store_failed",
        )

    def close(self) -> None:
        """Nothing to let go of: whoever has this store may load it again."""


def _is_found(job: JobRow, search: str) -> bool:
    return str(job.job_id) == search or _lower(search) in _lower(job.name)


def _lower(text: str) -> str:
    """As SQLite has it: other letters than those of ASCII stay as they are."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _past(job: JobRow) -> Past:
    ended_at = job.submitted_at if job.ended_at is None else job.ended_at
    return Past(job.job_id, job.state, job.key, job.digest, ended_at)
