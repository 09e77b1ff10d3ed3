"""A dtask.db as a file: made, opened, checked, and what is said when it fails."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from dtask.errors import Conflict, Unavailable
from dtask.store.migrations import APPLICATION_ID, MIGRATIONS, migrate

#: A file up to this size is checked as a whole when it is opened: that takes some 0.3 s.
CHECKED_BYTES_MAX: Final = 128 * 1024**2

#: Seconds to wait for another process that writes: an `sqlite3` command.
BUSY_S: Final = 5.0

#: Says what `has_come` tells.
_COME: Final = "INSERT OR REPLACE INTO meta VALUES ('come', 1)"

_CACHE_KIB: Final = 16 * 1024
_WAL_BYTES_KEPT: Final = 64 * 1024**2
_STATEMENTS: Final = 256


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time. Raises sqlite3.Error."""
    return sqlite3.connect(
        path,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )


def open_to_write(path: Path) -> sqlite3.Connection:
    """The connection that writes; makes the file, or brings its tables up to date.

    Raises sqlite3.Error and OSError; Conflict if a newer dtask wrote the file, Unavailable if it
    is damaged or not dtask's.
    """
    if not path.exists():
        touch(path)
        sync(path.parent)
    backup = _is_backup(path)
    connection = connect(path)
    try:
        _check(connection, path)
        if backup:
            connection.execute(_COME)
        _write_ahead(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def has_come(connection: sqlite3.Connection) -> bool:
    """Whether the file was made, or put there from a backup, and nobody has said `settle` yet.

    Then what lies beside it may be another store's, or of a later day than the backup.
    """
    (count,) = connection.execute("SELECT count(*) FROM meta WHERE name = 'come'").fetchone()
    return bool(count)


def settle(connection: sqlite3.Connection) -> None:
    """From now on what lies beside the file is its own."""
    connection.execute("DELETE FROM meta WHERE name = 'come'")


def _is_backup(path: Path) -> bool:
    """A file that has a log says so in its head, and a backup never does before it is opened.

    Refuse one beside the log of the file that it replaced: SQLite would mix the two.
    """
    with path.open("rb") as opened:
        head = opened.read(20)
    log = path.with_name(f"{path.name}-wal")
    if head[18:] != b"\1\1":
        return False
    if log.exists():
        raise Unavailable(
            f"{path} is a backup, and {log} belongs to the file that was there before: remove "
            f"{log.name} and {path.name}-shm, then start again.",
            code="store_corrupt",
        )
    return True


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Look before anything is changed: whose file, of which version, and is it sound?"""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (owner, version, tables) == (0, 0, 0):
        return
    if owner != APPLICATION_ID:
        raise Unavailable(
            f"{path} is not dtask's: move it away, or name another directory with --data.",
            code="store_corrupt",
        )
    if version > len(MIGRATIONS):
        raise Conflict(
            f"{path} was written by a newer dtask (it has version {version}, and this one knows "
            f"{len(MIGRATIONS)}): upgrade this one, or name another directory with --data.",
            code="store_newer",
        )
    if path.stat().st_size <= CHECKED_BYTES_MAX:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise damaged(path, found)


def _write_ahead(connection: sqlite3.Connection, path: Path) -> None:
    """Let reads go on beside a commit."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise Unavailable(
            f"{path} is on a file system where SQLite can't share memory: name a directory on a "
            f"local disk with --data.",
            code="store_failed",
        )


def touch(path: Path) -> None:
    """Make an empty file for its owner alone. Raises FileExistsError and OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a directory. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name(part: Path, target: Path) -> None:
    """Give a file its name for good. Raises FileExistsError and OSError."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, such as exFAT
        if os.path.lexists(target):
            raise FileExistsError from None
        part.rename(target)
    sync(target.parent)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise Unavailable in the place of the errors that a file brings about."""
    try:
        yield
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error
    except msgspec.DecodeError as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise Unavailable(
            f"{path} can't be written ({error.strerror}): name a directory that this user may "
            f"write.",
            code="store_failed",
        ) from None


def damaged(path: Path, what: object) -> Unavailable:
    """The error that says so."""
    return Unavailable(
        f"{path} is damaged ({what}): put a backup in its place, or move it away and start anew.",
        code="store_corrupt",
    )


def _unavailable(path: Path, error: sqlite3.Error) -> Unavailable:
    name: str = getattr(error, "sqlite_errorname", "")
    assert name, error  # sqlite3 itself refused what we did
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return damaged(path, error)
    if name == "SQLITE_FULL":
        sentence = f"{path} can't be written: the disk is full. Make room on it."
    elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        sentence = f"{path} is being written by another process (an sqlite3 command?): end it."
    else:
        sentence = f"{path} can't be read or written: {error} ({name})."
    return Unavailable(sentence, code="store_failed")
