"""Files of attempts: blobs fetched once, kept in the spool, and copied for each attempt.

    SPOOL/blobs/HEX             a blob, by its SHA-256

An attempt gets copies, so that no task can change what the next one gets. A copy is checked
against its hash while it is made. Blobs are kept until they take more than their share of the
disk; then those that were not used for the longest time go.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from dtask.errors import DtaskError
from dtask.worker.spool import Folder

#: What the blobs of a worker may take, those that are being used excepted.
BLOBS_BYTES_MAX: Final = 4 * 1024**3

#: How long one blob is waited for.
FETCH_S: Final = 60.0

#: Longest name of a file, and of one of its parts.
NAME_BYTES_MAX: Final = 4_096
PART_BYTES_MAX: Final = 255

#: How blobs are named in frames.
_SCHEME: Final = "sha256:"

_PIECE_BYTES: Final = 1024**2

#: A file that begins like this can be run as a program.
_PROGRAMS: Final = (b"#!", b"\x7fELF")

#: Fetches a blob, by cluster_id and hash in hex: its bytes, or a file that they are in and that
#: is not needed any more. Raises DtaskError.
Fetch = Callable[[str, str], Awaitable[bytes | Path]]


_T = TypeVar("_T")


class NotPut(Exception):
    """The files can't be had: the sentence says why, and `theirs` whether the task is to blame."""

    def __init__(self, sentence: str, *, theirs: bool = False) -> None:
        super().__init__(sentence)
        self.theirs = theirs


class _Changed(Exception):
    """What is kept of a blob is not that blob any more."""


class Files:
    """The blobs of one worker. `open` it before use, `close` it at the end."""

    def __init__(self, path: Path, fetch: Fetch | None, bytes_max: int = BLOBS_BYTES_MAX) -> None:
        self._path = path
        self._fetch = fetch
        self._bytes_max = bytes_max
        #: Bytes of each blob that is there, the one not used for the longest time first.
        self._kept: dict[str, int] = {}
        self._bytes = 0
        #: Being fetched, and how many attempts want each now.
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._wanted: Counter[str] = Counter()

    def open(self) -> None:
        """See what is there. A directory that can't be read counts as empty."""
        with contextlib.suppress(OSError):
            found = []
            for entry in os.scandir(self._path):
                if entry.name.endswith(".tmp"):
                    os.unlink(entry.path)  # noqa: PTH108 (a DirEntry's path is a string)
                else:
                    seen = entry.stat()
                    found.append((seen.st_mtime, entry.name, seen.st_size))
            self._kept = {name: size for _, name, size in sorted(found)}
        self._bytes = sum(self._kept.values())

    @property
    def kept_bytes(self) -> int:
        """What the blobs take that are there."""
        return self._bytes

    async def close(self) -> None:
        """Fetch nothing any more."""
        fetching = list(self._fetching.values())
        for one in fetching:
            one.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)

    async def put(
        self, cluster_id: str, files: Mapping[str, str], stdin: str | None, folder: Folder
    ) -> None:
        """Put files, name -> `sha256:HEX`, into the working directory, and standard input beside.

        Raises NotPut. When it is over, however it ended, nobody writes there any more.
        """
        targets = {f"{folder.work}/{name}": hex_of(blob) for name, blob in files.items()}
        check_names(files)
        if stdin is not None:
            targets[folder.stdin] = hex_of(stdin)
        self._wanted.update(targets.values())
        try:
            for digest in dict.fromkeys(targets.values()):
                await self._have(cluster_id, digest)
            for path, digest in targets.items():
                await self._copy(cluster_id, digest, path)
        except OSError as error:
            raise NotPut(f"{folder.path} can't be written: {error.strerror}.") from None
        finally:
            self._wanted.subtract(targets.values())
            self._wanted += Counter()  # forget those that nobody wants
            self._evict()

    async def _copy(self, cluster_id: str, digest: str, path: str) -> None:
        kept = self._path / digest
        try:
            await _in_thread(lambda: _copied(kept, path, digest))
        except (_Changed, FileNotFoundError):  # somebody has been there
            self._drop(digest)
            await self._have(cluster_id, digest)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 (paths of folders are strings)
            await _in_thread(lambda: _copied(kept, path, digest))

    async def _have(self, cluster_id: str, digest: str) -> None:
        """See that a blob is there; several attempts that want it fetch it once."""
        if digest in self._kept:
            self._kept[digest] = self._kept.pop(digest)  # used last
            return
        task = self._fetching.get(digest)
        if task is None:
            task = asyncio.create_task(self._get(cluster_id, digest))
            self._fetching[digest] = task
            task.add_done_callback(lambda done: self._got(digest, done))
        await asyncio.shield(task)

    def _got(self, digest: str, done: asyncio.Task[None]) -> None:
        del self._fetching[digest]
        if not done.cancelled():
            done.exception()  # those who want it have it too, if there are any left

    async def _get(self, cluster_id: str, digest: str) -> None:
        if self._fetch is None:
            raise NotPut("This worker has no way to fetch files.")
        try:
            async with asyncio.timeout(FETCH_S):
                data = await self._fetch(cluster_id, digest)
        except TimeoutError:
            raise NotPut(f"The blob {_SCHEME}{digest} did not come within {FETCH_S:g} s.") from None
        except DtaskError as error:
            raise NotPut(f"The blob {_SCHEME}{digest} could not be fetched: {error}") from None
        try:
            size = await _in_thread(lambda: _stored(data, self._path / digest, digest))
        except _Changed:
            raise NotPut(
                f"What was fetched as the blob {_SCHEME}{digest} has another hash."
            ) from None
        except OSError as error:
            raise NotPut(
                f"The worker's spool {self._path} can't be written: {error.strerror}."
            ) from None
        self._kept[digest] = size
        self._bytes += size

    def _evict(self) -> None:
        """Make room, but not from what is wanted now."""
        for digest in list(self._kept):
            if self._bytes <= self._bytes_max:
                return
            if digest not in self._wanted:
                self._drop(digest)

    def _drop(self, digest: str) -> None:
        self._bytes -= self._kept.pop(digest, 0)
        with contextlib.suppress(OSError):
            (self._path / digest).unlink()


def check_names(files: Mapping[str, str]) -> None:
    """Raise NotPut unless each name is that of a file below the working directory."""
    for name in files:
        parts = name.split("/")
        if (
            any(part in ("", ".", "..") for part in parts)
            or "\0" in name
            or len(name.encode()) > NAME_BYTES_MAX
            or any(len(part.encode()) > PART_BYTES_MAX for part in parts)
        ):
            raise NotPut(
                f"The file {name[:80]!r} can't be put into the working directory: expected a "
                f"relative name without `..`, such as data/input.csv.",
                theirs=True,
            )
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if found := next((one for one in above if one in files), None):
            raise NotPut(
                f"The file {name[:80]!r} can't be put below {found[:80]!r}, which is a file too.",
                theirs=True,
            )


def hex_of(blob: str) -> str:
    """The hash in `sha256:HEX`. Raises NotPut."""
    digest = blob.removeprefix(_SCHEME)
    if not blob.startswith(_SCHEME) or len(digest) != sha256().digest_size * 2:
        raise NotPut(f"{blob[:80]!r} names no blob: expected {_SCHEME}HEX.", theirs=True)
    if not set(digest) <= set("0123456789abcdef"):
        raise NotPut(f"{blob[:80]!r} names no blob: expected {_SCHEME}HEX.", theirs=True)
    return digest


async def _in_thread(act: Callable[[], _T]) -> _T:
    """Do it in a thread, and be over only when the thread is, even if this is cancelled."""
    acting = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        await asyncio.wait([acting])
        raise


def _stored(data: bytes | Path, path: Path, digest: str) -> int:
    """Keep a blob at `path`; its size. Raises _Changed or OSError."""
    if isinstance(data, bytes) and sha256(data).hexdigest() != digest:
        raise _Changed
    path.parent.mkdir(mode=0o700, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.unlink(missing_ok=True)
    try:
        if isinstance(data, bytes):
            beside.write_bytes(data)
        else:
            _copied(data, str(beside), digest)
            data.unlink()
        beside.chmod(0o400)
        size = beside.stat().st_size
        beside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    return size


def _copied(source: Path, target: str, digest: str) -> None:
    """Copy a blob to a file that is not there yet. Raises _Changed or OSError."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 (a string)
    seen = sha256()
    with source.open("rb") as blob:
        begins = blob.read(4)
        blob.seek(0)
        mode = 0o700 if begins.startswith(_PROGRAMS) else 0o600
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(handle, "wb") as copy:  # noqa: PTH123 (a descriptor)
            while piece := blob.read(_PIECE_BYTES):
                seen.update(piece)
                copy.write(piece)
    if seen.hexdigest() != digest:
        raise _Changed
