"""`GET /api/v1/events`: what happens to jobs, as it happens, as server-sent events."""

import asyncio
from typing import Final

from dtask.core.jobs.names import check_task_name
from dtask.errors import InvalidRequest
from dtask.scheduler.api.answers import Receive, Scope, Send, part
from dtask.scheduler.api.caller import Caller
from dtask.scheduler.api.job_query import job_id, states_of
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import number, parameters, single
from dtask.scheduler.feed import Filter
from dtask.wire.codec import encode
from dtask.wire.limits import FENCE_MAX

#: Something is sent this often, so that whatever stands between knows the connection lives.
BEAT_S: Final = 15.0
#: What happens within so short a time is sent together.
TOGETHER_S: Final = 0.01
#: A reader that was cut off comes back after so many milliseconds.
RETRY_MS: Final = 1_000

#: The head of a stream.
STREAM: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy is not to keep events back
]


class Events:
    """The endpoint."""

    def __init__(self, parts: JobParts) -> None:
        self._feed = parts.feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """From now on, or after the event that was the last one seen.

        With `follow=0`: those that there are.
        """
        found = parameters(scope, "job", "queue", "state", "after", "follow")
        job, queue = single(found, "job"), single(found, "queue")
        if queue is not None:
            check_task_name(queue, "queue")
        wanted = Filter(
            None if job is None else job_id(job, "job"), queue, states_of(found) or None
        )
        after = last_seen(scope, found)
        follows = number(found, "follow", least=0, most=1) != 0
        with self._feed.readers.reading():
            await send({"type": "http.response.start", "status": 200, "headers": STREAM})
            if scope["method"] != "HEAD":
                async with Caller(receive) as caller:
                    await self._stream(wanted, after, caller, send, follows=follows)
        await send(part(b"", more=False))

    async def _stream(
        self, wanted: Filter, after: int | None, caller: Caller, send: Send, *, follows: bool
    ) -> None:
        feed = self._feed
        last = feed.last if after is None else after
        await send(part(b"retry: %d\n%b" % (RETRY_MS, _place(last))))
        while not feed.stopping:
            caller.check()
            if not feed.holds(last):
                await send(part(_gap(last, feed.oldest)))
                last = feed.oldest - 1
            text, last = feed.read(last, wanted.wants)
            if text:
                await send(part(text))
            if last != feed.last:
                await asyncio.sleep(0)
                continue
            if not follows:
                return
            if text:
                await asyncio.sleep(TOGETHER_S)
            if not await caller.wait(feed.beyond(last), seconds=BEAT_S):
                await send(part(_place(last)))


def _place(last: int) -> bytes:
    """Moves the reader's place without an event."""
    return b":\nid: %d\n\n" % last


def _gap(last: int, oldest: int) -> bytes:
    """Says that what happened after `last` and before `oldest` can't be read any more."""
    data = encode({"after": last, "oldest": oldest})
    return b"id: %d\nevent: gap\ndata: %b\n\n" % (oldest - 1, data)


def last_seen(scope: Scope, found: dict[str, list[str]]) -> int | None:
    """The id of the last event that the reader has seen. Raises InvalidRequest."""
    after = number(found, "after", least=0, most=FENCE_MAX)
    for name, value in scope["headers"]:
        if name == b"last-event-id":  # sent when a reader comes back: newer than its address
            if value.isdigit() and int(value[:20]) <= FENCE_MAX:
                return int(value[:20])
            raise InvalidRequest(
                "last-event-id: expected the id of an event, a number.",
                code="malformed",
                field="last-event-id",
            )
    return after
