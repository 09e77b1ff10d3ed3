"""What attempts wrote: their logs, also as they are written, and their results."""

from typing import Final, NamedTuple, cast

from dtask.core.jobs.names import attempt_text
from dtask.core.jobs.rows import WHOLE, AttemptRow
from dtask.core.jobs.states import HELD
from dtask.errors import InvalidRequest, NotFound
from dtask.scheduler.api import job_rows
from dtask.scheduler.api.answers import BYTES, Receive, Scope, Send, part
from dtask.scheduler.api.caller import Caller
from dtask.scheduler.api.follow import Follower, is_cut, name_of
from dtask.scheduler.api.job_query import NUMBER_MAX, flag_of, index_of, job_id_of, task_of
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import number, parameters, single
from dtask.scheduler.log_files import LOG_BYTES_MAX, RESULT_BYTES_MAX
from dtask.scheduler.loop import Loop
from dtask.wire.frames import Stream
from dtask.wire.limits import FENCE_MAX, LOG_ANSWER_BYTES

#: Headers: which attempt it is, where to go on reading, and what is missing.
ATTEMPT: Final = b"dtask-attempt"
NEXT_OFFSET: Final = b"dtask-next-offset"
TRUNCATED: Final = b"dtask-truncated"
LOG_LOST: Final = b"dtask-log-lost"

STREAMS: Final = ("stdout", "stderr")


class _Wanted(NamedTuple):
    """Which attempt is asked for."""

    job_id: int
    task: str
    idx: int
    #: None: the last one.
    number: int | None

    @property
    def place(self) -> tuple[int, str, int]:
        """The task or element."""
        return (self.job_id, self.task, self.idx)


class Outputs:
    """The endpoint that reads logs."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """A part of a log, or with `follow=1` all of it from the offset on as it is written."""
        names = ("index", "attempt", "stream", "offset", "limit", "follow")
        found = parameters(scope, *names)
        wanted = _wanted(scope, found)
        stream = _stream(found)
        offset = number(found, "offset", least=0, most=FENCE_MAX) or 0
        limit = number(found, "limit", least=0, most=LOG_BYTES_MAX)
        if flag_of(found, "follow"):
            if limit is not None:
                raise InvalidRequest(
                    "limit: a log that is followed has none: expected limit or follow.",
                    code="malformed",
                    field="limit",
                )
            await self._follow(wanted, stream, offset, scope=scope, receive=receive, send=send)
            return
        row = await self._loop.read(job_rows.attempt, self._loop.store, *wanted)
        size = LOG_ANSWER_BYTES if limit is None else limit
        data = await self._parts.logs.read(name_of(row), stream, offset, size)
        headers = [
            *BYTES,
            (b"content-length", b"%d" % len(data)),
            (ATTEMPT, b"%d" % row.number),
            (NEXT_OFFSET, b"%d" % (offset + len(data))),
            *_missing(row, cut=is_cut(row, stream)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(part(data, more=False))

    async def _follow(
        self,
        wanted: _Wanted,
        stream: Stream,
        offset: int,
        *,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        index = None if wanted.idx == WHOLE else wanted.idx
        with self._parts.feed.watch(wanted.job_id, wanted.task, index) as waiter:
            first = await self._first(wanted)
            headers = [*BYTES, (ATTEMPT, b"%d" % first)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] != "HEAD":
                await send(part(b""))  # the head leaves with it
                async with Caller(receive) as caller:
                    follower = Follower(
                        self._loop, self._parts, stream, waiter=waiter, caller=caller
                    )
                    alone = wanted.number is not None
                    await follower.run(wanted.place, first, offset, alone=alone, send=send)
        await send(part(b"", more=False))

    async def _first(self, wanted: _Wanted) -> int:
        """The number of the attempt to begin with. Raises NotFound or InvalidRequest."""
        try:
            row = await self._loop.read(job_rows.attempt, self._loop.store, *wanted)
        except NotFound as error:
            if error.code == "no_attempt" and wanted.number is None:
                return 1
            raise
        return row.number


class Results:
    """The endpoint that reads what an attempt left as its result."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._logs = parts.logs

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Its bytes, once it has ended."""
        wanted = _wanted(scope, parameters(scope, "index", "attempt"))
        row = await self._loop.read(job_rows.attempt, self._loop.store, *wanted)
        if row.state in HELD or not row.result_bytes:
            why = "it has not ended" if row.state in HELD else "it left none"
            raise _no_result(row, why)
        data = await self._logs.read(name_of(row), "result", 0, RESULT_BYTES_MAX)
        if not data:
            raise _no_result(row, "it is not in the scheduler's data directory any more")
        headers = [
            *BYTES,
            (b"content-length", b"%d" % len(data)),
            (ATTEMPT, b"%d" % row.number),
            *_missing(row),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(part(data, more=False))


def _no_result(row: AttemptRow, why: str) -> NotFound:
    index = None if row.idx == WHOLE else row.idx
    name = attempt_text(row.job_id, row.task, index, row.number)
    return NotFound(f"There is no result of {name}: {why}.", code="no_result")


def _wanted(scope: Scope, found: dict[str, list[str]]) -> _Wanted:
    return _Wanted(
        job_id_of(scope),
        task_of(scope),
        index_of(found),
        number(found, "attempt", least=1, most=NUMBER_MAX),
    )


def _stream(found: dict[str, list[str]]) -> Stream:
    name = single(found, "stream") or "stdout"
    if name not in STREAMS:
        raise InvalidRequest("stream: expected stdout or stderr.", code="malformed", field="stream")
    return cast("Stream", name)


def _missing(row: AttemptRow, *, cut: bool = False) -> list[tuple[bytes, bytes]]:
    """Headers that say what is missing of what an attempt wrote."""
    flags = ((TRUNCATED, cut), (LOG_LOST, row.log_lost))
    return [(name, b"1") for name, is_so in flags if is_so]
