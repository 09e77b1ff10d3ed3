"""Sets of slots of the worker table: bitsets, or tuples while they are small.

A bitset is a Python int with bit `slot` set for each member: `&`, `|` and `^` run over machine
words, 0.2 us at 50,000 slots. But it is as wide as its highest slot, 6.7 KB there, however few
members it has; thousands of sets with a member or two would take hundreds of megabytes. So a set
that has never had more than a few members is a tuple of slots.
"""

from collections.abc import Collection
from typing import Final

#: A set with more members than this is kept as a bitset.
FEW_MAX: Final = 8

_NEAR: Final = (1 << 512) - 1

Slots = int | tuple[int, ...]


def including(members: Slots, slot: int) -> Slots:
    """`members` and `slot`, which is not among them."""
    if isinstance(members, int):
        return members ^ 1 << slot
    members = (*members, slot)
    return members if len(members) <= FEW_MAX else bits_of(members)


def excluding(members: Slots, slot: int) -> Slots:
    """`members` without `slot`, which is among them. Falsy if nothing is left."""
    if isinstance(members, int):
        return members ^ 1 << slot
    return tuple([member for member in members if member != slot])  # a generator costs twice


def bits_of(members: Collection[int]) -> int:
    """The bitset of these slots: O(words) however many there are."""
    if len(members) <= FEW_MAX:
        bits = 0
        for slot in members:
            bits |= 1 << slot
        return bits
    raw = bytearray((max(members) >> 3) + 1)
    for slot in members:
        raw[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(raw, "little")


def lowest(bits: int) -> int:
    """The lowest slot of a bitset that is not empty.

    It is mostly near, and `&` with a narrow int costs only its width; `bits - 1` goes through all.
    """
    near = bits & _NEAR
    if near:
        return (near & -near).bit_length() - 1
    return (bits ^ (bits - 1)).bit_length() - 1


def next_cyclic(bits: int, after: int) -> int:
    """The first slot of `bits` after `after`; if there is none, the lowest one."""
    above = bits >> (after + 1)
    near = above & _NEAR
    if near:
        return (near & -near).bit_length() + after
    return lowest(above) + after + 1 if above else lowest(bits)
