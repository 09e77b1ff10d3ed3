"""Those who read a stream without an end: how many, and how they are woken."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from dtask.errors import Busy


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
        for sleeper in self._sleepers:
            _wake(sleeper)

    async def wake_in_turn(self) -> None:
        """Wake all who wait, one after the other, so that nobody else waits for all of them.

        Writing a message takes some 40 us: 200 at once would hold a placement up for 8 ms.
        """
        for sleeper in list(self._sleepers):
            _wake(sleeper)
            await asyncio.sleep(0)


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
