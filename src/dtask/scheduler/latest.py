"""The last answer to a question that the job half is asked again and again.

An answer comes when all that it is based on is durable, so it may be long in coming when the disk
is slow. Whoever shows it goes on meanwhile, and never has more than one question open.
"""

import asyncio
from typing import Any, Final, Generic, TypeVar

from dtask.core.cluster import Event
from dtask.scheduler.loop import Loop

T = TypeVar("T")

#: An answer is shown no longer than this while another one is waited for.
OLD_S: Final = 5.0


class Latest(Generic[T]):
    """The answers to one event."""

    def __init__(self, loop: Loop, event: Event) -> None:
        self._loop = loop
        self._event = event
        self._asked: asyncio.Future[Any] | None = None
        self._value: T | None = None
        self._old_at = 0.0

    def value(self) -> T | None:
        """The last answer that has come; None before the first, if it was an error, or is old."""
        if self._asked is not None and self._asked.done():
            self._value = None if self._asked.exception() else self._asked.result()
            self._asked = None
        if self._asked is not None and asyncio.get_running_loop().time() > self._old_at:
            self._value = None  # the next one does not come: this is how it was
        return self._value

    def ask(self) -> "asyncio.Future[Any]":
        """Ask once more, unless the last question is still open."""
        self.value()
        if self._asked is None:
            self._asked = self._loop.post(self._event)
            self._old_at = asyncio.get_running_loop().time() + OLD_S
            self._asked.add_done_callback(_heed)
        return self._asked

    @property
    def is_late(self) -> bool:
        """Whether a question is open."""
        return self._asked is not None and not self._asked.done()


def _heed(answer: "asyncio.Future[Any]") -> None:
    """Nobody may ask for it any more, and an error is no bug here."""
    if not answer.cancelled():
        answer.exception()
