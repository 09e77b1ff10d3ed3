"""What is due when: a heap whose entries may have become void by the time they come up."""

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Timers(Generic[T]):
    """Things to look at again, by time. Whoever looks checks whether there is anything to do."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        #: Tells entries of the same time apart.
        self._added = 0

    def add(self, when: float, what: T) -> None:
        """Look at `what` at `when`."""
        self._added += 1
        heapq.heappush(self._heap, (when, self._added, what))

    def next_due(self) -> float:
        """When the first is due; infinity if none is."""
        return self._heap[0][0] if self._heap else float("inf")

    def pop_due(self, now: float) -> T | None:
        """The next thing that is due, taken out; None if there is none."""
        if self._heap and self._heap[0][0] <= now:
            return heapq.heappop(self._heap)[2]
        return None
