"""Blobs: bytes that jobs bring along, named by their SHA-256.

    DATA/blobs/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824

Everything here blocks, and may be called from any thread.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Set as AbstractSet
from contextlib import suppress
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
        path = self.path(digest)
        if len(data) > BLOB_BYTES_MAX:
            raise InvalidRequest(
                f"The blob is too large: expected at most {BLOB_BYTES_MAX} bytes.",
                code="too_large",
                limit_bytes=BLOB_BYTES_MAX,
            )
        found = sha256(data).hexdigest()
        if found != digest:
            raise InvalidRequest(
                f"The bytes that came have the hash {found}: expected those of {digest}.",
                code="wrong_hash",
            )
        if self.has(digest):
            return
        try:
            _write(path, data)
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise Unavailable(f"The blob can't be written: {why}.", code="store_failed") from None

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

    def sweep(self, used: AbstractSet[str], *, unused_s: float = UNUSED_S) -> int:
        """Remove blobs that are not `used` and were last asked for `unused_s` ago; how many.

        What a crash left half written goes, too.
        """
        before = time.time() - unused_s
        count = 0
        for path in self._directory.glob("??/*"):
            with suppress(FileNotFoundError):
                if path.name not in used and path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, and durably."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    for directory in (path.parent, path.parent.parent):
        number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
