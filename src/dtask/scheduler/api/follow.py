"""Following a log: everything from an offset on, as it is written, until the task has ended."""

from typing import Final

from dtask.core.jobs.rows import AttemptRow
from dtask.core.jobs.states import HELD
from dtask.scheduler.api import job_rows
from dtask.scheduler.api.answers import Send, part
from dtask.scheduler.api.caller import Caller
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.feed import Waiter
from dtask.scheduler.log_files import Attempt
from dtask.scheduler.loop import Loop
from dtask.wire.frames import Stream

#: Bytes read at a time.
PIECE_BYTES: Final = 256 * 1024

#: Lines that stand for what is missing at the end.
TRUNCATED_LINE: Final = b"[dtask: it wrote more than is kept; the rest is left out]\n"
LOST_LINE: Final = b"[dtask: the end of this log was lost with its worker]\n"
GONE_LINE: Final = b"[dtask: this log is not in the scheduler's data directory any more]\n"


class Follower:
    """One request that follows the log of a task or an element, from attempt to attempt."""

    def __init__(
        self, loop: Loop, parts: JobParts, stream: Stream, *, waiter: Waiter, caller: Caller
    ) -> None:
        self._loop = loop
        self._logs = parts.logs
        self._feed = parts.feed
        self._stream = stream
        self._waiter = waiter
        self._caller = caller

    async def run(
        self, place: tuple[int, str, int], first: int, offset: int, *, alone: bool, send: Send
    ) -> None:
        """Send all that is written from the attempt `first` on; `alone`: by this one only.

        Raises Disconnected, and what reading rows and logs does.
        """
        while not self._feed.stopping:
            self._waiter.take()
            row, over = await self._loop.read(job_rows.following, self._loop.store, *place, first)
            if row is not None:
                await self._copy(row, offset, send)
                first, offset = row.number + 1, 0
                if alone:
                    return
            elif over:
                return
            else:
                await self._caller.wait(self._waiter.changed())

    async def _copy(self, row: AttemptRow, offset: int, send: Send) -> None:
        """Send what one attempt writes, until it has ended or the scheduler stops."""
        name = name_of(row)
        whole_line = True
        with self._logs.follow(name):
            while True:
                # The row was read before: what an ended attempt wrote is all there.
                while piece := await self._logs.read(name, self._stream, offset, PIECE_BYTES):
                    self._caller.check()
                    await send(part(piece))
                    offset += len(piece)
                    whole_line = piece.endswith(b"\n")
                if row.state not in HELD or self._feed.stopping:
                    break
                await self._caller.wait(self._more(name, offset), self._waiter.changed())
                if self._waiter.take():
                    row = await self._loop.read(job_rows.attempt, self._loop.store, *name)
        gone = offset == 0 and _written(row, self._stream) > 0
        lines = TRUNCATED_LINE * is_cut(row, self._stream) + LOST_LINE * row.log_lost
        if lines := lines or GONE_LINE * gone:
            await send(part(lines if whole_line else b"\n" + lines))

    async def _more(self, name: Attempt, offset: int) -> None:
        """Wait until there is more to read, or the task has moved on."""
        if not await self._logs.grown(name, self._stream, offset):
            await self._waiter.changed()


def is_cut(row: AttemptRow, stream: Stream) -> bool:
    """Whether a stream lacks what was over the cap, which is the same for both of them.

    The row says that one does: then it is the longer one, and both if they are equally long.
    """
    longest = max(row.stdout_bytes, row.stderr_bytes)
    return row.truncated and _written(row, stream) == longest


def _written(row: AttemptRow, stream: Stream) -> int:
    return row.stdout_bytes if stream == "stdout" else row.stderr_bytes


def name_of(row: AttemptRow) -> Attempt:
    """What an attempt's log is called."""
    return (row.job_id, row.task, row.idx, row.number)
