"""What is left to write of the changes of many steps."""

from collections.abc import Sequence
from typing import Any

from dtask.core.jobs.rows import AttemptRow, Change, Forget, JobRow, QueueRow, Row, TaskRow


class Batch:
    """Each key once, with its last row; and jobs to be forgotten before the rows are written.

    What a job had before it was forgotten is not in `rows` any more.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        #: By table and key, the last one first.
        self.rows: dict[type[Row], dict[tuple[Any, ...], Any]] = {
            QueueRow: {},
            JobRow: {},
            TaskRow: {},
            AttemptRow: {},
        }
        self.forgotten: set[int] = set()
        #: The highest that were never written, because their job was forgotten at once.
        self.last_job_id = 0
        self.last_fence = 0
        for change in reversed(changes):
            if isinstance(change, Forget):
                self.forgotten.add(change.job_id)
                continue
            key = change.key_of
            if key[0] in self.forgotten:
                self._drop(change)
            else:
                self.rows[type(change)].setdefault(key, change)

    def _drop(self, row: Row) -> None:
        if isinstance(row, JobRow):
            self.last_job_id = max(self.last_job_id, row.job_id)
        elif isinstance(row, AttemptRow):
            self.last_fence = max(self.last_fence, row.fence)
