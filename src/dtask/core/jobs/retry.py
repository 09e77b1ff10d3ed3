"""Whether a task that failed runs again, and when."""

from collections.abc import Callable
from typing import Final

from dtask.core.jobs.model import Retry
from dtask.core.jobs.states import Cause

#: What no other worker can mend is not tried at once again: bounds of the first and of the
#: longest pause after a worker could not do its part.
WORKER_BACKOFF_S: Final = 1.0
WORKER_BACKOFF_S_MAX: Final = 60.0

#: Doublings of a bound after which it does not matter any more.
_DOUBLINGS_MAX: Final = 60

#: A draw between 0 and 1.
Draw = Callable[[], float]


def worth_it(policy: Retry, failures: int, cause: Cause, exit_code: int | None) -> bool:
    """Whether the task runs again after this failure, its `failures`-th."""
    if failures > policy.max:
        return False
    return not policy.on_exit or (cause is Cause.EXIT and exit_code in policy.on_exit)


def pause_s(policy: Retry, failures: int, draw: Draw) -> float:
    """How long the `failures`-th failure is backed off from, in seconds.

    Exponential backoff with full jitter: drawn between 0 and a bound that doubles. (Marc Brooker,
    "Exponential Backoff And Jitter", 2015: of the usual schemes the one that spreads best.)
    """
    return _drawn(policy.backoff_s, policy.backoff_max_s, failures, draw)


def worker_pause_s(times: int, draw: Draw) -> float:
    """The same, after a worker could not do its part for the `times`-th time."""
    return _drawn(WORKER_BACKOFF_S, WORKER_BACKOFF_S_MAX, times, draw)


def _drawn(first_s: float, most_s: float, times: int, draw: Draw) -> float:
    doublings = min(max(times - 1, 0), _DOUBLINGS_MAX)
    return draw() * min(most_s, first_s * 2.0**doublings)
