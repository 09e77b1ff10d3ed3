"""Is anything lost when processes are killed, stopped and cut off? 500 tasks, ten faults of a kind.

`--small` runs fewer of both, as the test suite does.
"""

from collections.abc import Iterator
from typing import get_args

import program

from dtask.bench.figures import Figure
from dtask.bench.torture import Fault, torture


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures; fails where a run can't be explained."""
    tasks, faults = (60, 2) if small else (500, 10)
    for seed, fault in enumerate(get_args(Fault)):
        toll = torture(fault, tasks=tasks, faults=faults, seed=seed)
        what = f"{toll.tasks} tasks of {toll.submits} submits, {toll.faults} faults ({fault})"
        yield Figure(what=f"{what}: lost", value=toll.lost, unit="tasks", limit=0)
        yield Figure(
            what=f"{what}: run more than once",
            value=toll.extra_runs,
            unit="runs",
            peer="attempts that were lost, stopped or returned",
            peer_value=toll.accounted,
            limit=0 if fault == "scheduler" else toll.accounted,
        )


if __name__ == "__main__":
    program.run("torture", main)
