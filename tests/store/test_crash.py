"""A process that dies in the middle of a commit, or meets a full disk, loses nothing it told."""

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dtask.core.jobs.states import State
from dtask.errors import Unavailable
from dtask.store.sqlite import SqliteStore
from store import crashing

ANY = frozenset[State]()
ROUNDS = 8


def lines_of(path: Path, first: int, *limit: str, enough: Callable[[str], bool]) -> list[str]:
    """What the process tells until it is killed: as soon as a line is `enough`."""
    command = [sys.executable, Path(crashing.__file__), path, str(first), *limit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if enough(line):
                process.kill()
    assert process.returncode == -9
    return lines


def check(store: SqliteStore, told: int) -> int:
    """Every batch that was told is there, and each that is there is there whole; the last one."""
    last = store.load().last_job_id
    assert told <= last <= told + 1  # one was committed perhaps, and could not be told
    kept = [row.job_id for row in store.jobs(states=ANY, queue=None, before=None, limit=999)]
    assert kept == list(range(last, max(0, last - crashing.KEPT), -1))
    for number in range(1, last + 1):
        rows = crashing.rows_of(number) if number in kept else 0
        assert len(store.elements(number, "a", states=ANY, after=-1, limit=999)) == rows
        assert len(store.attempts(number, None, None, limit=999)) == rows
    return last


def test_a_process_killed_in_the_middle_of_a_commit_loses_nothing_that_it_told(
    tmp_path: Path,
) -> None:
    rng = random.Random(5)
    path = tmp_path / "dtask.db"
    last = 0
    for _ in range(ROUNDS):
        lines = lines_of(path, last + 1, enough=lambda _: rng.random() < 0.04)
        store = SqliteStore(path)
        last = check(store, int(lines[-1]))
        store.close()
    assert last > crashing.KEPT


def test_a_full_disk_refuses_commits_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    after = itertools.count()
    full: list[str] = []

    def enough(line: str) -> bool:
        full.extend([line] if line.startswith("full") else [])
        return bool(full) and next(after) == 5

    lines = lines_of(path, 1, "600000", enough=enough)
    assert len(full) == 1
    assert full[0].startswith("full store_failed ")
    assert str(path) in full[0]
    assert lines.index(full[0]) > 1
    store = SqliteStore(path)
    check(store, int(lines[-1]))
    store.close()


@pytest.mark.parametrize("pages", [30, 60])
def test_a_file_that_may_not_grow_says_that_the_disk_is_full(tmp_path: Path, pages: int) -> None:
    store = SqliteStore(tmp_path / "dtask.db")
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    error = None
    for number in itertools.count(1):
        try:
            store.commit(crashing.batch(number))
        except Unavailable as full:
            error = full
            break
    assert error is not None
    assert error.code == "store_failed"
    assert "the disk is full" in str(error)
    assert number > 1
    check(store, number - 1)
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.commit(crashing.batch(number))
    check(store, number)
    store.close()
