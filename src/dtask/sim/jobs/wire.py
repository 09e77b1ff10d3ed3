"""One connection of a worker channel: in order, reliable, until it breaks.

What is under way when it breaks is lost. The two ends learn of the break later, each on its own.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from dtask.sim.timeline import Timeline

#: Seconds on the way, and until an end learns that the other is gone.
DELAY_S: Final = (0.0005, 0.02)
NOTICE_S: Final = (0.001, 12.0)

Take = Callable[[Any], None]
Gone = Callable[[], None]


class End:
    """One end: what it sends arrives at the other."""

    def __init__(self, wire: "Wire") -> None:
        self._wire = wire
        #: Set by whoever holds this end.
        self.take: Take = _ignore
        self.gone: Gone = _nothing
        self.other: End = self
        self._last_arrival = 0.0
        #: Nothing comes in or goes out here any more.
        self.closed = False

    def send(self, message: Any) -> None:  # noqa: ANN401 (any frame)
        """Send a message; it arrives after those sent before, or never."""
        wire = self._wire
        arrival = max(self._last_arrival, wire.timeline.now + wire.rng.uniform(*DELAY_S))
        self._last_arrival = arrival
        wire.timeline.after(arrival - wire.timeline.now, lambda: self.other.arrive(message))

    def arrive(self, message: Any) -> None:  # noqa: ANN401 (any frame)
        """A message from the other end."""
        if not self._wire.broken and not self.closed:
            self.take(message)

    def close(self) -> None:
        """Hang up. This end knows; the other one learns of it soon."""
        self.closed = True
        self._wire.cut()

    def learn(self) -> None:
        """It is broken."""
        if not self.closed:
            self.closed = True
            self.gone()


class Wire:
    """Both ends."""

    def __init__(self, timeline: Timeline, rng: random.Random) -> None:
        self.timeline = timeline
        self.rng = rng
        self.broken = False
        self.worker = End(self)
        self.scheduler = End(self)
        self.worker.other, self.scheduler.other = self.scheduler, self.worker

    def cut(self) -> None:
        """It breaks."""
        if self.broken:
            return
        self.broken = True
        for end in (self.worker, self.scheduler):
            quick = self.rng.random() < 0.5  # noqa: PLR2004 (a reset, or silence)
            delay_s = 0.001 if quick else self.rng.uniform(*NOTICE_S)
            self.timeline.after(delay_s, end.learn)


def _ignore(_message: object) -> None:
    pass


def _nothing() -> None:
    pass
