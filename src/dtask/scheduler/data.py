"""What a scheduler keeps on disk, in one directory that no two of them share.

DATA/lock           held by the scheduler that uses it
DATA/dtask.db       jobs, tasks, attempts, queues: SQLite; -wal and -shm beside it
DATA/logs/          what attempts wrote
DATA/blobs/         files that jobs brought along
DATA/sessions       hashes of the sessions of browsers that are signed in
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from dtask.errors import Unavailable
from dtask.scheduler.blobs import Blobs
from dtask.scheduler.logs import Logs
from dtask.store.base import Store
from dtask.store.memory import MemoryStore
from dtask.store.sqlite import SqliteStore

DATABASE: Final = "dtask.db"


class Data:
    """All of it, open. Raises Conflict if another scheduler has it, or Unavailable.

    Without a directory the store is in memory, and the rest in a directory that goes in the end.
    """

    def __init__(self, directory: Path | None, *, log_bytes_max: int) -> None:
        self._passing = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="dtask-"))
        store = None if directory is None else SqliteStore(directory / DATABASE)
        self.store: Store = store or MemoryStore()
        try:
            self.blobs = Blobs(self.directory / "blobs")
            self.logs = Logs(self.directory / "logs", log_bytes_max=log_bytes_max)
            if store is not None and store.has_come():
                _adopt(store, self.logs)
        except OSError as error:
            self.store.close()
            raise Unavailable(
                f"The data directory {self.directory} can't be used ({error.strerror}): name one "
                f"with --data that this user may write.",
                code="store_failed",
            ) from None
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """Let go of everything. The store is closed before."""
        self.logs.close()
        if self._passing:
            shutil.rmtree(self.directory, ignore_errors=True)


def _adopt(store: SqliteStore, logs: Logs) -> None:
    """The store has come to these logs: keep those of attempts that it knows.

    An attempt that it is yet to make may have the name of one that ran after the backup was made,
    and must not find that one's log. Raises OSError and Unavailable.
    """
    logs.keep(store.attempt_keys)
    store.settle()
