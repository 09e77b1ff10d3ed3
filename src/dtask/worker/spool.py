"""Where a worker keeps what its tasks need and leave: a directory an attempt.

    SPOOL/lock                  held by the one agent that uses this spool
    SPOOL/attempts/MARK/
        record.json             which attempt, which process of which boot
        stdout  stderr          appended to by the task itself
        work/                   its working directory

All of it lasts as long as the attempt is remembered. What an agent that died left here tells the
next one whom to kill; it adopts nothing, because nobody can learn the exit code of a process that
is not one's child. A spool belongs on a local disk.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from dtask.errors import Conflict, Unavailable
from dtask.state_home import state_home
from dtask.worker import strays
from dtask.worker.cgroup import Group

#: Log of one attempt. Each of its two streams may take half, so that a flood on one never drowns
#: what the other says.
LOG_BYTES_MAX: Final = 64 * 1024**2

#: Leftovers that can't be killed for so long are stuck in the kernel, or another user's.
LEFTOVERS_S: Final = 10.0

#: Names of directories are at most 255 bytes.
_NAME_CHARS_MAX: Final = 200

Stream = Literal["stdout", "stderr"]


class Record(Struct, frozen=True):
    """What a later agent must know of an attempt, once its main process has started.

    Before that, and if a full disk took no record, the directory's name must do: it is the mark.
    """

    task_id: str
    fence: int
    #: Of the main process. They mean nothing after another boot.
    pid: int
    start_time: int
    boot_id: str
    #: The control group of all attempts of that agent.
    group: str | None


class Folder:
    """The directory of one attempt."""

    def __init__(self, path: Path, log_bytes_max: int) -> None:
        self.path = path
        self._stream_bytes_max = log_bytes_max // 2
        #: A stream has been cut at its cap.
        self.truncated = False

    @property
    def work(self) -> Path:
        """The attempt's working directory."""
        return self.path / "work"

    def create(self) -> None:
        """Make it. Raises OSError."""
        self.path.mkdir(mode=0o700)
        self.work.mkdir(mode=0o700)

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
        """How much of a log there is to read."""
        return min(self._size(stream), self._stream_bytes_max)

    def cut(self) -> None:
        """Cut off what has been written past the cap; what is written later meets the same end."""
        for stream in ("stdout", "stderr"):
            if self._size(stream) > self._stream_bytes_max:
                self.truncated = True
                with contextlib.suppress(OSError):
                    os.truncate(self.path / stream, self._stream_bytes_max)

    def read(self, stream: Stream, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` of a log from `offset`; nothing if there is nothing (yet)."""
        count = min(bytes_max, self._stream_bytes_max - offset)
        if count <= 0:
            return b""
        try:
            with (self.path / stream).open("rb") as file:
                file.seek(offset)
                return file.read(count)
        except OSError:
            return b""

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

    def clear(self) -> None:
        """Kill what an earlier agent's attempts left running, then remove their directories.

        Raises Unavailable if something can't be killed: nothing may run beside it.
        """
        marks = [entry.name for entry in os.scandir(self._attempts)]
        if not marks:
            return
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
        for mark in marks:
            self.folder(mark).remove()

    def _record(self, mark: str) -> Record | None:
        """The record of an attempt; None if it is missing or torn."""
        try:
            raw = (self._attempts / mark / "record.json").read_bytes()
            return msgspec.json.decode(raw, type=Record)
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
