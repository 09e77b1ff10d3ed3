"""What a browser reads with its session's cookie, which ends when the session does.

A stream is let in once and may last for days: without this, a tab would go on being told everything
by a session that is over, or that somebody has signed out.
"""

import asyncio
from collections.abc import Awaitable, Callable

from dtask.scheduler.api.access import session_is_over
from dtask.scheduler.api.answers import Message, Receive, Send, part
from dtask.scheduler.api.body import Disconnected


class SignedIn:
    """One request. Hand its `receive` and `send` on, within `until_over`."""

    def __init__(self, receive: Receive, send: Send, over: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._over = over
        self._is_over = False
        self._has_begun = False

    async def receive(self) -> Message:
        """What comes from the client, which counts as gone when its session is over."""
        hearing = asyncio.ensure_future(self._receive())
        ending = asyncio.ensure_future(self._over())
        try:
            await asyncio.wait((hearing, ending), return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                return hearing.result()
        finally:
            hearing.cancel()
            ending.cancel()
        self._is_over = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send it."""
        self._has_begun = True
        await self._send(message)

    async def until_over(self, answer: Awaitable[None]) -> None:
        """Wait for the answer; if the session ends meanwhile, end it, or raise Denied."""
        try:
            await answer
        except Disconnected:
            if not self._is_over:
                raise
            if not self._has_begun:
                raise session_is_over() from None
            await self._send(part(b"", more=False))
