"""The scheduler's disk: a store whose commits take time, fail, or come to an unknown end."""

import random
from collections.abc import Callable
from typing import Final

from dtask.core.jobs.rows import Change, Forget, Snapshot
from dtask.errors import Unavailable
from dtask.sim.jobs.weather import Weather
from dtask.sim.timeline import Timeline
from dtask.store.memory import MemoryStore

#: Seconds of a commit: usually, and of a slow one.
COMMIT_S: Final = (0.0005, 0.02)
SLOW_COMMIT_S: Final = (0.5, 6.0)

#: Virtual seconds between two copies that an operator may go back to.
COPY_EVERY_S: Final = 20.0

#: Told how a commit ended: True, or the error.
Done = Callable[[Unavailable | None], None]


class Disk:
    """Holds one store at a time. It outlives the scheduler, unless it is lost."""

    def __init__(self, timeline: Timeline, rng: random.Random, weather: Weather) -> None:
        self._timeline = timeline
        self._rng = rng
        self.weather = weather
        self.store = MemoryStore("cluster-0")
        #: How often what was committed has been taken back, by a loss or an older copy.
        self.setbacks = 0
        #: Jobs that are kept no longer, by the scheduler's own word.
        self.forgotten: set[int] = set()
        self._older = self.store.copy()
        #: The commit under way, and its number: an end that comes for another one is void.
        self._under_way: list[Change] | None = None
        self._number = 0
        self._copy_now_and_then()

    def load(self) -> Snapshot:
        """What a scheduler reads at its start. Raises Unavailable now and then."""
        if self._rng.random() < self.weather.load_fails:
            raise Unavailable("The disk did not answer.", code="store_failed")
        return self.store.load()

    def commit(self, changes: list[Change], done: Done) -> None:
        """Begin a commit; `done` is called when it has ended."""
        assert self._under_way is None, "two commits at a time"
        self._under_way = changes
        self._number += 1
        number = self._number
        slow = self._rng.random() < self.weather.slow_commit
        delay_s = self._rng.uniform(*(SLOW_COMMIT_S if slow else COMMIT_S))
        self._timeline.after(delay_s, lambda: self._end(number, done))

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way."""
        return self._under_way is not None

    def cut_short(self) -> str:
        """The scheduler dies: a commit under way is there as a whole or not at all. Which?"""
        changes, self._under_way = self._under_way, None
        if changes is None:
            return "between two commits"
        if self._rng.random() < 0.5:  # noqa: PLR2004 (either way)
            self._keep(changes)
            return "after a commit and before its effects"
        return "in the middle of a commit"

    def lose(self) -> None:
        """A new disk. While no scheduler runs."""
        self.store = MemoryStore(f"cluster-{self.setbacks + 1}")
        self._set_back()

    def go_back(self) -> None:
        """The last copy is put in place. While no scheduler runs."""
        self.store = self._older.copy()
        self._set_back()

    def _keep(self, changes: list[Change]) -> None:
        """These are durable."""
        self.forgotten.update(change.job_id for change in changes if isinstance(change, Forget))
        self.store.commit(changes)

    def _set_back(self) -> None:
        self.setbacks += 1
        self._older = self.store.copy()

    def _end(self, number: int, done: Done) -> None:
        if number != self._number or self._under_way is None:
            return
        changes, self._under_way = self._under_way, None
        fails = self._rng.random() < self.weather.commit_fails
        keeps = not fails or self._rng.random() < 0.5  # noqa: PLR2004 (it may be there all the same)
        if keeps:
            self._keep(changes)
        sentence = f"The disk is full, and {'keeps' if keeps else 'drops'} the commit."
        done(Unavailable(sentence, code="store_failed") if fails else None)

    def _copy_now_and_then(self) -> None:
        self._older = self.store.copy()
        self._timeline.after(COPY_EVERY_S, self._copy_now_and_then)
