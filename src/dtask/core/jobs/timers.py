"""What is due when: a heap whose entries may have become void by the time they come up."""

import heapq
from collections.abc import Callable
from typing import Any, Final, TypeVarTuple

Ts = TypeVarTuple("Ts")

#: Entries before anybody looks for those that are void.
TIDY_MIN: Final = 1024

#: Entries that ring at a time, so that none holds up the loop: a hundred thousand jobs may have
#: asked for the same hour.
RING_MAX: Final = 1000


class Timers:
    """Things to do, by time. What `still` says of an entry tells whether it is void.

    A void entry may hold on to a job that ended long ago, so they are dropped before they are
    more than those that count.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Entry]] = []
        #: Tells entries of the same time apart.
        self._added = 0
        self._tidy_at = TIDY_MIN

    def add(
        self,
        when: float,
        still: Callable[[*Ts], bool],
        act: Callable[[*Ts], None],
        *what: *Ts,
    ) -> None:
        """Do `act(*what)` at `when`, if `still(*what)` says so then."""
        self._added += 1
        heapq.heappush(self._heap, (when, self._added, (still, act, what)))
        if len(self._heap) >= self._tidy_at:
            self._heap = [entry for entry in self._heap if _counts(entry[2])]
            heapq.heapify(self._heap)
            self._tidy_at = max(TIDY_MIN, 2 * len(self._heap))

    def next_due(self) -> float:
        """When the first is due; infinity if none is."""
        return self._heap[0][0] if self._heap else float("inf")

    def ring(self, now: float) -> None:
        """Do what is due at `now`, in its order. If that is much, some stays due."""
        for _ in range(RING_MAX):
            if not self._heap or self._heap[0][0] > now:
                return
            entry = heapq.heappop(self._heap)[2]
            if _counts(entry):
                _, act, what = entry
                act(*what)

    def __len__(self) -> int:
        return len(self._heap)


#: (still, act, what).
_Entry = tuple[Callable[..., bool], Callable[..., None], tuple[Any, ...]]


def _counts(entry: _Entry) -> bool:
    still, _, what = entry
    return still(*what)
