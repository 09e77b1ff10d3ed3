"""Where a worker keeps what its tasks need and leave: a directory an attempt.

    SPOOL/lock                  held by the one agent that uses this spool
    SPOOL/attempts/MARK/
        record.json             which attempt, which process of which boot
        stdout  stderr          appended to by the task itself
        result                  what a task of a job writes there
        work/                   its working directory
        end.json                how an attempt of a job ended

All of it lasts as long as the attempt is remembered: an attempt of a job until its scheduler has
heard how it ended, however often the agent dies meanwhile. What an agent that died left here
tells the next one whom to kill; it adopts nothing, because nobody can learn the exit code of a
process that is not one's child. A spool belongs on a local disk.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from dtask.errors import Conflict, Unavailable
from dtask.state_home import state_home
from dtask.worker import strays
from dtask.worker.cgroup import Group

_log = logging.getLogger(__name__)

#: Log of one attempt. Each of its two streams may take half, so that a flood on one never drowns
#: what the other says.
LOG_BYTES_MAX: Final = 64 * 1024**2

#: Leftovers that can't be killed for so long are stuck in the kernel, or another user's.
LEFTOVERS_S: Final = 10.0

#: Names of directories are at most 255 bytes.
_NAME_CHARS_MAX: Final = 200

#: What a task of a job may leave as its result.
RESULT_BYTES_MAX: Final = 1024**2

Stream = Literal["stdout", "stderr", "result"]


_LOGS: Final[tuple[Stream, ...]] = ("stdout", "stderr")

_T = TypeVar("_T", bound=Struct)


class Record(Struct, frozen=True):
    """What a later agent must know of an attempt, once its main process has started.

    Before that, and if a full disk took no record, the directory's name must do: it is the mark.
    An attempt of a job without one is not reported by the next agent, and so counts as not held.
    """

    task_id: str
    fence: int
    #: Of the main process. They mean nothing after another boot.
    pid: int
    start_time: int
    boot_id: str
    #: The control group of all attempts of that agent.
    group: str | None
    #: Of an attempt of a job: the store that it comes from, its number, and its launch, epoch s.
    cluster_id: str | None = None
    number: int | None = None
    started_at: float | None = None


class End(Struct, frozen=True):
    """How an attempt of a job ended; what the scheduler is told until it has heard."""

    task_id: str
    cluster_id: str
    fence: int
    exit_code: int | None
    cause: str | None
    error: str | None
    #: Epoch seconds; None if it never started.
    started_at: float | None
    ended_at: float
    stdout_bytes: int
    stderr_bytes: int
    result_bytes: int
    truncated: bool
    cpu_s: float | None
    max_rss_bytes: int | None


class Kept(NamedTuple):
    """An attempt of a job that an earlier agent left, dead by now."""

    mark: str
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
        self._stream_bytes_max = log_bytes_max // 2
        #: A stream has been cut at its cap.
        self.truncated = False
        #: There is something on the disk.
        self.made = False
        self._result_bytes = 0

    @property
    def work(self) -> Path:
        """The attempt's working directory."""
        return self.path / "work"

    @property
    def result(self) -> Path:
        """Where the task may write its result."""
        return self.path / "result"

    def create(self) -> None:
        """Make it. Raises OSError."""
        self.path.mkdir(mode=0o700)
        self.made = True
        self.work.mkdir(mode=0o700)

    def seal(self) -> bool:
        """The task is gone: its result can be read from now on. False if it is over its limit."""
        try:
            seen = os.lstat(self.result)
        except OSError:
            return True
        if not stat.S_ISREG(seen.st_mode):
            return True
        if seen.st_size <= RESULT_BYTES_MAX:
            self._result_bytes = seen.st_size
        return seen.st_size <= RESULT_BYTES_MAX

    def keep(self, end: End) -> None:
        """Write how it ended, whole or not at all, as far as the disk has room."""
        torn = self.path / "end.tmp"
        try:
            torn.write_bytes(msgspec.json.encode(end))
            torn.rename(self.path / "end.json")
        except OSError as error:
            _log.warning(
                "The end of attempt %s can't be written (%s): if this worker dies before its "
                "scheduler has heard of it, the attempt counts as lost.",
                self.path.name,
                error.strerror,
            )
            with contextlib.suppress(OSError):
                torn.unlink()

    def note(self, record: Record) -> None:
        """Write the record, as far as the disk has room."""
        with contextlib.suppress(OSError):
            (self.path / "record.json").write_bytes(msgspec.json.encode(record))

    @contextlib.contextmanager
    def logs(self) -> Iterator[tuple[int, int]]:
        """Descriptors of stdout and stderr for the task to append to. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with contextlib.ExitStack() as opened:
            stdout = os.open(self.path / "stdout", flags, 0o600)
            opened.callback(os.close, stdout)
            stderr = os.open(self.path / "stderr", flags, 0o600)
            opened.callback(os.close, stderr)
            yield stdout, stderr

    def log_bytes(self, stream: Stream) -> int:
        """How much there is to read: of a result, nothing before the task is gone."""
        if stream == "result":
            return self._result_bytes
        return min(self._size(stream), self._stream_bytes_max)

    def cut(self) -> None:
        """Cut off what has been written past the cap; what is written later meets the same end."""
        for stream in _LOGS:
            if self._size(stream) > self._stream_bytes_max:
                self.truncated = True
                with contextlib.suppress(OSError):
                    os.truncate(self.path / stream, self._stream_bytes_max)

    def read(self, stream: Stream, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` of a stream from `offset`; nothing if there is nothing (yet)."""
        end = self._result_bytes if stream == "result" else self._stream_bytes_max
        count = min(bytes_max, end - offset)
        if count <= 0:
            return b""
        try:
            # Whatever the task has put there, nothing here waits for it.
            handle = os.open(self.path / stream, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(handle, count, offset)
        except OSError:
            return b""
        finally:
            os.close(handle)

    def remove_work(self) -> bool:
        """Remove the working directory if it is empty; False if it takes `shutil.rmtree`."""
        try:
            self.work.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Remove all of it, as far as possible."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _size(self, stream: Stream) -> int:
        try:
            return (self.path / stream).stat().st_size
        except OSError:
            return 0


class Spool:
    """A worker's directory. `open` it before use, `close` it at the end."""

    def __init__(self, path: Path, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._attempts = path / "attempts"
        self._log_bytes_max = log_bytes_max
        self._lock = -1

    def open(self) -> None:
        """Make the directory and lock it for this process.

        Raises Conflict if another agent uses it, Unavailable if it can't be written.
        """
        assert self._lock == -1
        try:
            self._attempts.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The spool {self.path} can't be used ({error.strerror}): choose a directory that "
                f"this user may write.",
                code="spool_unusable",
            ) from None
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
            os.close(self._lock)
            self._lock = -1

    def folder(self, mark: str) -> Folder:
        """The directory of the attempt with this mark, made or not."""
        return Folder(self._attempts / mark, self._log_bytes_max)

    def clear(self) -> list[Kept]:
        """Kill what an earlier agent's attempts left running, then remove their directories.

        Those of attempts of jobs stay until `Folder.remove`, and are told. Raises Unavailable if
        something can't be killed: nothing may run beside it.
        """
        marks = [entry.name for entry in os.scandir(self._attempts)]
        if not marks:
            return []
        records = [record for mark in marks if (record := self._record(mark)) is not None]
        paths = {record.group for record in records if record.group is not None}
        groups = [Group(path) for path in sorted(paths)]
        for group in groups:
            group.kill()
        left = strays.kill_all(marks, _living_roots(records), LEFTOVERS_S)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise Unavailable(
                f"An earlier life of this worker left processes that can't be killed ({pids}): "
                f"end them, or restart the machine, before this worker starts.",
                code="spool_unusable",
            )
        for group in groups:
            group.remove_soon()
        kept = []
        for mark in marks:
            if (one := self._kept(mark)) is not None:
                kept.append(one)
            else:
                self.folder(mark).remove()
        return kept

    def _kept(self, mark: str) -> Kept | None:
        """The attempt of a job in this directory; None if it is another's, or never started."""
        end = self._read(mark, "end.json", End)
        if end is not None:
            return Kept(mark, end.task_id, end.cluster_id, end.fence, end.started_at, end)
        record = self._record(mark)
        if record is None or record.cluster_id is None:
            return None
        return Kept(mark, record.task_id, record.cluster_id, record.fence, record.started_at, None)

    def _record(self, mark: str) -> Record | None:
        """The record of an attempt; None if it is missing or torn."""
        return self._read(mark, "record.json", Record)

    def _read(self, mark: str, name: str, kind: type[_T]) -> _T | None:
        try:
            return msgspec.json.decode((self._attempts / mark / name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None


def spool_path(worker_id: str) -> Path:
    """Where the worker of this id keeps its spool unless told otherwise."""
    name = quote(worker_id, safe="")
    if len(name) > _NAME_CHARS_MAX or not name.strip("."):
        name = sha256(worker_id.encode()).hexdigest()
    return state_home() / "worker" / name


def boot_id() -> str:
    """A name for the time since the machine started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _living_roots(records: list[Record]) -> dict[int, int]:
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
