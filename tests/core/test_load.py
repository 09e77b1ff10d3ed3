import random
from collections.abc import Callable

import pytest

from dtask.core.placement.load import CHILDREN_MAX, LoadOrder, Node


class Model:
    """The order and a dict that says the same."""

    def __init__(self) -> None:
        self.order = LoadOrder()
        self.loads: dict[int, float] = {}

    def add(self, slot: int, load: float) -> None:
        self.order.add(slot, load)
        self.loads[slot] = load

    def discard(self, slot: int) -> None:
        self.order.discard(slot, self.loads.pop(slot))

    def check(self, candidates: int) -> None:
        """The order holds what the dict holds, and answers as a scan of the dict would."""
        self.order.check(self.loads)
        among = {slot: load for slot, load in self.loads.items() if candidates >> slot & 1}
        least = min(among.values(), default=0.0)
        lowest = bits(slot for slot in among if among[slot] == least)
        for floor in (0.0, least / 2, least):
            assert self.order.least(candidates, floor) == (lowest, least if among else floor)
        most = max(among.values(), default=None)
        assert self.order.most(candidates) == bits(s for s in among if among[s] == most)


def bits(slots: object) -> int:
    return sum(1 << slot for slot in slots)  # type: ignore[attr-defined]


def storeys(order: LoadOrder) -> int:
    node: Node = order._root
    count = 1
    while node.below:
        node, count = node.below[0], count + 1
    return count


def test_an_empty_order_has_no_candidate() -> None:
    order = LoadOrder()
    assert (order.members, order.least(-1), order.most(-1)) == (0, (0, 0.0), 0)


def test_equal_loads_share_a_level_and_only_candidates_are_answered() -> None:
    model = Model()
    for slot, load in enumerate([0.5, 0.25, 0.25, 0.75, 1 / 3, 2 / 6]):
        model.add(slot, load)
    assert model.order.members == 0b111111
    assert model.order.least(0b111111)[0] == 0b000110
    assert model.order.least(0b110001)[0] == 0b110000
    assert model.order.most(0b000111) == 0b000001
    assert model.order.least(1 << 6)[0] == 0


@pytest.mark.parametrize("distinct", [1, 30, 40_000])
def test_the_order_says_what_a_dict_says_while_loads_come_move_and_go(
    rng: Callable[[int], random.Random], distinct: int
) -> None:
    draw = rng(distinct)
    model = Model()
    highest = 0
    for target in (3_000, 100, 1_500, 0):
        while len(model.loads) != target:
            step = draw.random()
            if step < 0.3 and model.loads:
                slot = draw.choice(list(model.loads))
                model.discard(slot)
                model.add(slot, draw.randrange(distinct) / distinct)
            elif len(model.loads) < target:
                slot = draw.randrange(4_000)
                if slot not in model.loads:
                    model.add(slot, draw.randrange(distinct) / distinct)
            else:
                model.discard(draw.choice(list(model.loads)))
            if draw.random() < 0.005:
                model.check(draw.getrandbits(4_000) if draw.random() < 0.5 else 1 << 7)
        highest = max(highest, storeys(model.order))
        model.check(-1)
    assert highest == (3 if distinct > CHILDREN_MAX**2 else 1)
    assert storeys(model.order) == 1


@pytest.mark.parametrize("upwards", [True, False])
def test_loads_in_order_split_and_join_nodes_at_either_end(*, upwards: bool) -> None:
    model = Model()
    slots = list(range(2_500)) if upwards else list(reversed(range(2_500)))
    for slot in slots:
        model.add(slot, slot / 2_500)
    assert storeys(model.order) >= 3
    model.check(-1)
    for slot in slots[:-1]:
        model.discard(slot)
        if slot % 100 == 0:
            model.check(-1)
    assert storeys(model.order) == 1
    assert model.order.members == 1 << slots[-1]


def test_a_level_that_grew_large_and_shrank_again_answers_the_same() -> None:
    model = Model()
    for slot in range(40):
        model.add(slot, 0.5)
        model.check(-1)
    for slot in range(39):
        model.discard(slot)
        model.check(-1)
    assert model.order.least(1 << 39 | 1)[0] == 1 << 39
