"""One thread that does one thing after the other for an event loop, at little cost for each.

An executor of the standard library does the same by way of two futures and three locks, which
cost a small commit as much as its rows do.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Errand(NamedTuple):
    act: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Any]"


class Aside:
    """The thread called `name`; it begins with the first thing to do. `stop` it at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, act: Callable[[], T]) -> T:
        """What `act` returns or raises, once all that was asked for before is done.

        Whoever is cancelled meanwhile does not stop it.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._errands.put(_Errand(act, loop, answer))
        return await answer

    def stop(self) -> None:
        """Wait until all that was asked for is done."""
        if self._thread is not None:
            self._errands.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None:
            result, error = None, None
            try:
                result = errand.act()
            except BaseException as raised:  # noqa: BLE001 (whoever asked is told)
                error = raised
            if not errand.loop.is_closed():
                errand.loop.call_soon_threadsafe(_tell, errand.answer, result, error)


def _tell(answer: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if answer.done():
        return  # nobody waits any more
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
