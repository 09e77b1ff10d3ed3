"""How a run went, and the one way to conduct it."""

import traceback
from collections import Counter
from pathlib import PurePath
from typing import Protocol

from msgspec import Struct

from dtask.sim.timeline import Timeline
from dtask.sim.trace import Trace


class Outcome(Struct, frozen=True):
    """How a run went."""

    seed: int
    digest: str
    #: Virtual seconds.
    elapsed_s: float
    lines: int
    counts: dict[str, int]
    #: What did not hold; None if everything did.
    failure: str | None
    #: The last lines of the trace of a run that failed.
    tail: tuple[str, ...]


class Place(Protocol):
    """What a world's participants share."""

    timeline: Timeline
    counts: Counter[str]


class World(Protocol):
    """All participants of a run."""

    trace: Trace

    @property
    def site(self) -> Place:
        """What they share."""
        ...

    def run(self, seconds: float) -> None:
        """Faults for `seconds`, then none; raises what does not hold."""
        ...


def conduct(seed: int, world: World, seconds: float) -> Outcome:
    """Let the world run, and tell how it went."""
    failure = None
    try:
        world.run(seconds)
    except Exception as error:  # noqa: BLE001 (whatever goes wrong in a run is what it found)
        failure = _told(error)
    return Outcome(
        seed=seed,
        digest=world.trace.digest,
        elapsed_s=round(world.site.timeline.elapsed_s, 3),
        lines=world.trace.lines,
        counts=dict(sorted(world.site.counts.items())),
        failure=failure,
        tail=world.trace.tail if failure else (),
    )


def _told(error: Exception) -> str:
    """What did not hold, and where that was seen."""
    seen = traceback.extract_tb(error.__traceback__)[-1]
    what = str(error) or seen.line or ""
    return f"{type(error).__name__}: {what} ({PurePath(seen.filename).name}:{seen.lineno})"
