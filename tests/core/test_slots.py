from hypothesis import given
from hypothesis import strategies as st

from dtask.core.placement import slots

some_slots = st.sets(st.integers(0, 3_000), max_size=40)


@given(some_slots)
def test_a_bitset_has_a_bit_for_each_member(members: set[int]) -> None:
    assert slots.bits_of(members) == sum(1 << slot for slot in members)


@given(st.lists(st.integers(0, 30), max_size=80))
def test_members_come_and_go_as_in_a_set(toggled: list[int]) -> None:
    model: set[int] = set()
    members: slots.Slots = ()
    for slot in toggled:
        if slot in model:
            model.remove(slot)
            members = slots.excluding(members, slot)
        else:
            model.add(slot)
            members = slots.including(members, slot)
        as_bits = members if isinstance(members, int) else slots.bits_of(members)
        assert as_bits == slots.bits_of(model)
        assert bool(members) == bool(model)


def test_small_sets_stay_small_and_large_ones_become_bitsets() -> None:
    members: slots.Slots = ()
    for slot in range(slots.FEW_MAX):
        members = slots.including(members, slot)
    assert isinstance(members, tuple)
    assert isinstance(slots.including(members, slots.FEW_MAX), int)


@given(some_slots.filter(bool), st.integers(-1, 3_100))
def test_the_next_slot_is_the_first_after_or_else_the_lowest(members: set[int], after: int) -> None:
    bits = slots.bits_of(members)
    later = [slot for slot in members if slot > after]
    assert slots.next_cyclic(bits, after) == min(later or members)
    assert slots.lowest(bits) == min(members)
