"""One scheduler a data directory: a lock that lasts as long as the process that holds it."""

import contextlib
import fcntl
import os
from pathlib import Path

from dtask.errors import Conflict, Unavailable


class Lock:
    """`DIRECTORY/lock`, locked. It holds the number of the process, for people.

    Makes the directory if it is missing. Raises Conflict if another holds the lock, Unavailable
    if the directory can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor = -1
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The data directory {directory} can't be used ({error.strerror}): name one with "
                f"--data that this user may write.",
                code="store_failed",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise Conflict(
                f"Another scheduler (process {holder or 'unknown'}) uses {directory}: stop it, or "
                f"give this one another directory with --data.",
                code="store_in_use",
            ) from None
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # a full disk may lack the number
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another scheduler have it. May be called twice."""
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1
