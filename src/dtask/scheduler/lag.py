"""How late the event loop wakes up: what keeps it busy keeps everyone else waiting.

Whoever wakes up ten times a second also takes in what was put aside to be counted.
"""

import asyncio
import time
from typing import Final

from dtask.scheduler.tallies import Tallies

#: Between two wake-ups.
EVERY_S: Final = 0.1


async def watch_lag(tallies: Tallies) -> None:
    """Wake up now and then, and count how late that was. Ends when cancelled."""
    while True:
        due = time.monotonic() + EVERY_S
        await asyncio.sleep(EVERY_S)
        late_s = max(0.0, time.monotonic() - due)
        while late_s >= 0.0:  # the wake-ups that were missed meanwhile would have been late, too
            tallies.lag.add(late_s)
            late_s -= EVERY_S
        tallies.fold()
