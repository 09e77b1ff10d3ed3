"""Those who read a stream without an end: how many, and how they are woken."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from dtask.errors import Busy

#: Readers that are woken in one turn of the loop: half a millisecond of writing.
TURN: Final = 16


class Readers:
    """At most `most` at a time, of streams of `what`."""

    def __init__(self, most: int, what: str) -> None:
        self.count = 0
        self._most = most
        self._what = what
        self._sleepers: set[asyncio.Future[None]] = set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Be one of them. Raises Busy if there are too many."""
        if self.count >= self._most:
            raise Busy(
                f"{self._most} requests read {self._what}, which is the limit: ask again later.",
                code="too_many_waiters",
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def woken(self) -> None:
        """Wait for the next `wake`."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            self._sleepers.discard(sleeper)

    def wake(self) -> None:
        """Wake all who wait. It costs nothing if nobody does."""
        if self._sleepers:
            sleepers, self._sleepers = self._sleepers, set()
            _wake(sleepers)

    async def wake_in_turns(self) -> None:
        """Wake all who wait, some at a time, so that nobody else waits for all of them."""
        sleepers, self._sleepers = list(self._sleepers), set()
        for start in range(0, len(sleepers), TURN):
            _wake(sleepers[start : start + TURN])
            await asyncio.sleep(0)


def _wake(sleepers: Iterable["asyncio.Future[None]"]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():
            sleeper.set_result(None)
