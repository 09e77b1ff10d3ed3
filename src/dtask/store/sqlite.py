"""The store on disk: one SQLite file, in WAL mode, synced at each commit.

One connection writes, and belongs to whoever commits. Reads have connections of their own, so
they see the last commit and wait for none. The lock beside the file keeps a second scheduler out;
people may read the file with the `sqlite3` command at any time.
"""

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from dtask.core.jobs.rows import AttemptRow, Change, JobRecord, JobRow, Snapshot, TaskRow
from dtask.core.jobs.states import State
from dtask.errors import Conflict
from dtask.store import file, queries
from dtask.store.batch import Batch
from dtask.store.lock import Lock
from dtask.store.tables import TABLES

#: Rows of forgotten jobs that one commit deletes, so that none waits for a million of them.
SWEPT_ROWS_MAX: Final = 2_000

#: Tables with rows of jobs, and what their keys hold beside the job.
_OF_JOBS: Final = (("task", "task, idx"), ("attempt", "task, idx, number"))


class SqliteStore:
    """The file at `path`, made with its directory if it is missing. The lock is beside it.

    Raises Conflict if another scheduler uses the directory, or a newer dtask wrote the file;
    Unavailable if it can't be read or written, is damaged, or isn't dtask's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Connections that nobody reads from just now.
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        self._lock = Lock(path.parent)
        try:
            with file.told(path):
                self._writer = file.open_to_write(path)
                #: Jobs of which rows are left that nobody sees any more.
                self._unswept = set(queries.ids(self._writer, "SELECT job_id FROM forgotten"))
        except BaseException:
            self._lock.release()
            raise

    # Writing

    def commit(self, changes: Iterable[Change]) -> None:
        """Make all of these durable, in this order, or none. Called by one thread at a time.

        Returns when they would outlive a power loss. Raises Unavailable if they may not.
        """
        batch = Batch(list(changes))
        writer = self._writer
        with file.told(self._path):
            try:
                writer.execute("BEGIN IMMEDIATE")
                unswept = self._forget(batch)
                for kind, rows in batch.rows.items():
                    if rows:
                        TABLES[kind].write(writer, list(reversed(rows.values())))
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        writer.execute("ROLLBACK")
                raise
        self._unswept = unswept

    def _forget(self, batch: Batch) -> set[int]:
        """Hide jobs, and delete some rows of the hidden ones; the jobs that have rows left."""
        unswept = self._unswept | batch.forgotten
        if not unswept:
            return unswept
        if batch.forgotten:
            self._hide(batch)
        written = {key[0] for rows in batch.rows.values() for key in rows}
        # Rows of a job must not meet those of a life that was forgotten.
        rows_max = SWEPT_ROWS_MAX if written.isdisjoint(unswept) else None
        if not self._sweep(rows_max):
            return unswept
        self._writer.execute("DELETE FROM forgotten")
        return set()

    def _hide(self, batch: Batch) -> None:
        """Delete the rows of the jobs themselves; keep the highest numbers, as none comes again."""
        writer, ids = self._writer, (json.dumps(list(batch.forgotten)),)
        (job_id,) = writer.execute(
            "SELECT max(job_id) FROM job WHERE job_id IN (SELECT value FROM json_each(?))", ids
        ).fetchone()
        (fence,) = writer.execute(
            "SELECT max((SELECT max(fence) FROM attempt WHERE job_id = value)) FROM json_each(?)",
            ids,
        ).fetchone()
        for name, highest in (
            ("last_job_id", max(job_id or 0, batch.last_job_id)),
            ("last_fence", max(fence or 0, batch.last_fence)),
        ):
            writer.execute("UPDATE meta SET value = max(value, ?) WHERE name = ?", (highest, name))
        writer.execute("INSERT OR IGNORE INTO forgotten SELECT value FROM json_each(?)", ids)
        writer.execute("DELETE FROM job WHERE job_id IN (SELECT value FROM json_each(?))", ids)

    def _sweep(self, rows_max: int | None) -> bool:
        """Delete so many rows at most of each table (None: all); whether none are left."""
        clean = True
        for table, columns in _OF_JOBS:
            whole_below = queries.ANY
            last = self._last_to_sweep(table, columns, rows_max)
            if last is not None:
                clean = False
                whole_below = last[0]
                self._writer.execute(
                    f"DELETE FROM {table} WHERE job_id = ? "
                    f"AND ({columns}) <= ({', '.join('?' * (len(last) - 1))})",
                    last,
                )
            self._writer.execute(
                f"DELETE FROM {table} WHERE job_id IN "
                f"(SELECT job_id FROM forgotten WHERE job_id < ?)",
                (whole_below,),
            )
        return clean

    def _last_to_sweep(
        self, table: str, columns: str, rows_max: int | None
    ) -> tuple[Any, ...] | None:
        """The key up to which as many rows are hidden; None if there are fewer."""
        if rows_max is None:
            return None
        found = self._writer.execute(
            f"SELECT job_id, {columns} FROM forgotten CROSS JOIN {table} USING (job_id) "
            f"ORDER BY job_id, {columns} LIMIT 1 OFFSET ?",
            (rows_max - 1,),
        ).fetchone()
        key: tuple[Any, ...] | None = found
        return key

    # Reading

    def load(self) -> Snapshot:
        """What a scheduler needs to go on. Raises Unavailable."""
        with self._reading() as reader:
            return queries.snapshot(reader)

    def record(self, job_id: int, *, elements: bool = True) -> JobRecord | None:
        """All that is kept of one job, but for the attempts that ended.

        Without `elements`: of its tasks only the rows as a whole, no live attempts, and no `spec`.
        """
        with self._reading() as reader:
            if not elements:
                return queries.outline(reader, job_id)
            return next(iter(queries.records(reader, [job_id])), None)

    def spec(self, job_id: int) -> str | None:
        """The spec of a job as JSON, which may be megabytes; None if there is no such job."""
        with self._reading() as reader:
            return queries.spec(reader, job_id)

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
        with self._reading() as reader:
            return queries.jobs(
                reader, states=states, queue=queue, before=before, limit=limit, search=search
            )

    def elements(
        self, job_id: int, task: str, *, states: frozenset[State], after: int, limit: int
    ) -> list[TaskRow]:
        """Rows of elements (not WHOLE) with an index above `after`, by index."""
        with self._reading() as reader:
            return queries.elements(reader, job_id, task, states=states, after=after, limit=limit)

    def tally(
        self, job_id: int, task: str, first: int, end: int, *, every: int
    ) -> list[tuple[int, State, int]]:
        """Rows of elements with `first` <= index < `end`, counted: (span, state, count), by span.

        Span 0 begins at `first`, and each has `every` indexes.
        """
        with self._reading() as reader:
            return queries.tally(reader, job_id, task, first, end, every=every)

    def attempts(
        self, job_id: int, task: str | None, idx: int | None, *, limit: int
    ) -> list[AttemptRow]:
        """Attempts of a job, a task or an element, the newest first: by fence, descending."""
        with self._reading() as reader:
            return queries.attempts(reader, job_id, task, idx, limit=limit)

    def backup(self, target: Path) -> None:
        """Write a copy of what is committed to `target`, which must not exist yet.

        Raises Unavailable or Conflict.
        """
        if os.path.lexists(target):
            raise _there(target)
        part = target.with_name(f".dtask-{secrets.token_hex(8)}.part")
        with file.told(target):
            try:
                file.touch(part)
                with contextlib.closing(file.connect(self._path)) as copier:
                    copier.execute("VACUUM INTO ?", (str(part),))
                file.sync(part)
                file.name(part, target)
            except FileExistsError:
                raise _there(target) from None
            finally:
                part.unlink(missing_ok=True)

    # What lies beside it

    def has_come(self) -> bool:
        """Whether the file was made, or put there from a backup, and `settle` was not called yet.

        Then logs beside it may be of attempts that it does not know. Raises Unavailable.
        """
        with file.told(self._path):
            return file.has_come(self._writer)

    def attempt_keys(self, job_id: int) -> set[tuple[str, int, int]]:
        """(task, idx, number) of all attempts of a job. Raises Unavailable."""
        with self._reading() as reader:
            return queries.attempt_keys(reader, job_id)

    def settle(self) -> None:
        """From now on what lies beside the file is its own. Raises Unavailable."""
        with file.told(self._path):
            file.settle(self._writer)

    # Life

    def close(self) -> None:
        """Let go of everything. May be called twice."""
        self._closed = True
        while self._readers:
            self._readers.pop().close()
        self._writer.close()
        self._lock.release()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one commit throughout. Raises Unavailable."""
        with file.told(self._path):
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = file.connect(self._path)
            try:
                reader.execute("BEGIN")
                yield reader
                reader.execute("COMMIT")
            except BaseException:
                reader.close()
                raise
        self._readers.append(reader)
        if self._closed:
            self.close()


def _there(target: Path) -> Conflict:
    return Conflict(f"{target} is there already: name a file that is not.", code="file_exists")
