"""Where a worker keeps what its tasks need and leave: a directory an attempt.

    SPOOL/lock                  held by the one agent that uses this spool
    SPOOL/journal               which attempt is which process of which boot, and how those of
                                jobs ended
    SPOOL/attempts/MARK/
        stdout  stderr          appended to by the task itself
        result                  what a task of a job writes there
        stdin                   what it reads there, if it was given something
        work/                   its working directory
    SPOOL/blobs/                files of attempts (see `files`)

All of it lasts as long as the attempt is remembered: an attempt of a job until its scheduler has
heard how it ended, however often the agent dies meanwhile. What an agent that died left here
tells the next one whom to kill; it adopts nothing, because nobody can learn the exit code of a
process that is not one's child. A spool belongs on a local disk.

A directory that an attempt of a job left as empty as it was is used again, once the attempt is
forgotten: making and removing files is most of what a very short task costs. So a mark names a
directory, and attempts one after the other.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

from dtask.errors import Conflict, Unavailable
from dtask.state_home import state_home
from dtask.worker import strays
from dtask.worker.cgroup import Group
from dtask.worker.journal import End, Journal, Key, Launched

_log = logging.getLogger(__name__)

#: Log of one attempt. Each of its two streams may take half, so that a flood on one never drowns
#: what the other says.
LOG_BYTES_MAX: Final = 64 * 1024**2

#: With less room than this on its file system, a spool is full: what a task writes would be lost.
ROOM_BYTES_MIN: Final = 1024**2

#: Leftovers that can't be killed for so long are stuck in the kernel, or another user's.
LEFTOVERS_S: Final = 10.0

#: Names of directories are at most 255 bytes.
_NAME_CHARS_MAX: Final = 200

#: What a task of a job may leave as its result.
RESULT_BYTES_MAX: Final = 1024**2

Stream = Literal["stdout", "stderr", "result"]


#: Directories kept for the next attempts.
IDLE_MAX: Final = 64

_LOGS: Final[tuple[Stream, ...]] = ("stdout", "stderr")

#: What is in a directory that can be used again, and the longest log that is cheaply removed.
_FRESH: Final = {"stdout", "stderr", "work"}
_RENEWED_BYTES_MAX: Final = 64 * 1024

_APPENDED: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Kept(NamedTuple):
    """An attempt of a job that an earlier agent left, dead by now."""

    #: Its directory; None if it has none.
    mark: str | None
    task_id: str
    cluster_id: str
    fence: int
    started_at: float | None
    #: None: it was not over when the agent died.
    end: End | None


class Folder:
    """The directory of one attempt."""

    def __init__(self, path: Path, log_bytes_max: int) -> None:
        self.path = path
        self._at = str(path)
        self._stream_bytes_max = log_bytes_max // 2
        #: There is something on the disk.
        self.made = False
        #: A stream has been cut at its cap.
        self.truncated = False
        #: Bytes of each stream, once nobody writes any more.
        self._settled: dict[Stream, int] | None = None
        #: The working directory was empty when nobody used it any more.
        self._empty = False

    @property
    def mark(self) -> str:
        """The name of the directory."""
        return self._at[self._at.rindex("/") + 1 :]

    @property
    def work(self) -> str:
        """The attempt's working directory."""
        return f"{self._at}/work"

    @property
    def result(self) -> str:
        """Where the task may write its result."""
        return f"{self._at}/result"

    @property
    def stdin(self) -> str:
        """Where its standard input is, if it has one."""
        return f"{self._at}/stdin"

    def create(self) -> None:
        """Make it, unless it is there. Raises OSError."""
        if not self.made:
            os.mkdir(self._at, 0o700)  # noqa: PTH102 (paths of short tasks are plain strings)
            self.made = True
            os.mkdir(self.work, 0o700)  # noqa: PTH102 (same)

    def logs(self) -> tuple[int, int]:
        """Descriptors of stdout and stderr for the task to append to. Raises OSError.

        They are the caller's to close.
        """
        stdout = os.open(f"{self._at}/stdout", _APPENDED, 0o600)
        try:
            return stdout, os.open(f"{self._at}/stderr", _APPENDED, 0o600)
        except OSError:
            os.close(stdout)
            raise

    def settle(self) -> bool:
        """Nobody writes here any more. False if the result is over its limit; then there is none.

        Before, nothing of the result can be read, for it may still change.
        """
        stdout, stderr = self.cut()
        result = self._size("result")
        fits = result <= RESULT_BYTES_MAX
        self._settled = {"stdout": stdout, "stderr": stderr, "result": result if fits else 0}
        return fits

    def log_bytes(self, stream: Stream) -> int:
        """How much of a stream there is to read."""
        if self._settled is not None:
            return self._settled[stream]
        return 0 if stream == "result" else min(self._size(stream), self._stream_bytes_max)

    def cut(self) -> tuple[int, int]:
        """Cut off what has been written past the cap; what is written later meets the same end.

        Answers how much of stdout and of stderr there is to read.
        """
        return self._cut("stdout"), self._cut("stderr")

    def _cut(self, stream: Stream) -> int:
        size = self._size(stream)
        if size <= self._stream_bytes_max:
            return size
        self.truncated = True
        with contextlib.suppress(OSError):
            os.truncate(f"{self._at}/{stream}", self._stream_bytes_max)
        return self._stream_bytes_max

    def read(self, stream: Stream, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` of a stream from `offset`; nothing if there is nothing (yet)."""
        end = self.log_bytes("result") if stream == "result" else self._stream_bytes_max
        count = min(bytes_max, end - offset)
        if count <= 0:
            return b""
        try:
            # Whatever the task has put there, nothing here waits for it.
            handle = os.open(f"{self._at}/{stream}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(handle, count, offset)
        except OSError:
            return b""
        finally:
            os.close(handle)

    def empties(self) -> bool:
        """Whether the working directory is empty, or gone; else it takes `remove_work`."""
        try:
            self._empty = not os.listdir(self.work)  # noqa: PTH208 (paths of short tasks are strings)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return self._empty

    def remove_work(self) -> None:
        """Remove the working directory and what is in it, as far as possible."""
        _remove(self.work)

    def remove(self) -> None:
        """Remove all of it, as far as possible."""
        _remove(self.path)

    def renewed(self) -> "Folder | None":
        """The same directory for another attempt, as empty as a new one; None if it is not."""
        try:
            if self.log_bytes("result"):
                os.unlink(self.result)  # noqa: PTH108 (paths of short tasks are strings)
            if not self._empty or set(os.listdir(self._at)) != _FRESH:  # noqa: PTH208 (same)
                return None
            if os.lstat(self.work).st_mode != stat.S_IFDIR | 0o700:
                return None
            for stream in _LOGS:
                seen = os.lstat(f"{self._at}/{stream}")
                if seen.st_mode != stat.S_IFREG | 0o600 or seen.st_nlink != 1:
                    return None
                if seen.st_size > _RENEWED_BYTES_MAX:
                    return None
                if seen.st_size:
                    os.truncate(f"{self._at}/{stream}", 0)
        except OSError:
            return None
        folder = Folder(self.path, 2 * self._stream_bytes_max)
        folder.made = True
        return folder

    def _size(self, stream: Stream) -> int:
        try:
            seen = os.lstat(f"{self._at}/{stream}")
        except OSError:
            return 0
        return seen.st_size if stat.S_ISREG(seen.st_mode) else 0


class Spool:
    """A worker's directory. `open` it before use, `close` it at the end."""

    def __init__(self, path: Path, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self.blobs = path / "blobs"
        self._attempts = path / "attempts"
        self._log_bytes_max = log_bytes_max
        self._lock = -1
        self._journal = Journal(path / "journal")
        #: Directories of forgotten attempts, as good as new.
        self._idle: list[Folder] = []

    def open(self) -> None:
        """Make the directory and lock it for this process.

        Raises Conflict if another agent uses it, Unavailable if it can't be written.
        """
        assert self._lock == -1
        try:
            self._attempts.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            os.close(lock)
            raise Conflict(
                f"Another worker (process {holder or 'unknown'}) uses the spool {self.path}: stop "
                f"it, or start this one under another id or with another spool.",
                code="held",
            ) from None
        with contextlib.suppress(OSError):  # the number is for people; a full disk may lack it
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def close(self) -> None:
        """Let another agent use the directory."""
        if self._lock != -1:
            self._journal.close()
            os.close(self._lock)
            self._lock = -1

    def has_room(self) -> bool:
        """Whether another attempt can be expected to find room for what it writes."""
        try:
            seen = os.statvfs(self._attempts)
        except OSError:
            return True  # whoever writes there is told what is wrong
        if seen.f_files and not seen.f_favail:
            return False
        # A file system in memory may have no limit, and no blocks.
        return not seen.f_blocks or seen.f_bavail * seen.f_frsize >= ROOM_BYTES_MIN

    def folder(self, mark: str | None = None) -> Folder:
        """The directory of the attempt with this mark; without one, of a new attempt."""
        if mark is None and self._idle:
            return self._idle.pop()
        return Folder(self._attempts / (mark or secrets.token_hex(8)), self._log_bytes_max)

    def launched(self, record: Launched) -> None:
        """Write down what runs, as far as the disk has room."""
        with contextlib.suppress(OSError):
            self._journal.launch(record)

    def ended(self, end: End) -> None:
        """Write down how an attempt of a job ended, as far as the disk has room."""
        try:
            self._journal.end(end)
        except OSError as error:
            _log.warning(
                "The end of an attempt can't be written to %s (%s): it counts as lost if this "
                "worker dies before its scheduler has heard of it.",
                self.path,
                error.strerror,
            )

    def forget(self, folder: Folder, key: Key | None) -> bool:
        """Keep nothing of an attempt. False if its directory takes `Folder.remove`."""
        self._journal.forget(folder.mark, key)
        if not folder.made:
            return True
        if key is None or len(self._idle) >= IDLE_MAX:
            return False  # of a task by ticket, somebody may still be reading
        renewed = folder.renewed()
        if renewed is not None:
            self._idle.append(renewed)
        return renewed is not None

    def clear(self) -> list[Kept]:
        """Kill what an earlier agent's attempts left running, then remove their directories.

        Those of attempts of jobs stay until they are forgotten, and are told. Raises Unavailable
        if something can't be killed: nothing may run beside it.
        """
        self._idle.clear()
        try:
            self._journal.open()
        except OSError as error:
            raise _unusable(self.path, error) from None
        marks = {entry.name for entry in os.scandir(self._attempts)}
        launched = [record for mark, record in self._journal.launched.items() if mark in marks]
        self._kill(marks, launched)
        kept = self._kept(marks, launched)
        staying = {one.mark for one in kept}
        for mark in marks - staying:
            self.folder(mark).remove()
        for mark in self._journal.launched.keys() - staying:
            self._journal.forget(mark, None)
        return kept

    def _kill(self, marks: set[str], launched: list[Launched]) -> None:
        if not marks:
            return
        groups = [Group(path) for path in sorted({one.group for one in launched if one.group})]
        for group in groups:
            group.kill()
        left = strays.kill_all(marks, _living_roots(launched), LEFTOVERS_S)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise Unavailable(
                f"An earlier life of this worker left processes that can't be killed ({pids}): "
                f"end them, or restart the machine, before this worker starts.",
                code="spool_unusable",
            )
        for group in groups:
            group.remove_soon()
        for path in sorted({path for one in launched for path in one.limits}):
            Group(path).remove_soon()

    def _kept(self, marks: set[str], launched: list[Launched]) -> list[Kept]:
        """The attempts of jobs that somebody waits for."""
        kept = [
            Kept(
                end.mark if end.mark in marks else None,
                end.task_id,
                end.cluster_id,
                end.fence,
                end.started_at,
                end,
            )
            for end in self._journal.ends.values()
        ]
        kept.extend(
            Kept(one.mark, one.task_id, one.cluster_id, one.fence, one.started_at, None)
            for one in launched
            if one.cluster_id is not None and (one.cluster_id, one.fence) not in self._journal.ends
        )
        return kept


def _remove(tree: Path | str) -> None:
    """Remove a directory and all in it. What can't be removed is told, and left."""
    shutil.rmtree(tree, ignore_errors=True)
    if not os.path.lexists(tree):
        return
    # A task may leave directories that not even their owner may read or write.
    closed = [str(tree)]
    for directory in closed:  # it grows while it is walked
        with contextlib.suppress(OSError):
            os.chmod(directory, 0o700)  # noqa: PTH101 (a string, as os.scandir gives them)
            with os.scandir(directory) as entries:
                closed += [one.path for one in entries if one.is_dir(follow_symlinks=False)]
    shutil.rmtree(tree, ignore_errors=True)
    if os.path.lexists(tree):
        _log.warning("%s can't be removed: it stays where it is.", tree)


def spool_path(worker_id: str) -> Path:
    """Where the worker of this id keeps its spool unless told otherwise."""
    name = quote(worker_id, safe="")
    if len(name) > _NAME_CHARS_MAX or not name.strip("."):
        name = sha256(worker_id.encode()).hexdigest()
    return state_home() / "worker" / name


def boot_id() -> str:
    """A name for the time since the machine started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _unusable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The spool {path} can't be used ({error.strerror}): choose a directory that this user "
        f"may write.",
        code="spool_unusable",
    )


def _living_roots(records: list[Launched]) -> dict[int, int]:
    """Main processes that are still there, pid -> start time.

    One that has ended is no root any more: after a long time its pid, and the session of that
    number, may be somebody else's.
    """
    boot = boot_id()
    roots = {}
    for record in records:
        if record.boot_id == boot:
            process = strays.look(record.pid)
            if process is not None and process.start_time == record.start_time:
                roots[record.pid] = record.start_time
    return roots
