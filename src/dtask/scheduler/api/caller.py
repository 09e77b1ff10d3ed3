"""Whoever has asked, as long as the answer takes: waiting for what happens, unless they leave."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from dtask.scheduler.api.answers import Receive
from dtask.scheduler.api.body import Disconnected


class Caller:
    """One client that waits. Use as an asynchronous context, once its body has been read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __aenter__(self) -> Self:
        self._gone = asyncio.ensure_future(self._leave())
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._gone.cancel()

    def check(self) -> None:
        """Raise Disconnected if the client has left."""
        if self._gone.done():
            raise Disconnected

    async def wait(self, *acts: Awaitable[Any], seconds: float | None = None) -> bool:
        """Wait for the first of these; False if so much time has passed.

        The others are cancelled. Raises Disconnected, or what the act raises.
        """
        works = [asyncio.ensure_future(act) for act in acts]
        try:
            done, _ = await asyncio.wait(
                (*works, self._gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            self.check()
            for work in works:
                if work in done:
                    work.result()
            return bool(done)
        finally:
            for work in works:
                if not work.cancel() and not work.cancelled():
                    work.exception()  # it has been raised, or nobody is there to be told

    async def _leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
