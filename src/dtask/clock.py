"""The one time of dtask's processes: epoch seconds that never run back.

Durations must survive a suspended machine and a stepped wall clock, and deadlines such as
"at 18:00" must survive a restart. So `now()` is CLOCK_BOOTTIME (it counts suspends, nobody can
step it) plus an anchor that ties it to the wall clock. Once a minute the anchor is moved forward
if the wall clock has got ahead; it is never moved back, so time may stand a little ahead of a
wall clock that was set back, but two readings never come in the wrong order.
"""

import time
from typing import Protocol

#: Seconds between two looks at the wall clock.
ANCHOR_EVERY_S = 60.0

#: Differences below this are left alone: NTP slews by less, and jitter would only add noise.
ANCHOR_SLACK_S = 0.001


class Clock(Protocol):
    """What a shell needs of time."""

    def now(self) -> float:
        """Epoch seconds, never less than the reading before."""
        ...


class SystemClock:
    """The machine's time. Cheap: two additions and one system call that the vDSO answers."""

    def __init__(self) -> None:
        #: epoch seconds = boot time + anchor
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._anchor = time.time() - boot
        self._look_again = boot + ANCHOR_EVERY_S

    def now(self) -> float:
        """Epoch seconds, never less than the reading before."""
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        if boot >= self._look_again:
            self._look_again = boot + ANCHOR_EVERY_S
            ahead = time.time() - boot - self._anchor
            if ahead > ANCHOR_SLACK_S:
                self._anchor += ahead
        return boot + self._anchor


class ManualClock:
    """Time that stands still until it is told to go on. For tests."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """Epoch seconds as last set."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Go on by `seconds` (never negative); return the new time."""
        assert seconds >= 0, seconds
        self._now += seconds
        return self._now
