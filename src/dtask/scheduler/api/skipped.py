"""What a task was skipped for: which of its needs, or which earlier job, did not succeed.

It is looked up when somebody asks, and nothing is told if a retry has mended it meanwhile.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Final

from dtask.core.jobs.again import DID
from dtask.core.jobs.rows import TaskRow
from dtask.core.jobs.states import Cause, State
from dtask.store.base import Store

#: Earlier jobs that are looked at, at most.
EARLIER_MAX: Final = 100


class Skipped:
    """The tasks of one job, whose rows these are, and the jobs that it comes after."""

    def __init__(self, store: Store, rows: Mapping[str, TaskRow], after: Iterable[int]) -> None:
        self._store = store
        self._rows = rows
        self._after = after

    def told(self, row: TaskRow, needs: Iterable[str]) -> str | None:
        """What this row was skipped for, in a sentence; None if it was not, or nobody knows."""
        if row.cause is not Cause.UPSTREAM:
            return None
        for need in needs:
            if (state := self._rows[need].state) in DID:
                return f"It needs {need}, which {DID[state]}."
        return self._earlier

    @cached_property
    def _earlier(self) -> str | None:
        for job_id in islice(self._after, EARLIER_MAX):
            state = self._state(job_id)
            if state in DID:
                return f"It comes after job {job_id}, which {DID[state]}."
        return None

    def _state(self, job_id: int) -> State | None:
        record = self._store.record(job_id, elements=False)
        return None if record is None else record.job.state
