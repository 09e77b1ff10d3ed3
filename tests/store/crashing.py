"""A process that commits numbered batches to a store, and tells of each that is durable.

    python crashing.py PATH FIRST [FILE_BYTES_MAX]

Batch N is a job of that number with so many tasks and attempts as `rows_of` says, and forgets
job N - KEPT. With a limit to the size of files, a commit that is refused is told as "full", and
the batch is committed again without the limit.
"""

import itertools
import resource
import sys
from pathlib import Path

from dtask.core.jobs.rows import AttemptRow, Change, Forget, JobRow, TaskRow
from dtask.core.jobs.states import State
from dtask.errors import Unavailable
from dtask.store.sqlite import SqliteStore

KEPT = 40


def rows_of(number: int) -> int:
    """Rows of each table, from a few to many."""
    return 1 + number * 37 % 300


def batch(number: int) -> list[Change]:
    changes: list[Change] = [
        JobRow(
            job_id=number,
            name="x" * 500,
            queue="",
            priority=0,
            key=None,
            digest="",
            state=State.SUCCEEDED,
            submitted_at=1.0,
            ended_at=2.0,
            cancelled=False,
            spec="{}",
        )
    ]
    for idx in range(rows_of(number)):
        fence = number * 1_000 + idx
        changes.append(TaskRow(number, "a", idx, State.SUCCEEDED, None, None))
        changes.append(AttemptRow(number, "a", idx, 1, fence, "w", State.SUCCEEDED, 1.0))
    if number > KEPT:
        changes.append(Forget(number - KEPT))
    return changes


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    path, first, *limit = sys.argv[1:]
    store = SqliteStore(Path(path))
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), resource.RLIM_INFINITY))
    for number in itertools.count(int(first)):
        try:
            store.commit(batch(number))
        except Unavailable as error:
            tell(f"full {error.code} {error}")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            store.commit(batch(number))
        tell(str(number))


if __name__ == "__main__":
    main()
