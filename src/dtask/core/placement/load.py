"""Workers with a free slot, ordered by load: a B-tree of bitsets.

Distinct loads are *levels*, each with the set of the slots that stand on it. The leaves of the
tree hold levels, lowest first, and every node knows the union of what is below it. To find the
least loaded of some candidates, go down into the first child whose union meets them: at most
three times 64 intersections for 50,000 distinct loads, where a flat list of levels needs as many
as there are loads. Moving a worker from one level to another is two `^` for every storey of the
tree, and a fleet with few distinct loads has one storey.

Fixed bands of load would be simpler, and fail when all loads are close together.
"""

from bisect import bisect_left
from itertools import islice
from typing import Final

from dtask.core.placement import slots
from dtask.core.placement.slots import Slots

#: A node with more children than this is split in two.
CHILDREN_MAX: Final = 64

#: A node that shrinks to this is joined to a neighbour, if the two are not too large together.
CHILDREN_MIN: Final = 16
JOINED_MAX: Final = 48


class Node:
    """Neighbouring levels (in a leaf) or nodes, lowest loads first, and their union."""

    __slots__ = ("below", "levels", "tops", "union")

    def __init__(self, tops: list[float], below: list["Node"], levels: list[Slots]) -> None:
        #: The highest load in each child; in a leaf, the load of each level.
        self.tops = tops
        #: The children; of these two lists the one that is not used is empty.
        self.below = below
        self.levels = levels
        #: A bitset. Each slot stands on one level, so adding and removing are both `^`.
        self.union = 0
        for level in levels:
            self.union ^= _bits(level)
        for node in below:
            self.union ^= node.union


class LoadOrder:
    """An ordered set of levels. `load` is occupancy / max_tasks; equal loads are equal floats."""

    def __init__(self) -> None:
        self._root = Node([], [], [])

    @property
    def members(self) -> int:
        """All slots in the order, as a bitset."""
        return self._root.union

    def add(self, slot: int, load: float) -> None:
        """Put `slot`, which is not in the order, on the level of `load`."""
        _enter(self._root, slot, 1 << slot, load)

        self._mend_root()

    def discard(self, slot: int, load: float) -> None:
        """Take `slot` off the level of `load`, where it stands, and out of the order."""
        _leave(self._root, slot, 1 << slot, load)
        self._mend_root()

    def move(self, slot: int, old: float, new: float) -> None:
        """Take `slot` from the level of `old`, where it stands, to the level of `new`."""
        _move(self._root, slot, 1 << slot, old, new)
        self._mend_root()

    def least(self, candidates: int, floor: float = 0.0) -> tuple[int, float]:
        """The candidates on the lowest level that has any, as a bitset, and its load.

        (0, `floor`) if none is here. No candidate may stand on a level below `floor`: the search
        begins there.
        """
        node = self._root
        met = node.union & candidates
        if not met:
            return 0, floor
        while node.below:
            for child in islice(node.below, bisect_left(node.tops, floor), None):
                if inside := child.union & met:
                    node, met = child, inside
                    break
            else:
                raise AssertionError("a union holds a slot that nothing from the floor on holds")
        for i in range(bisect_left(node.tops, floor), len(node.tops)):
            if inside := _common(node.levels[i], met):
                return inside, node.tops[i]
        raise AssertionError("a union holds a slot that no level from the floor on holds")

    def most(self, candidates: int) -> int:
        """The candidates on the highest level that has any, as a bitset; 0 if none is here."""
        node = self._root
        met = node.union & candidates
        while node.below and met:
            node, met = next(
                (child, inside) for child in reversed(node.below) if (inside := child.union & met)
            )
        return next(
            (inside for level in reversed(node.levels) if (inside := _common(level, met))), 0
        )

    def check(self, load_by_slot: dict[int, float]) -> None:
        """Assert that the order holds exactly these slots, each on its level."""
        levels: dict[float, int] = {}
        for slot, load in load_by_slot.items():
            levels[load] = levels.get(load, 0) | 1 << slot
        found: list[tuple[float, int]] = []
        _collect(self._root, found)
        assert found == sorted(levels.items())
        assert self.members == sum(levels.values())

    def _mend_root(self) -> None:
        root = self._root
        if len(root.tops) > CHILDREN_MAX:
            lower, upper = _split(root)
            self._root = Node([lower.tops[-1], upper.tops[-1]], [lower, upper], [])
        elif len(root.below) == 1:
            self._root = root.below[0]


def _enter(node: Node, slot: int, bit: int, load: float) -> None:
    """Put a slot on its level below `node`. Mend the node above afterwards."""
    node.union ^= bit
    if node.below:
        # A load above all others goes into the last child.
        i = min(bisect_left(node.tops, load), len(node.tops) - 1)
        _enter(node.below[i], slot, bit, load)
        _mend(node, i)
    else:
        _put(node, slot, load)


def _leave(node: Node, slot: int, bit: int, load: float) -> None:
    """Take a slot off its level below `node`. Mend the node above afterwards."""
    node.union ^= bit
    if node.below:
        i = bisect_left(node.tops, load)
        _leave(node.below[i], slot, bit, load)
        _mend(node, i)
    else:
        _take(node, slot, load)


def _move(node: Node, slot: int, bit: int, old: float, new: float) -> None:
    """Take a slot from level to level below `node`, whose union does not change."""
    if not node.below:
        _take(node, slot, old)
        _put(node, slot, new)
        return
    source = bisect_left(node.tops, old)
    target = min(bisect_left(node.tops, new), len(node.tops) - 1)
    if source == target:
        _move(node.below[source], slot, bit, old, new)
        _mend(node, source)
    else:
        _leave(node.below[source], slot, bit, old)
        _enter(node.below[target], slot, bit, new)
        _mend(node, max(source, target))  # the later one first: mending may shift what follows
        _mend(node, min(source, target))


def _put(leaf: Node, slot: int, load: float) -> None:
    i = bisect_left(leaf.tops, load)
    if i < len(leaf.tops) and leaf.tops[i] == load:
        leaf.levels[i] = slots.including(leaf.levels[i], slot)
    else:
        leaf.tops.insert(i, load)
        leaf.levels.insert(i, (slot,))


def _take(leaf: Node, slot: int, load: float) -> None:
    i = bisect_left(leaf.tops, load)
    assert leaf.tops[i] == load
    level = slots.excluding(leaf.levels[i], slot)
    if level:
        leaf.levels[i] = level
    else:
        del leaf.levels[i], leaf.tops[i]


def _mend(node: Node, i: int) -> None:
    """Bring `node` in order after its child `i` changed: drop, split or join that child."""
    child = node.below[i]
    size = len(child.tops)
    if not size:
        del node.below[i], node.tops[i]
        return
    node.tops[i] = child.tops[-1]
    if size > CHILDREN_MAX:
        _replace(node, i, 1, list(_split(child)))
    elif size <= CHILDREN_MIN and len(node.below) > 1:
        i = min(i, len(node.below) - 2)
        one, two = node.below[i : i + 2]
        if len(one.tops) + len(two.tops) <= JOINED_MAX:
            joined = Node(one.tops + two.tops, one.below + two.below, one.levels + two.levels)
            _replace(node, i, 2, [joined])


def _split(node: Node) -> tuple[Node, Node]:
    half = len(node.tops) // 2
    lower = Node(node.tops[:half], node.below[:half], node.levels[:half])
    return lower, Node(node.tops[half:], node.below[half:], node.levels[half:])


def _replace(node: Node, i: int, count: int, children: list[Node]) -> None:
    node.below[i : i + count] = children
    node.tops[i : i + count] = [child.tops[-1] for child in children]


def _collect(node: Node, found: list[tuple[float, int]]) -> None:
    """Append the levels below `node`, asserting that it is as it should be."""
    assert len(node.tops) == len(node.below) + len(node.levels) <= CHILDREN_MAX
    assert not (node.below and node.levels)
    start = len(found)
    for top, child in zip(node.tops, node.below, strict=False):
        _collect(child, found)
        assert found[-1][0] == top
    found.extend(zip(node.tops, map(_bits, node.levels), strict=False))
    assert node.union == sum(bits for _, bits in found[start:])


def _common(level: Slots, met: int) -> int:
    """The part of the bitset `met` that stands on the level."""
    if isinstance(level, int):
        return level & met
    return slots.bits_of([slot for slot in level if met >> slot & 1])


def _bits(level: Slots) -> int:
    return level if isinstance(level, int) else slots.bits_of(level)
