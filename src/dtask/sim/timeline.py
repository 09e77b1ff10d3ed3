"""Virtual time: what is to happen, in the order of (time, sequence)."""

import heapq
import itertools
from collections.abc import Callable
from typing import Final

#: Where virtual time starts, epoch seconds.
START: Final = 1_700_000_000.0

Action = Callable[[], None]


class Timeline:
    """A heap of actions; the time is that of the one that runs."""

    def __init__(self) -> None:
        self.now = START
        self._sequence = itertools.count()
        self._heap: list[tuple[float, int, Action]] = []

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since the start."""
        return self.now - START

    def after(self, delay_s: float, action: Action) -> None:
        """Let `action` happen in `delay_s` seconds, after all that were to happen by then."""
        heapq.heappush(self._heap, (self.now + delay_s, next(self._sequence), action))

    def run_for(self, seconds: float) -> None:
        """Let everything happen that is due within `seconds`."""
        until = self.now + seconds
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action = heapq.heappop(heap)
            action()
        self.now = until
