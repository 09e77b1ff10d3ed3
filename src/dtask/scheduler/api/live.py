"""`GET /api/v1/live`: everything, as it changes; `GET /api/v1/history`: how it went before."""

from typing import Final

from dtask.scheduler.api.answers import Receive, Scope, Send, part, send_struct
from dtask.scheduler.api.caller import Caller
from dtask.scheduler.api.events import STREAM, last_seen
from dtask.scheduler.api.query import parameters
from dtask.scheduler.history import History
from dtask.scheduler.live import Live

#: Who was cut off comes back after so many milliseconds.
RETRY: Final = b"retry: 1000\n\n"


class LiveStreams:
    """The endpoint of the stream."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """From a snapshot on, or from the message that was the last one seen."""
        last = last_seen(scope, parameters(scope, "after"))
        with self._live.readers.reading():
            await send({"type": "http.response.start", "status": 200, "headers": STREAM})
            if scope["method"] != "HEAD":
                async with Caller(receive) as caller:
                    await self._stream(last, caller, send)
        await send(part(b"", more=False))

    async def _stream(self, last: int | None, caller: Caller, send: Send) -> None:
        live = self._live
        await send(part(RETRY))
        while not live.stopping:
            caller.check()
            if last is not None and live.goes_on_after(last):
                text, last = live.read(last), live.last
            else:
                text, last = await live.snapshot()
            await send(part(text))
            await caller.wait(live.beyond(last))


class Histories:
    """The endpoint of the last half hour."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Its series."""
        parameters(scope)
        await send_struct(send, self._history.series())
