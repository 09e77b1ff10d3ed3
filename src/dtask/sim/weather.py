"""Which faults a run has, and how often: drawn once for each seed.

Each kind of fault is left out of about half of the runs. A run in which everything goes wrong at
once hides what a few faults do to each other undisturbed.
"""

import random
from typing import Final

from msgspec import Struct

#: Mean seconds between two faults of a kind, in the runs that have it.
MEAN_S: Final[dict[str, float]] = {
    "cut_off": 40.0,
    "freeze": 40.0,
    "kill": 25.0,
    "twin": 50.0,
    "retire": 60.0,
    "drain": 30.0,
    "crash": 50.0,
    "stall": 30.0,
    "step_clock": 60.0,
}


class Weather(Struct, frozen=True):
    """Probabilities for each message, and the kinds of fault with their mean seconds between."""

    loss: float = 0.0
    slow: float = 0.0
    repeat: float = 0.0
    every_s: tuple[tuple[str, float], ...] = ()


#: Nothing goes wrong.
CALM: Final = Weather()


def draw(rng: random.Random) -> Weather:
    """The weather of one run."""

    def some(most: float) -> float:
        return rng.uniform(0, most) if rng.random() < 0.5 else 0.0  # noqa: PLR2004 (every other run)

    return Weather(
        loss=some(0.2),
        slow=some(0.1),
        repeat=some(0.1),
        every_s=tuple(
            (kind, rng.uniform(0.5, 2) * mean_s)
            for kind, mean_s in MEAN_S.items()
            if rng.random() < 0.5  # noqa: PLR2004 (every other run)
        ),
    )
