"""What the next life of a worker must know, line by line in one file.

A line is written when an attempt's process has started, when an attempt of a job has ended, and
when its scheduler has heard of that. One write each: a line is there whole, or torn at the very
end of the file when the agent was killed meanwhile, and then it counts as not written. The file
is begun anew, with the lines that still matter, when it is much longer than they are.

Nothing is forced to the disk: what a power failure takes with it ran no longer either.
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

#: A file this long, and twice as long as what matters of it, is begun anew.
JOURNAL_BYTES_MAX: Final = 4 * 1024**2

#: An attempt of a job: the store that it comes from, and its fence.
Key = tuple[str, int]


class Launched(Struct, frozen=True, tag="launched", tag_field="event"):
    """The main process of an attempt runs."""

    #: The directory of the attempt, and what strays carry in their environment.
    mark: str
    task_id: str
    fence: int
    #: They mean nothing after another boot.
    pid: int
    start_time: int
    boot_id: str
    #: The control group of all attempts of that agent.
    group: str | None
    #: Of an attempt of a job: the store that it comes from, its number, and when, epoch seconds.
    cluster_id: str | None = None
    number: int | None = None
    started_at: float | None = None
    #: Where the groups are that hold it to its limits.
    limits: tuple[str, ...] = ()


class End(Struct, frozen=True, tag="ended", tag_field="event"):
    """How an attempt of a job ended; what the scheduler is told until it has heard."""

    #: None if it never had a directory.
    mark: str | None
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


class Forgotten(Struct, frozen=True, tag="forgotten", tag_field="event"):
    """The end of this attempt was heard, or nobody waits for it."""

    mark: str
    cluster_id: str
    fence: int


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Launched | End | Forgotten)

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Journal:
    """One file. `open` it before use, `close` it at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._bytes = 0
        self._renew_at = JOURNAL_BYTES_MAX
        #: A line could not be written: the file is to be begun anew.
        self._behind = False
        #: What still matters: what was launched by mark, and what ended by key.
        self.launched: dict[str, Launched] = {}
        self.ends: dict[Key, End] = {}
        #: To go with the next line: losing them does no harm.
        self._forgotten: list[Forgotten] = []

    def open(self) -> None:
        """Take in what is there. Raises OSError if it can't be read."""
        self.close()
        self.launched, self.ends = {}, {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                self._take(line)
        self._behind = True

    def close(self) -> None:
        """Write what was put off, as far as the disk has room."""
        if self._forgotten:
            with contextlib.suppress(OSError):
                self._write()
        if self._handle != -1:
            os.close(self._handle)
            self._handle = -1

    def launch(self, record: Launched) -> None:
        """The process runs. Raises OSError; then a later life may know no more than the mark."""
        self.launched[record.mark] = record
        self._write(record)

    def end(self, record: End) -> None:
        """An attempt of a job has ended. Raises OSError; it will be written with a later line."""
        self.ends[record.cluster_id, record.fence] = record
        self._write(record)

    def forget(self, mark: str, key: Key | None) -> None:
        """Nothing of this attempt matters any more."""
        self.launched.pop(mark, None)
        if key is not None:
            self.ends.pop(key, None)
            self._forgotten.append(Forgotten(mark, *key))

    def _take(self, line: bytes) -> None:
        try:
            record = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # torn
        match record:
            case Launched():
                self.launched[record.mark] = record
            case End():
                self.ends[record.cluster_id, record.fence] = record
            case Forgotten():
                self.ends.pop((record.cluster_id, record.fence), None)
                launched = self.launched.get(record.mark)
                if launched is not None and launched.fence == record.fence:
                    del self.launched[record.mark]

    def _write(self, *records: Launched | End) -> None:
        if self._behind or self._bytes >= self._renew_at:
            self._renew()
            return
        lines = _joined([*self._forgotten, *records])
        self._behind = True
        written = os.write(self._handle, lines)
        if written < len(lines):  # the disk is full: no torn line for others to follow
            os.ftruncate(self._handle, self._bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._behind = False
        self._bytes += written
        self._forgotten.clear()

    def _renew(self) -> None:
        """Begin the file anew with what still matters, or leave it as it is and raise OSError."""
        self._forgotten.clear()
        lines = _joined([*self.launched.values(), *self.ends.values()])
        beside = self._path.with_suffix(".tmp")
        handle = os.open(beside, _FLAGS | os.O_TRUNC, 0o600)
        try:
            written = os.write(handle, lines)
            if written < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 (as write does)
            beside.rename(self._path)
        except OSError:
            os.close(handle)
            self._behind = True
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        if self._handle != -1:
            os.close(self._handle)
        self._handle = handle
        self._bytes = len(lines)
        self._renew_at = max(JOURNAL_BYTES_MAX, 2 * len(lines))
        self._behind = False


def _joined(records: Iterable[Launched | End | Forgotten]) -> bytes:
    return b"".join(_encoder.encode(one) + b"\n" for one in records)
