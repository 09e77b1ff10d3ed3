"""Functions on the fleet: pi, by throwing darts on all workers at once.

    DTASK_SCHEDULER=http://127.0.0.1:8080 python examples/executor.py

Each call is a task in a Python of its own on some worker. This file need not be there: functions
of a script travel with the call.
"""

import random
import sys
from concurrent.futures import as_completed

from dtask import DtaskError, Executor

CALLS = 8
DARTS = 100_000


def hits(seed: int) -> int:
    """How many darts hit the quarter of the circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(DARTS))


def main() -> None:
    """Call by call as they end, then all at once."""
    with Executor(name="darts", timeout_s=60, retry=1) as executor:
        futures = [executor.submit(hits, seed) for seed in range(CALLS)]
        total = 0
        for count, future in enumerate(as_completed(futures), start=1):
            total += future.result()
            print(f"after {count} calls: {4 * total / (count * DARTS):.4f}")

        assert sum(executor.map(hits, range(CALLS), chunksize=4)) == total
        print(f"pi is about {4 * total / (CALLS * DARTS):.3f}")


if __name__ == "__main__":
    try:
        main()
    except DtaskError as error:
        sys.exit(f"dtask: {error}")
