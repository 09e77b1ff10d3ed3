"""The tables of a dtask.db, as numbered steps from an empty file.

A step is never changed once it was released: what is to be different is another step. Each runs in
a transaction of its own, and `PRAGMA user_version` counts those that have. The views are for
people with the `sqlite3` command; nothing here reads them.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

#: Marks a file as dtask's: "dtsk".
APPLICATION_ID: Final = 0x6474736B

_FIRST: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    """CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID""",
    """INSERT INTO meta VALUES
        ('cluster_id', lower(hex(randomblob(16)))), ('last_job_id', 0), ('last_fence', 0),
        ('come', 1)""",
    """CREATE TABLE queue (
        name TEXT PRIMARY KEY,
        max_running INTEGER,
        max_queued INTEGER,
        weight REAL,
        paused INTEGER
    ) WITHOUT ROWID""",
    """CREATE TABLE job (
        job_id INTEGER PRIMARY KEY,
        name TEXT,
        queue TEXT,
        priority INTEGER,
        key TEXT,
        digest TEXT,
        state TEXT,
        submitted_at REAL,
        ended_at REAL,
        cancelled INTEGER,
        spec TEXT
    )""",
    "CREATE INDEX job_by_state ON job (state)",
    """CREATE TABLE task (
        job_id INTEGER,
        task TEXT,
        idx INTEGER,
        state TEXT,
        rest TEXT,
        counts TEXT,
        number INTEGER,
        failures INTEGER,
        crashes INTEGER,
        not_before REAL,
        queued_at REAL,
        ended_at REAL,
        exit_code INTEGER,
        cause TEXT,
        error TEXT,
        PRIMARY KEY (job_id, task, idx)
    ) WITHOUT ROWID""",
    """CREATE TABLE attempt (
        job_id INTEGER,
        task TEXT,
        idx INTEGER,
        number INTEGER,
        fence INTEGER,
        worker_id TEXT,
        state TEXT,
        scheduled_at REAL,
        started_at REAL,
        ended_at REAL,
        exit_code INTEGER,
        cause TEXT,
        error TEXT,
        stdout_bytes INTEGER,
        stderr_bytes INTEGER,
        result_bytes INTEGER,
        truncated INTEGER,
        log_lost INTEGER,
        cpu_s REAL,
        max_rss_bytes INTEGER,
        stopping INTEGER,
        PRIMARY KEY (job_id, task, idx, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX attempt_by_fence ON attempt (job_id, fence, state)",
    # Jobs that were forgotten, and whose tasks and attempts are still to be deleted.
    "CREATE TABLE forgotten (job_id INTEGER PRIMARY KEY)",
    """CREATE VIEW jobs AS SELECT job_id, name, queue, priority, state,
        datetime(submitted_at, 'unixepoch', 'localtime') AS submitted,
        datetime(ended_at, 'unixepoch', 'localtime') AS ended
        FROM job""",
    """CREATE VIEW tasks AS SELECT
        job_id || '/' || task || iif(idx < 0, '', '[' || idx || ']') AS name, state, number,
        failures, crashes, datetime(queued_at, 'unixepoch', 'localtime') AS queued,
        datetime(ended_at, 'unixepoch', 'localtime') AS ended, exit_code, cause, error
        FROM task""",
    """CREATE VIEW attempts AS SELECT
        job_id || '/' || task || iif(idx < 0, '', '[' || idx || ']') || '#' || number AS name,
        worker_id, state, datetime(scheduled_at, 'unixepoch', 'localtime') AS scheduled,
        datetime(started_at, 'unixepoch', 'localtime') AS started,
        datetime(ended_at, 'unixepoch', 'localtime') AS ended, exit_code, cause, error
        FROM attempt""",
)

#: All steps: the first makes version 1.
MIGRATIONS: Final[Sequence[Sequence[str]]] = (_FIRST,)


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Take the steps that the file has not seen yet. Raises sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number in range(version + 1, len(migrations) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
