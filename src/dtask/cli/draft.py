"""A job about to be submitted: its body, and the local files that it names by their hash."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

#: Bytes of one file that can be sent.
BLOB_BYTES_MAX: Final = 64 * 1024 * 1024

PREFIX: Final = "sha256:"

_PIECE_BYTES: Final = 1024 * 1024

#: Names the place of a field in a file: `job.yaml, line 7`.
Locate = Callable[[str], str | None]


@dataclass(slots=True)
class Draft:
    """The body of a submit. Files are read again when the scheduler says that it lacks them."""

    body: dict[str, Any]
    #: Where the bytes are, by `sha256:HEX`.
    blobs: dict[str, Path | bytes] = field(default_factory=dict)
    #: Where a field was written down; None if on the command line.
    locate: Locate | None = None
    key: str | None = None
    #: The command runs in this directory because nothing else was asked for.
    here: bool = False

    def add(self, path: Path, where: str) -> str:
        """Note a file; its digest. Raises UsageError if it can't be sent."""
        try:
            size = path.stat().st_size
            if path.is_dir():
                raise click.UsageError(f"{where}: {path} is a directory: expected a file.")
            _check_size(size, f"{where}: {path}")
            hashed = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    hashed.update(piece)
        except OSError as error:
            raise click.UsageError(f"{where}: {path} can't be read: {error.strerror}.") from None
        digest = PREFIX + hashed.hexdigest()
        self.blobs[digest] = path
        return digest

    def add_bytes(self, raw: bytes, where: str) -> str:
        """Note these bytes; their digest. Raises UsageError if they can't be sent."""
        _check_size(len(raw), where)
        digest = PREFIX + hashlib.sha256(raw).hexdigest()
        self.blobs[digest] = raw
        return digest

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """All blobs with their digests, each read when it is its turn. Raises ClickException."""
        for digest, source in self.blobs.items():
            yield digest, self.read(digest) if isinstance(source, Path) else source

    def read(self, digest: str) -> bytes:
        """The bytes of one of them. Raises ClickException if the file was changed meanwhile."""
        source = self.blobs[digest]
        if isinstance(source, bytes):
            return source
        try:
            raw = source.read_bytes()
        except OSError as error:
            raise click.ClickException(f"{source} can't be read: {error.strerror}.") from None
        if PREFIX + hashlib.sha256(raw).hexdigest() != digest:
            raise click.ClickException(f"{source} was changed while it was sent: try again.")
        return raw


def _check_size(size: int, what: str) -> None:
    if size > BLOB_BYTES_MAX:
        raise click.UsageError(
            f"{what} has {size:,} bytes: expected at most {BLOB_BYTES_MAX:,}. Put it where the "
            f"workers can read it, and name that place in the command."
        )
