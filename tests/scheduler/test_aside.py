import asyncio
import threading
from collections.abc import Callable

import pytest

from dtask.errors import Unavailable
from dtask.scheduler.aside import Aside


def test_things_are_done_one_after_the_other_in_a_thread_of_that_name() -> None:
    done: list[tuple[int, str]] = []

    def noting(number: int) -> Callable[[], int]:
        def act() -> int:
            done.append((number, threading.current_thread().name))
            return number

        return act

    async def main() -> list[int]:
        return await asyncio.gather(*(aside.do(noting(number)) for number in range(50)))

    aside = Aside("one-hand")
    assert asyncio.run(main()) == list(range(50))
    assert done == [(number, "one-hand") for number in range(50)]
    aside.stop()
    assert "one-hand" not in {thread.name for thread in threading.enumerate()}


def test_what_is_raised_reaches_whoever_asked_and_the_next_is_done() -> None:
    def fail() -> None:
        raise Unavailable("The disk is full.", code="store_failed")

    async def main() -> None:
        with pytest.raises(Unavailable, match="disk is full"):
            await aside.do(fail)
        assert await aside.do(lambda: 1) == 1

    aside = Aside("one-hand")
    asyncio.run(main())
    aside.stop()


def test_who_stops_waiting_stops_nothing_and_the_stop_waits_for_it() -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        go.wait(10)
        done.set()

    async def main() -> None:
        asking = asyncio.create_task(aside.do(act))
        await asyncio.to_thread(begun.wait, 10)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        go.set()
        assert await aside.do(lambda: 2) == 2  # the answer of the first came before, to nobody

    aside = Aside("one-hand")
    asyncio.run(main())
    aside.stop()
    assert done.is_set()


def test_loop_that_is_gone_is_told_nothing() -> None:
    go, told = threading.Event(), threading.Event()

    async def main() -> None:
        asking = asyncio.create_task(aside.do(lambda: go.wait(10)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    aside = Aside("one-hand")
    asyncio.run(main())
    go.set()

    async def again() -> None:
        await aside.do(told.set)

    asyncio.run(again())
    assert told.is_set()
    aside.stop()
    aside.stop()
