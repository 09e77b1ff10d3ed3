"""How late the loop wakes up, and what it misses while it stands still."""

import asyncio
import contextlib
import time

from dtask.scheduler.lag import watch_lag
from dtask.scheduler.tallies import Tallies


def test_wake_ups_that_were_missed_count_as_late_ones() -> None:
    async def story() -> Tallies:
        tallies = Tallies()
        watching = asyncio.create_task(watch_lag(tallies))
        await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251 (the loop is to stand still)
        await asyncio.sleep(0.01)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        return tallies

    tallies = asyncio.run(story())
    late = sum(
        count
        for bound, count in zip((*tallies.lag.bounds, 9), tallies.lag.counts, strict=True)
        if bound > 0.1
    )
    assert late >= 8
