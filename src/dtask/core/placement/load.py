"""Workers with a free slot, ordered by load: a two-level B-tree of bitsets.

Distinct loads are *levels*, each with the bitset of the slots that stand on it. Levels are kept
sorted in *runs* of at most 128, and a run knows the union of its levels. To find the least loaded
of some candidates, walk the unions until one meets them, then the levels inside that run: at most
runs + 128 intersections, where a flat list of levels needs as many as there are loads (50,000
distinct ones: 550 against 50,000). Moving a worker from one level to another is four `^`.

Fixed bands of load would be simpler, and fail when all loads are close together.
"""

from bisect import bisect_left
from typing import Final

#: A run that grows over this is split in two.
RUN_MAX: Final = 128

#: A run that shrinks to this is joined to its neighbour, if both fit into half a run.
RUN_MIN: Final = 16


class Level:
    """The slots whose workers have the same load."""

    __slots__ = ("bits", "load", "run")

    def __init__(self, load: float, run: "Run") -> None:
        self.load = load
        self.bits = 0
        self.run = run


class Run:
    """Neighbouring levels and their union."""

    __slots__ = ("levels", "union")

    def __init__(self, levels: list[Level], union: int) -> None:
        self.levels = levels
        self.union = union


class LoadOrder:
    """An ordered set of levels. `load` is occupancy / max_tasks; equal loads are equal floats."""

    def __init__(self) -> None:
        #: All slots in the order.
        self.members = 0
        self._levels: dict[float, Level] = {}
        self._runs: list[Run] = []

    def __len__(self) -> int:
        """How many distinct loads there are."""
        return len(self._levels)

    def add(self, slot: int, load: float) -> None:
        """Put `slot`, which is not in the order, on the level of `load`."""
        bit = 1 << slot
        self.members ^= bit
        self._enter(bit, load)

    def discard(self, slot: int, load: float) -> None:
        """Take `slot` off the level of `load`, where it stands, and out of the order."""
        bit = 1 << slot
        self.members ^= bit
        self._leave(bit, load)

    def move(self, slot: int, old: float, new: float) -> None:
        """Move `slot` from the level of `old` to the level of `new`."""
        bit = 1 << slot
        self._leave(bit, old)
        self._enter(bit, new)

    def least(self, candidates: int) -> int:
        """The candidates on the lowest level that has any; 0 if none is in the order."""
        for run in self._runs:
            if run.union & candidates:
                for level in run.levels:
                    if met := level.bits & candidates:
                        return met
        return 0

    def most(self, candidates: int) -> int:
        """The candidates on the highest level that has any; 0 if none is in the order."""
        for run in reversed(self._runs):
            if run.union & candidates:
                for level in reversed(run.levels):
                    if met := level.bits & candidates:
                        return met
        return 0

    def check(self, load_by_slot: dict[int, float]) -> None:
        """Assert that the order holds exactly these slots, each on its level."""
        seen: dict[int, float] = {}
        last = -1.0
        for run in self._runs:
            assert 0 < len(run.levels) <= RUN_MAX
            union = 0
            for level in run.levels:
                assert level.load > last
                assert level.bits
                assert not union & level.bits
                assert level.run is run
                assert self._levels[level.load] is level
                last = level.load
                union |= level.bits
                bits = level.bits
                while bits:
                    slot = bits.bit_length() - 1
                    seen[slot] = level.load
                    bits ^= 1 << slot
            assert union == run.union
        assert len(self._levels) == sum(len(run.levels) for run in self._runs)
        assert seen == load_by_slot
        assert self.members == sum(1 << slot for slot in load_by_slot)

    def _enter(self, bit: int, load: float) -> None:
        level = self._levels.get(load) or self._insert(load)
        level.bits ^= bit
        level.run.union ^= bit

    def _leave(self, bit: int, load: float) -> None:
        level = self._levels[load]
        level.bits ^= bit
        level.run.union ^= bit
        if not level.bits:
            self._remove(level)

    def _insert(self, load: float) -> Level:
        runs = self._runs
        if not runs:
            runs.append(Run([], 0))
        at = min(bisect_left(runs, load, key=_highest), len(runs) - 1)
        run = runs[at]
        level = self._levels[load] = Level(load, run)
        run.levels.insert(bisect_left(run.levels, load, key=_load), level)
        if len(run.levels) > RUN_MAX:
            self._split(at)
        return level

    def _remove(self, level: Level) -> None:
        run = level.run
        del self._levels[level.load]
        index = self._runs.index(run) if len(self._runs) == 1 else self._position(run, level.load)
        del run.levels[bisect_left(run.levels, level.load, key=_load)]
        if not run.levels:
            del self._runs[index]
        elif len(run.levels) <= RUN_MIN and len(self._runs) > 1:
            self._join(index if index + 1 < len(self._runs) else index - 1)

    def _position(self, run: Run, load: float) -> int:
        at = bisect_left(self._runs, load, key=_highest)
        assert self._runs[at] is run
        return at

    def _split(self, at: int) -> None:
        run = self._runs[at]
        upper = Run(run.levels[RUN_MAX // 2 :], 0)
        del run.levels[RUN_MAX // 2 :]
        for level in upper.levels:
            level.run = upper
            upper.union |= level.bits
        run.union ^= upper.union
        self._runs.insert(at + 1, upper)

    def _join(self, at: int) -> None:
        lower, upper = self._runs[at], self._runs[at + 1]
        if len(lower.levels) + len(upper.levels) > RUN_MAX // 2:
            return
        for level in upper.levels:
            level.run = lower
        lower.levels += upper.levels
        lower.union |= upper.union
        del self._runs[at + 1]


def _highest(run: Run) -> float:
    return run.levels[-1].load


def _load(level: Level) -> float:
    return level.load
