import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pytest

from dtask.core.jobs.rows import WHOLE, AttemptRow, Forget, JobRow, QueueRow, TaskRow
from dtask.core.jobs.states import State
from dtask.errors import Conflict, DtaskError, Unavailable
from dtask.store import file, migrations, sqlite
from dtask.store.sqlite import SqliteStore
from store import conformance
from store.rows import attempt, job, queue, task

ANY = frozenset[State]()


class Directory:
    """A home on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> SqliteStore:
        return SqliteStore(self._path / "dtask.db")

    def another(self) -> "Directory":
        return Directory(Path(tempfile.mkdtemp(dir=self._path.parent)))


@pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
def test_as_every_store(case: conformance.Case, tmp_path: Path) -> None:
    case(Directory(tmp_path / "home"))


def test_it_answers_as_a_dict_would_while_forgotten_jobs_are_deleted_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SWEPT_ROWS_MAX", 2)
    conformance.it_answers_as_a_dict_of_rows_would(Directory(tmp_path / "home"))


def test_the_rows_of_a_forgotten_job_are_deleted_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    store = SqliteStore(path)
    rows = 3 * sqlite.SWEPT_ROWS_MAX
    attempts = [attempt(idx + 1, 1, "a", idx) for idx in range(rows)]
    store.commit([job(1), *(task(1, "a", idx) for idx in range(rows)), *attempts])
    left = []
    store.commit([conformance.Forget(1)])
    while (tables := [count(path, table) for table in ("task", "attempt")]) != [0, 0]:
        left.append(tables)
        store.commit([queue("q")])
    assert left == [[rows // 3 * 2] * 2, [rows // 3] * 2]
    store.commit([queue("q")])
    assert count(path, "forgotten") == 0
    store.close()


# The directory and the file


def test_the_directory_is_made_and_open_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "dtask.db"
    store = SqliteStore(path)
    store.commit([job(1)])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert files == dict.fromkeys(["dtask.db", "dtask.db-shm", "dtask.db-wal", "lock"], 0o600)
    store.close()


def test_commits_are_synced_to_a_log_written_ahead(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "dtask.db")
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_a_second_scheduler_is_told_who_uses_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    first = SqliteStore(path)
    with pytest.raises(Conflict, match=rf"process {os.getpid()}\) uses {tmp_path}.*--data") as no:
        SqliteStore(path)
    assert no.value.code == "store_in_use"
    first.commit([job(1)])
    first.close()
    SqliteStore(path).close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert refused(tmp_path / "file" / "data" / "dtask.db", "Not a directory") == "store_failed"


_AS_NOBODY = """
import os, sys
from pathlib import Path
from dtask.errors import Unavailable
from dtask.store.sqlite import SqliteStore
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    SqliteStore(Path(sys.argv[1]))
except Unavailable as error:
    print(error.code, error)
"""


def test_a_directory_that_may_not_be_written_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        ended = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, f"{name}/dtask.db"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert ended.stdout.startswith("store_failed ")
    assert name in ended.stdout
    assert "--data" in ended.stdout


# Files that are not what they should be


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE job (what)")
    before = path.read_bytes()
    assert refused(path, "is not dtask's") == "store_corrupt"
    assert path.read_bytes() == before


def test_a_text_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    path.write_text("tasks:\n" * 1_000)
    assert refused(path, "is damaged") == "store_corrupt"
    assert path.read_text() == "tasks:\n" * 1_000


def test_a_file_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    newer = len(migrations.MIGRATIONS) + 1
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    before = path.read_bytes()
    assert refused(path, f"newer dtask .*version {newer}") == "store_newer"
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["head", "middle", "end"])
def test_a_damaged_file_is_refused_as_it_is_and_not_for_ever_locked(
    tmp_path: Path, place: str
) -> None:
    path = filled(tmp_path)
    sound = path.read_bytes()
    harmed = bytearray(sound)
    if place == "head":
        harmed[:64] = bytes(64)
    elif place == "middle":
        start = len(harmed) // 2 & ~4095
        harmed[start : start + 8192] = os.urandom(8192)
    else:
        del harmed[-20_000:]
    path.write_bytes(harmed)
    assert refused(path, "is damaged|is not dtask's") == "store_corrupt"
    assert path.read_bytes() == harmed
    path.write_bytes(sound)
    store = SqliteStore(path)
    assert len(store.load().jobs) == 500
    store.close()


def test_damage_that_is_found_later_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "CHECKED_BYTES_MAX", 0)
    path = filled(tmp_path)
    with path.open("r+b") as harmed:
        harmed.seek(path.stat().st_size // 2 & ~4095)
        harmed.write(os.urandom(40_960))
    store = SqliteStore(path)
    with pytest.raises(Unavailable, match="is damaged") as found:
        store.load()
    assert found.value.code == "store_corrupt"
    store.close()


def test_a_word_that_nobody_wrote_is_damage(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET state = 'asleep' WHERE job_id = 7")
    store = SqliteStore(path)
    with pytest.raises(Unavailable, match="asleep") as found:
        store.record(7)
    assert found.value.code == "store_corrupt"
    assert store.record(8) is not None
    store.close()


# Beside other processes


def test_reads_go_on_while_another_process_writes(tmp_path: Path) -> None:
    path = filled(tmp_path)
    store = SqliteStore(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM job")
        assert store.record(1) is not None
        assert len(store.load().jobs) == 500
    store.close()


def test_a_commit_that_another_process_holds_up_for_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_S", 0.01)
    path = filled(tmp_path)
    store = SqliteStore(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process") as found:
            store.commit([job(501)])
    assert found.value.code == "store_failed"
    store.commit([job(502)])
    assert store.record(501) is None
    assert store.record(502) is not None
    store.close()


def test_people_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    store = SqliteStore(path)
    store.commit([job(42, State.FAILED, ended_at=1.7e9), task(42, "tile", 7, State.FAILED)])
    store.commit([attempt(9, 42, "tile", 7, 2, worker_id="alpha"), task(42, "join")])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((state, ended),) = connection.execute("SELECT state, ended FROM jobs").fetchall()
        assert state == "failed"
        assert time.mktime(time.strptime(ended, "%Y-%m-%d %H:%M:%S")) == 1_700_000_000
        assert connection.execute("SELECT name, state FROM tasks ORDER BY name").fetchall() == [
            ("42/join", "queued"),
            ("42/tile[7]", "failed"),
        ]
        assert connection.execute("SELECT name, worker_id, state FROM attempts").fetchall() == [
            ("42/tile[7]#2", "alpha", "running")
        ]
    store.close()


# Versions


@pytest.mark.parametrize("version", range(len(migrations.MIGRATIONS)))
def test_a_file_of_every_older_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path, fresh = tmp_path / "old" / "dtask.db", tmp_path / "new" / "dtask.db"
    path.parent.mkdir()
    with contextlib.closing(file.connect(path)) as connection:
        migrations.migrate(connection, migrations.MIGRATIONS[:version])
    for made in (path, fresh):
        store = SqliteStore(made)
        store.commit([job(1)])
        store.close()
    assert schema(path) == schema(fresh)


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    path = filled(tmp_path)
    before = schema(path)
    steps = [*migrations.MIGRATIONS, ["CREATE TABLE good (a)", "CREATE TABLE job (b)"]]
    with contextlib.closing(file.connect(path)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrations.migrate(connection, steps)
        steps[-1] = ["ALTER TABLE job ADD COLUMN good"]
        migrations.migrate(connection, steps)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert connection.execute("SELECT count(good) FROM job").fetchone() == (0,)
    assert schema(path) != before


@pytest.mark.parametrize("row", [JobRow, TaskRow, AttemptRow, QueueRow])
def test_every_field_of_a_row_has_its_column(tmp_path: Path, row: type[JobRow]) -> None:
    kinds = {int: "INTEGER", bool: "INTEGER", float: "REAL"}
    with contextlib.closing(sqlite3.connect(filled(tmp_path))) as connection:
        columns = {
            name: kind
            for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({row.table})")
        }
    assert columns == {
        field.name: next(
            (
                kinds[one]
                for one in (field.type, *getattr(field.type, "__args__", ()))
                if one in kinds
            ),
            "TEXT",
        )
        for field in msgspec.structs.fields(row)
    }


# Backups


def test_a_backup_is_a_store_with_all_that_was_committed(tmp_path: Path) -> None:
    store = SqliteStore(filled(tmp_path))
    target = tmp_path / "copy" / "dtask.db"
    target.parent.mkdir()
    begun, done = threading.Event(), threading.Event()
    committed = [500]

    def commit() -> None:
        while not done.is_set():
            store.commit([job(committed[-1] + 1)])
            committed.append(committed[-1] + 1)
            begun.set()

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        assert begun.wait(10)
        before = committed[-1]
        store.backup(target)
    finally:
        done.set()
        writer.join()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["dtask.db"]
    copy = SqliteStore(target)
    assert before <= copy.load().last_job_id <= committed[-1]
    assert copy.load().cluster_id == store.load().cluster_id
    assert copy.record(500) == store.record(500)
    copy.close()
    store.close()


def test_a_backup_is_not_mixed_with_the_log_of_the_file_that_it_replaces(tmp_path: Path) -> None:
    path = filled(tmp_path)
    store = SqliteStore(path)
    store.backup(tmp_path / "copy")
    store.commit([job(501)])
    log = path.with_name("dtask.db-wal")
    left = log.read_bytes()
    store.close()
    (tmp_path / "copy").rename(path)
    log.write_bytes(left)  # as a process that was killed leaves it
    assert refused(path, "remove dtask.db-wal") == "store_corrupt"
    assert log.read_bytes() == left
    log.unlink()
    store = SqliteStore(path)
    assert store.load().last_job_id == 500
    store.close()


def test_a_file_has_come_when_it_is_new_or_a_backup_until_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "dtask.db"
    path.touch(mode=0o600)  # a scheduler that was killed before it had made the tables
    for _ in range(2):  # or before it had settled
        store = SqliteStore(path)
        assert store.has_come()
        store.close()
    store = SqliteStore(path)
    store.settle()
    assert not store.has_come()
    store.backup(tmp_path / "copy")
    store.close()
    store = SqliteStore(path)
    assert not store.has_come()
    store.close()
    path.unlink()
    (tmp_path / "copy").rename(path)
    for _ in range(2):
        store = SqliteStore(path)
        assert store.has_come()
        store.close()


def test_attempts_are_known_by_their_keys(tmp_path: Path) -> None:
    store = SqliteStore(filled(tmp_path))
    store.commit([attempt(1, 500), attempt(2, 500, number=2), attempt(3, 500, idx=7)])
    rows = store.attempts(500, None, None, limit=999)
    assert len(rows) == 3
    assert store.attempt_keys(500) == {(row.task, row.idx, row.number) for row in rows}
    store.commit([Forget(500)])
    assert store.attempt_keys(500) == store.attempt_keys(12_345) == set()
    store.close()


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    store = SqliteStore(filled(tmp_path))
    target = tmp_path / "copy"
    for there in (lambda: target.write_text("mine"), lambda: target.symlink_to("nowhere")):
        there()
        with pytest.raises(Conflict, match="is there already") as found:
            store.backup(target)
        assert found.value.code == "file_exists"
        assert target.is_symlink() or target.read_text() == "mine"
        target.unlink()
    store.close()


def test_a_backup_into_a_missing_directory_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(filled(tmp_path))
    with pytest.raises(Unavailable, match="missing/copy") as found:
        store.backup(tmp_path / "missing" / "copy")
    assert found.value.code == "store_failed"
    store.close()


_BACKUP_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from dtask.errors import Unavailable
from dtask.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    store.backup(Path(sys.argv[2]))
except Unavailable as error:
    print(error.code)
"""


def test_a_backup_on_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    path = filled(tmp_path)
    directory = tmp_path / "small"
    directory.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", _BACKUP_ON_A_FULL_DISK, path, directory / "copy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "store_failed\n"
    assert list(directory.iterdir()) == []


def refused(path: Path, pattern: str) -> str:
    """The code with which a store is not opened; its sentence names the file or directory."""
    with pytest.raises(DtaskError, match=pattern) as found:
        SqliteStore(path)
    assert str(path.parent) in str(found.value)
    return found.value.code


def filled(directory: Path) -> Path:
    """A file of 500 jobs, of some 300 KB."""
    path = directory / "data" / "dtask.db"
    store = SqliteStore(path)
    store.commit(job(job_id, digest="d" * 300) for job_id in range(1, 501))
    store.commit(task(job_id, idx=WHOLE) for job_id in range(1, 501))
    store.close()
    return path


def schema(path: Path) -> set[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT name, sql FROM sqlite_schema"))


def count(path: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
