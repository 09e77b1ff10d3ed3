"""Many seeds at once: a process a core, because each run keeps one busy."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from dtask.sim.outcome import Outcome


def failures(simulate: Callable[[int], Outcome], seeds: range) -> str:
    """What did not hold, and all that is needed to look into it; empty if everything did."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        outcomes = pool.map(simulate, seeds, chunksize=5)
        return "\n\n".join(told(outcome) for outcome in outcomes if outcome.failure is not None)


def told(outcome: Outcome) -> str:
    """A run that failed: its last events, and its seed."""
    return "\n".join([*outcome.tail, f"seed {outcome.seed}: {outcome.failure}"])
