"""Blobs: bytes that jobs bring along, named by their SHA-256.

    DATA/blobs/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824

Everything here blocks, and may be called from any thread.
"""

import errno
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from dtask.errors import InvalidRequest, NotFound, Unavailable

#: Of one blob.
BLOB_BYTES_MAX: Final = 64 * 1024**2

#: How long a blob that no job names is kept: for its job to come, and for the next one like it.
UNUSED_S: Final = 86_400.0

_HEX: Final = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The blobs under `directory`, which is made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data`, durably. Raises InvalidRequest if that is not its hash, or Unavailable."""
        upload = self.begin(digest)
        try:
            upload.write(data)
            upload.keep()
        finally:
            upload.drop()

    def begin(self, digest: str) -> "Upload":
        """A blob that comes piece by piece. Raises InvalidRequest or Unavailable."""
        return Upload(self, digest)

    def has(self, digest: str) -> bool:
        """Whether it is there; if so, it is kept for a day at least. Raises InvalidRequest."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable(
                f"The blob can't be read: {error.strerror}.", code="store_failed"
            ) from None
        return True

    def read(self, digest: str) -> bytes:
        """Its bytes. Raises NotFound, InvalidRequest or Unavailable."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(
                f"No blob of the hash {digest} is here: send it with PUT first.", code="no_blob"
            ) from None
        except OSError as error:
            raise Unavailable(
                f"The blob can't be read: {error.strerror}.", code="store_failed"
            ) from None

    def path(self, digest: str) -> Path:
        """Where its bytes are, if they are there. Raises InvalidRequest for what is no hash."""
        if _HEX.fullmatch(digest) is None:
            raise InvalidRequest(
                f"{digest[:80]!r} is no hash: expected the SHA-256 as 64 hexadecimal digits, "
                f"in lower case.",
                code="malformed",
                field="sha256",
            )
        return self._directory / digest[:2] / digest

    def unused(self, unused_s: float = UNUSED_S) -> set[str]:
        """Those that were not asked for in so long; what a crash left half written among them."""
        before = time.time() - unused_s
        return {path.name for path in self._directory.glob("??/*") if _last_used(path) < before}

    def remove(self, names: Iterable[str], unused_s: float = UNUSED_S) -> int:
        """Remove these, but for those that were asked for meanwhile; how many went."""
        before = time.time() - unused_s
        count = 0
        for name in names:
            path = self._directory / name[:2] / name
            if _last_used(path) < before:
                path.unlink(missing_ok=True)
                count += 1
        return count


class Upload:
    """A blob on its way in: written as it comes, there only when all of it is.

    For one thread at a time. Whoever makes one calls `drop` in the end.
    """

    def __init__(self, blobs: Blobs, digest: str) -> None:
        self._blobs = blobs
        self._digest = digest
        self._path = blobs.path(digest)
        self._hash = sha256()
        #: Bytes so far.
        self.size = 0
        part = self._path.with_name(f"{digest}.{secrets.token_hex(4)}")
        with _told():
            part.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(part, flags, 0o600), "wb")
        self._part: Path | None = part

    def write(self, piece: bytes) -> None:
        """The next bytes. Raises InvalidRequest if they are too many, or Unavailable."""
        self.size += len(piece)
        if self.size > BLOB_BYTES_MAX:
            raise InvalidRequest(
                f"The blob is too large: expected at most {BLOB_BYTES_MAX} bytes.",
                code="too_large",
                limit_bytes=BLOB_BYTES_MAX,
            )
        self._hash.update(piece)
        with _told():
            self._file.write(piece)

    def keep(self) -> bool:
        """All is there: keep it, durably. Whether it is new.

        Raises InvalidRequest if that is not its hash, or Unavailable.
        """
        found = self._hash.hexdigest()
        if found != self._digest:
            raise InvalidRequest(
                f"The bytes that came have the hash {found}: expected those of {self._digest}.",
                code="wrong_hash",
            )
        if self._blobs.has(self._digest):
            return False
        assert self._part is not None
        with _told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.rename(self._path)
            self._part = None
            for directory in (self._path.parent, self._path.parent.parent):
                _sync(directory)
        return True

    def drop(self) -> None:
        """Leave nothing but what was kept."""
        with suppress(OSError):
            self._file.close()
            if self._part is not None:
                self._part.unlink(missing_ok=True)


@contextmanager
def _told() -> Iterator[None]:
    """Say it as an error of ours if the disk fails."""
    try:
        yield
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise Unavailable(f"The blob can't be written: {why}.", code="store_failed") from None


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
