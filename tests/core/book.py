"""What a store would remember: the rows of all changes so far, by key, and nothing else."""

from typing import Any

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


class Book:
    """Rows of five tables, in the plainest way there is."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[int], JobRow] = {}
        self.tasks: dict[tuple[int, str, int], TaskRow] = {}
        self.attempts: dict[tuple[int, str, int, int], AttemptRow] = {}
        self.queues: dict[tuple[str], QueueRow] = {}
        self.last_job_id = 0
        self.last_fence = 0

    def write(self, changes: tuple[Change, ...]) -> None:
        """Apply the changes of a step, in order."""
        tables: dict[type, dict[Any, Any]] = {
            JobRow: self.jobs,
            TaskRow: self.tasks,
            AttemptRow: self.attempts,
            QueueRow: self.queues,
        }
        for change in changes:
            if isinstance(change, Forget):
                for table in (self.jobs, self.tasks, self.attempts):
                    for key in [key for key in table if key[0] == change.job_id]:
                        del table[key]
                continue
            tables[type(change)][change.key_of] = change
            if isinstance(change, JobRow):
                self.last_job_id = max(self.last_job_id, change.job_id)
            if isinstance(change, AttemptRow):
                self.last_fence = max(self.last_fence, change.fence)

    def state(self, job_id: int, task: str = "main", index: int | None = None) -> State:
        """Where a task or element stands."""
        whole = self.tasks[job_id, task, WHOLE]
        if index is None:
            return whole.state
        row = self.tasks.get((job_id, task, index))
        state = row.state if row is not None else whole.rest
        assert state is not None
        return state

    def record(self, job_id: int) -> JobRecord:
        """All of one job, but for the attempts that ended."""
        return JobRecord(
            self.jobs[job_id,],
            [row for key, row in sorted(self.tasks.items()) if key[0] == job_id],
            [
                row
                for key, row in sorted(self.attempts.items())
                if key[0] == job_id and row.state in HELD
            ],
        )

    def snapshot(self) -> Snapshot:
        """What a scheduler begins with."""
        ended = {row.job_id for row in self.jobs.values() if row.state in ENDS}
        return Snapshot(
            "c1",
            [row for _, row in sorted(self.queues.items())],
            [self.record(job_id) for (job_id,) in sorted(self.jobs) if job_id not in ended],
            [
                Past(row.job_id, row.state, row.key, row.digest, row.ended_at or 0.0)
                for _, row in sorted(self.jobs.items())
                if row.job_id in ended
            ],
            self.last_job_id,
            self.last_fence,
        )
