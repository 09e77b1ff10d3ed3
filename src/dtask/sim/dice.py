"""Chance, one stream for each concern, all out of one seed.

Streams of their own keep concerns apart: one more draw for the network does not change which
worker is killed next, so a change of the simulation moves as little of a run as possible.
"""

import random


def stream(seed: int, concern: str) -> random.Random:
    """The random numbers of one concern. The same under any PYTHONHASHSEED."""
    return random.Random(f"{seed}/{concern}")  # noqa: S311 (it must be repeatable, not secret)
