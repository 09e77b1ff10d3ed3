"""The protocol of a store. All logic is the core's; a store keeps rows and gives them back.

Reads see what is committed, and only that. They may be called from any thread, several at a time,
and don't wait for a commit under way. `tests/store/conformance.py` is what every store passes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from dtask.core.jobs.rows import AttemptRow, Change, JobRecord, JobRow, Snapshot, TaskRow
from dtask.core.jobs.states import State


class Store(Protocol):
    """Tables of rows by key. Opened when made; makers raise Unavailable or Conflict."""

    def load(self) -> Snapshot:
        """What a scheduler needs to go on. Raises Unavailable."""
        ...

    def commit(self, changes: Iterable[Change]) -> None:
        """Make all of these durable, in this order, or none. Called by one thread at a time.

        Returns when they would outlive a power loss. Raises Unavailable if they may not: then
        they may be there or not, all of them or none, and `load` tells.
        """
        ...

    def record(self, job_id: int, *, elements: bool = True) -> JobRecord | None:
        """All that is kept of one job, but for the attempts that ended.

        Without `elements`: of its tasks only the rows as a whole, no live attempts, and no `spec`.
        """
        ...

    def spec(self, job_id: int) -> str | None:
        """The spec of a job as JSON, which may be megabytes; None if there is no such job."""
        ...

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

        Their `spec` is left empty: it may be megabytes.
        """
        ...

    def elements(
        self, job_id: int, task: str, *, states: frozenset[State], after: int, limit: int
    ) -> list[TaskRow]:
        """Rows of elements (not WHOLE) with an index above `after`, by index."""
        ...

    def tally(
        self, job_id: int, task: str, first: int, end: int, *, every: int
    ) -> list[tuple[int, State, int]]:
        """Rows of elements with `first` <= index < `end`, counted: (span, state, count), by span.

        Span 0 begins at `first`, and each has `every` indexes.
        """
        ...

    def attempts(
        self, job_id: int, task: str | None, idx: int | None, *, limit: int
    ) -> list[AttemptRow]:
        """Attempts of a job, a task or an element, the newest first: by fence, descending."""
        ...

    def backup(self, target: Path) -> None:
        """Write a copy of what is committed to `target`, which must not exist yet.

        Serving goes on meanwhile. Raises Unavailable or Conflict.
        """
        ...

    def close(self) -> None:
        """Let go of everything. May be called twice."""
        ...
