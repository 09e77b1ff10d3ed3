"""`PUT` and `GET /api/v1/blobs/{sha256}`: bytes that jobs bring along."""

import asyncio
import os
from pathlib import Path
from typing import Final

from dtask.errors import NotFound
from dtask.scheduler.api.answers import BYTES, Receive, Scope, Send, part, send_struct
from dtask.scheduler.api.body import Disconnected, announced_bytes, refuse_size
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import parameters
from dtask.scheduler.blobs import BLOB_BYTES_MAX, Upload
from dtask.wire.job_answers import BlobAnswer

#: Bytes written, or read, at a time.
PIECE_BYTES: Final = 1024 * 1024


class BlobUploads:
    """The endpoint that takes a blob in, and writes it to disk as it comes."""

    def __init__(self, parts: JobParts) -> None:
        self._blobs = parts.blobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """201 once it is there for good; 200 if it was."""
        parameters(scope)
        digest = scope["path_params"]["sha256"]
        self._blobs.path(digest)  # raises InvalidRequest
        if announced_bytes(scope) > BLOB_BYTES_MAX:
            refuse_size(BLOB_BYTES_MAX)
        upload = await asyncio.to_thread(self._blobs.begin, digest)
        try:
            await _take(upload, receive)
            is_new = await asyncio.to_thread(upload.keep)
        finally:
            upload.drop()
        await send_struct(send, BlobAnswer(digest, upload.size), 201 if is_new else 200)


class BlobReads:
    """The endpoint that hands a blob out."""

    def __init__(self, parts: JobParts) -> None:
        self._blobs = parts.blobs

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Its bytes."""
        parameters(scope)
        digest = scope["path_params"]["sha256"]
        path = self._blobs.path(digest)
        if not await asyncio.to_thread(self._blobs.has, digest):
            raise NotFound(
                f"No blob of the hash {digest} is here: send it with PUT first.", code="no_blob"
            )
        await send_file(send, path, is_head=scope["method"] == "HEAD")


async def send_file(send: Send, path: Path, *, is_head: bool = False) -> None:
    """Answer with the bytes of a file that nobody changes."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        size = os.fstat(file.fileno()).st_size
        headers = [*BYTES, (b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = 0 if is_head else size
        while left:
            piece = await asyncio.to_thread(file.read, min(left, PIECE_BYTES))
            assert piece, path
            left -= len(piece)
            await send(part(piece))
        await send(part(b"", more=False))
    finally:
        file.close()


async def _take(upload: Upload, receive: Receive) -> None:
    """Write a request's body. Raises InvalidRequest, Unavailable or Disconnected."""
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        pieces.append(message["body"])
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size >= PIECE_BYTES or not more:
            await asyncio.to_thread(upload.write, b"".join(pieces))
            pieces, size = [], 0
