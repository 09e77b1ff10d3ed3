"""The files of logs: a file a stream that was written to, which a person can read.

    DATA/logs/42/train#2.stdout
    DATA/logs/42/tile/7/7123#1.stdout        an element of an array, a thousand to a directory

Everything here blocks, and is for threads; all but reading is for one thread at a time.
"""

import ctypes
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dtask.core.jobs.rows import WHOLE
from dtask.errors import InvalidRequest
from dtask.wire.frames import LogFrame, Stream

#: (job, task, index or WHOLE, number), as the key of an attempt's row.
Attempt = tuple[int, str, int, int]
#: (task, index or WHOLE, number): the same, within its job.
Within = tuple[str, int, int]
#: Bytes of stdout, stderr and result.
Sizes = tuple[int, int, int]

#: Bytes kept of an attempt, half for each stream of its output; and of its result.
LOG_BYTES_MAX: Final = 64 * 1024**2
RESULT_BYTES_MAX: Final = 1024**2

#: Elements whose files share a directory.
ELEMENTS_PER_DIRECTORY: Final = 1_000

#: Files that are synced one by one; of more, the whole file system is.
SYNCED_SINGLY_MAX: Final = 3

STREAM_INDEX: Final[dict[Stream, int]] = {"stdout": 0, "stderr": 1, "result": 2}

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Growth:
    """How much has been written of an attempt that goes on."""

    __slots__ = ("cut", "sizes", "unsynced")

    def __init__(self) -> None:
        #: By stream; None: as the files say, they have not been looked at.
        self.sizes: list[int] | None = None
        #: Streams with bytes that a power loss would take.
        self.unsynced: set[Stream] = set()
        #: Some bytes were over the cap, and dropped.
        self.cut = False

    def take(self, sizes: Sizes) -> list[int]:
        """So much is there, by the files. Whether it would outlive a power loss, nobody knows."""
        self.sizes = list(sizes)
        self.unsynced.update(stream for stream, index in STREAM_INDEX.items() if sizes[index])
        return self.sizes


class LogFiles:
    """The files under `directory`, which is made. Raises OSError, as all of its methods may."""

    def __init__(self, directory: Path, log_bytes_max: int) -> None:
        self._directory = directory
        half = log_bytes_max // 2
        self._bytes_max = (half, half, RESULT_BYTES_MAX)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file_system = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, name: Attempt, growth: Growth, frames: Sequence[LogFrame]) -> None:
        """Write what is new of the chunks. Raises InvalidRequest if one begins beyond the end."""
        known = growth.sizes if growth.sizes is not None else growth.take(self.sizes(name))
        file = -1
        opened: Stream | None = None
        try:
            for frame in frames:
                data = self._wanted(growth, known, frame)
                if not data:
                    continue
                if frame.stream != opened:
                    if file >= 0:
                        os.close(file)
                        file = -1
                    file, opened = self._open(name, frame.stream), frame.stream
                    growth.unsynced.add(frame.stream)
                index = STREAM_INDEX[frame.stream]
                while data:
                    count = os.pwrite(file, data, known[index])
                    known[index] += count
                    data = data[count:]
        finally:
            if file >= 0:
                os.close(file)

    def sync(self, growths: Iterable[tuple[Attempt, Growth]]) -> None:
        """Make all bytes of these outlive a power loss."""
        these = [(name, growth) for name, growth in growths if growth.unsynced]
        paths = [self._path(name, stream) for name, growth in these for stream in growth.unsynced]
        if len(paths) > SYNCED_SINGLY_MAX:
            if _libc.syncfs(self._file_system) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        else:
            for path in paths:
                _sync(path)
        for _, growth in these:
            growth.unsynced.clear()

    def sizes(self, name: Attempt) -> Sizes:
        """Bytes of each stream."""
        return (
            _size(self._path(name, "stdout")),
            _size(self._path(name, "stderr")),
            _size(self._path(name, "result")),
        )

    def read(self, name: Attempt, stream: Stream, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` of a stream from `offset`."""
        try:
            file = os.open(self._path(name, stream), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(file, bytes_max, offset)
        finally:
            os.close(file)

    def jobs(self) -> list[int]:
        """Jobs that have files."""
        return [int(path.name) for path in self._directory.iterdir() if path.name.isdecimal()]

    def remove(self, job_id: int) -> None:
        """Remove all files of a job."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._directory / str(job_id))

    def keep(self, known: Callable[[int], set[Within]]) -> int:
        """Remove what was written of attempts that are not `known`, by job.

        Returns how many jobs nothing is known of.
        """
        unknown = 0
        for job_id in self.jobs():
            attempts = known(job_id)
            if not attempts:
                self.remove(job_id)
                unknown += 1
                continue
            job = self._directory / str(job_id)
            for path in job.rglob("*#*"):
                if _attempt_of(path.relative_to(job)) not in attempts:
                    path.unlink()
        return unknown

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._file_system)

    def _wanted(self, growth: Growth, sizes: list[int], frame: LogFrame) -> bytes:
        """The bytes of a chunk that are new, and within the cap."""
        index = STREAM_INDEX[frame.stream]
        size, bytes_max = sizes[index], self._bytes_max[index]
        end = min(len(frame.data), bytes_max - frame.offset)
        growth.cut = growth.cut or end < len(frame.data)
        if end <= 0 or frame.offset + end <= size:
            return b""
        if frame.offset > size:
            raise InvalidRequest(
                f"A chunk of {frame.stream} begins at byte {frame.offset}, and {size} have "
                f"arrived: expected one that begins there or before.",
                code="malformed",
                field="offset",
            )
        return frame.data[size - frame.offset : end]

    def _open(self, name: Attempt, stream: Stream) -> int:
        path = self._path(name, stream)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(path, flags, 0o600)

    def _path(self, name: Attempt, stream: Stream) -> str:
        job_id, task, index, number = name
        if index == WHOLE:
            return f"{self._directory}/{job_id}/{task}#{number}.{stream}"
        group = index // ELEMENTS_PER_DIRECTORY
        return f"{self._directory}/{job_id}/{task}/{group}/{index}#{number}.{stream}"


def _attempt_of(path: Path) -> Within | None:
    """Whose file it is, by its path in the directory of its job; None if it is none of ours."""
    stem, _, number = path.stem.rpartition("#")
    *parents, name = *path.parts[:-1], stem
    if not number.isdecimal():
        return None
    if not parents:
        return name, WHOLE, int(number)
    return (parents[0], int(name), int(number)) if name.isdecimal() else None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a Path costs as much as the call)
    except FileNotFoundError:
        return 0


def _sync(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # On the journalling file systems of Linux this keeps the name of a new file, too.
        os.fsync(file)
    finally:
        os.close(file)
