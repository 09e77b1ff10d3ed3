"""What a worker says of its tasks in a heartbeat: those it holds, and those that ended.

A heartbeat's body has a limit, so both lists have a share of it. Each entry is turned into JSON
once, when its task comes; a heartbeat joins those that fit, oldest first. The order matters: a
scheduler takes a name that is no longer listed as ended, so a name, once listed, must stay
listed while its task runs. It does: those before it only ever go away. Tasks beyond the share
are counted in `current_tasks`, and ended ones beyond it follow in the next heartbeat.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Final

from dtask.errors import InvalidRequest
from dtask.wire import codec, limits
from dtask.wire.placement import check_id

#: Shares of a body's 64 KiB. What is left holds ids, address and 64 tags at their longest.
HELD_BYTES_MAX: Final = 28 * 1024
ENDED_BYTES_MAX: Final = 16 * 1024

#: Ended tasks kept for a scheduler that does not answer. When it is back it learns of confirmed
#: leases from what is held; one that never was confirmed and is dropped here ends at its ttl.
ENDED_MAX: Final = 10_000

#: A task by name: its id, and the fence of its placement if that is known.
Name = tuple[str, int | None]


def name(task_id: str, fence: int | None) -> Name:
    """The name of a task. Raises InvalidRequest if a scheduler would refuse it."""
    check_id(task_id, "task_id")
    if fence is not None and not 0 <= fence <= limits.FENCE_MAX:
        raise InvalidRequest(
            f"fence: {fence} is none: expected the number that came with the placement.",
            code="malformed",
            field="fence",
        )
    return task_id, fence


class Held:
    """The tasks that run now."""

    def __init__(self) -> None:
        self._entries: dict[Name, bytes] = {}
        #: Runs of each name: the same request may come twice while the first one still runs.
        self._runs: Counter[Name] = Counter()

    @property
    def count(self) -> int:
        """Tasks that run, whether or not their names fit a heartbeat."""
        return self._runs.total()

    def add(self, task: Name) -> None:
        """One more run of `task`."""
        if task not in self._entries:
            self._entries[task] = _entry(task)
        self._runs[task] += 1

    def remove(self, task: Name) -> bool:
        """One run of `task` is over; whether none is left."""
        self._runs[task] -= 1
        if self._runs[task] > 0:
            return False
        del self._runs[task]
        self._entries.pop(task, None)
        return True

    def listed(self) -> bytes:
        """The JSON list of the names that fit."""
        fitting, _ = _fitting(self._entries.values(), HELD_BYTES_MAX)
        return fitting


class Ended:
    """The tasks that ended since one scheduler last answered."""

    def __init__(self) -> None:
        #: Each with the number of its end, in that order.
        self._entries: dict[Name, tuple[int, bytes]] = {}
        self._ends = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, task: Name) -> None:
        """`task` has ended."""
        self.forget(task)
        self._ends += 1
        self._entries[task] = (self._ends, _entry(task))
        if len(self._entries) > ENDED_MAX:
            del self._entries[next(iter(self._entries))]

    def forget(self, task: Name) -> None:
        """`task` runs again under the same name, so its former end must not be told any more."""
        self._entries.pop(task, None)

    def listed(self) -> tuple[bytes, int]:
        """The JSON list of the names that fit, and the mark that says so to `answered`."""
        fitting, count = _fitting((raw for _, raw in self._entries.values()), ENDED_BYTES_MAX)
        last = itertools.islice(self._entries.values(), max(count - 1, 0), count)
        return fitting, next((number for number, _ in last), 0)

    def answered(self, mark: int) -> None:
        """The scheduler has taken in the ends up to `mark`; later ones of the same name stay."""
        told = [task for task, (number, _) in self._entries.items() if number <= mark]
        for task in told:
            del self._entries[task]


def _entry(task: Name) -> bytes:
    task_id, fence = task
    return codec.encode(task_id if fence is None else {"task_id": task_id, "fence": fence})


def _fitting(entries: Iterable[bytes], bytes_max: int) -> tuple[bytes, int]:
    """A JSON list of the first entries that fit into `bytes_max`, and how many they are."""
    room = bytes_max - len(b"[]")
    chosen = []
    for raw in entries:
        room -= len(raw) + len(b",")
        if room < 0:
            break
        chosen.append(raw)
    return b"[" + b",".join(chosen) + b"]", len(chosen)
