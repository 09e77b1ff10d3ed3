"""Which faults a run of the job half has, and how often: drawn once for each seed."""

import random
from typing import Final

from msgspec import Struct

#: Mean seconds between two faults of a kind, in the runs that have it.
MEAN_S: Final[dict[str, float]] = {
    "cut_wire": 15.0,
    "cut_off": 40.0,
    "deafen": 40.0,
    "freeze": 40.0,
    "kill": 25.0,
    "retire": 50.0,
    "crash": 30.0,
    "stall": 30.0,
    "step_clock": 60.0,
    "lose_store": 150.0,
    "older_store": 120.0,
}

#: Faults after which what was acknowledged may be gone: left out of most runs.
SETBACKS: Final = frozenset({"lose_store", "older_store"})


class Weather(Struct, frozen=True):
    """Probabilities for each message and commit, and the kinds of fault with their mean seconds."""

    loss: float = 0.0
    slow: float = 0.0
    repeat: float = 0.0
    slow_commit: float = 0.0
    commit_fails: float = 0.0
    load_fails: float = 0.0
    every_s: tuple[tuple[str, float], ...] = ()
    #: What a worker has to say of its attempts gets stuck for a while, though heartbeats pass.
    stuck: float = 0.0
    #: An attempt takes long to start, as one does that waits for its files.
    slow_start: float = 0.0

    @property
    def spares_workers(self) -> bool:
        """Whether nothing but the scheduler and its disk goes wrong."""
        kinds = {kind for kind, _ in self.every_s}
        late = self.loss or self.slow or self.stuck or self.slow_start
        return not late and kinds <= {"crash"}


CALM: Final = Weather()


def draw(rng: random.Random) -> Weather:
    """The weather of one run. One in five spares the workers."""
    if rng.random() < 0.2:  # noqa: PLR2004 (that many)
        return Weather(
            slow_commit=_some(rng, 0.1),
            commit_fails=_some(rng, 0.02),
            every_s=(("crash", rng.uniform(5.0, 30.0)),),
        )
    return Weather(
        loss=_some(rng, 0.2),
        slow=_some(rng, 0.1),
        repeat=_some(rng, 0.1),
        slow_commit=_some(rng, 0.2),
        commit_fails=_some(rng, 0.05),
        load_fails=_some(rng, 0.3),
        every_s=tuple(
            (kind, rng.uniform(0.5, 2) * mean_s)
            for kind, mean_s in MEAN_S.items()
            if rng.random() < (0.15 if kind in SETBACKS else 0.5)
        ),
        stuck=_some(rng, 0.1),
        slow_start=_some(rng, 0.3),
    )


def _some(rng: random.Random, most: float) -> float:
    return rng.uniform(0, most) if rng.random() < 0.5 else 0.0  # noqa: PLR2004 (every other run)
