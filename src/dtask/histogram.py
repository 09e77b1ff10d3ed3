"""How often a value fell between two bounds: cheap to add to, and enough for quantiles."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts of the values up to each bound and above the one before, and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: One more than there are bounds: the last one is of the values above all of them.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
