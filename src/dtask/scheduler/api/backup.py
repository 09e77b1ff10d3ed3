"""`GET /api/v1/backup`: a copy of the store, consistent, while everything goes on."""

import tempfile
from pathlib import Path

from dtask.errors import Busy
from dtask.scheduler.api.answers import Receive, Scope, Send
from dtask.scheduler.api.blobs import send_file
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import parameters
from dtask.scheduler.loop import Loop


class Backups:
    """The endpoint."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._scratch = parts.scratch
        self._busy = False

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """The file that the store would be, were the scheduler stopped now."""
        parameters(scope)
        if self._busy:
            raise Busy(
                "Another backup is under way: ask again when it is done.", code="too_many_waiters"
            )
        self._busy = True
        try:
            with tempfile.TemporaryDirectory(prefix="backup-", dir=self._scratch) as directory:
                target = Path(directory) / "dtask.db"
                if scope["method"] == "HEAD":
                    target.touch()
                else:
                    await self._loop.read(self._loop.store.backup, target)
                await send_file(send, target)
        finally:
            self._busy = False
