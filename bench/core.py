"""How long does one placement take in process, and one heartbeat?

One placement is a whole `Cluster.handle(Ask)`: match two tags, rank, take the slot, lease it,
move the worker's level. The peer is what the field does, one pass over all workers. Each figure is
that of the best of five rounds: other programs on the machine only ever add.
"""

import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import program

from dtask.bench.figures import Figure
from dtask.core.cluster import Cluster, Settings
from dtask.core.placement import tags
from dtask.core.placement.events import Ask, Heartbeat, Placement, Release, Tick
from dtask.core.placement.fleet import Health

START_S: Final = 1_700_000_000.0
PLACE_LIMITS_US: Final = {500: 8.0, 5_000: 10.0, 50_000: 20.0}
#: Rounds of each measurement, and leases held in it.
ROUNDS: Final = 5
HELD: Final = 100

RARE_P99_LIMIT_US: Final = 365.0
HEARTBEAT_LIMIT_US: Final = 15.0
REQUIREMENTS: Final = tags.parse(("gpu", "cuda>=12.0"))
RARE: Final = tags.parse(("rare", "cuda>=12.0"))

#: Shapes of load: (max_tasks, current_tasks) of a worker.
LOADS: Final[dict[str, Callable[[random.Random], tuple[int, int]]]] = {
    "few levels": lambda _rng: (30, 0),
    "thousands of distinct loads": lambda rng: (
        slots := rng.randint(1_000, 50_000),
        rng.randrange(slots),
    ),
    "all within a few percent": lambda rng: (100_000, 50_000 + rng.randrange(4_000)),
}


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    sizes = [500] if small else [500, 5_000, 50_000]
    times = 500 if small else 5_000
    for workers in sizes:
        scan_us = linear_scan_us(workers, 3 if workers > 5_000 else 30)
        for shape in LOADS:
            cluster = filled(workers, shape)
            place_us, _ = time_asks(cluster, REQUIREMENTS, times)
            yield Figure(
                what=f"placement, {workers:,} workers, {shape}, median",
                value=place_us,
                unit="us",
                peer="linear scan, us",
                peer_value=scan_us,
                limit=PLACE_LIMITS_US[workers],
            )
            beat_us = time_heartbeats(cluster, workers, shape, times)
            yield Figure(
                what=f"heartbeat with a new load, {workers:,} workers, {shape}, median",
                value=beat_us,
                unit="us",
                limit=HEARTBEAT_LIMIT_US,
            )
        for shape in LOADS:
            _, p99_us = time_asks(filled(workers, shape), RARE, times)
            yield Figure(
                what=f"placement, {workers:,} workers, {shape}, only the busiest 1 % match, p99",
                value=p99_us,
                unit="us",
                limit=RARE_P99_LIMIT_US,
            )
        yield expiry(workers)


def filled(workers: int, shape: str) -> Cluster:
    """A cluster whose busiest hundredth carries the tag `rare`."""
    rng = random.Random(7)
    loads = [LOADS[shape](rng) for _ in range(workers)]
    busiest = sorted(range(workers), key=lambda i: loads[i][1] / loads[i][0])[-workers // 100 :]
    rare = set(busiest)
    cluster = Cluster(START_S, Settings(health=Health(suspect_after_s=1e6, offline_after_s=2e6)))
    for i, (max_tasks, current_tasks) in enumerate(loads):
        cluster.handle(beat(i, max_tasks, current_tasks, rare=i in rare), START_S)
    gc.collect()
    gc.freeze()  # as the scheduler does: a full collection is not what is measured here
    return cluster


def beat(i: int, max_tasks: int, current_tasks: int, *, rare: bool) -> Heartbeat:
    """A heartbeat by count; every second worker has a GPU."""
    carried = ("cuda-12.4", "gpu") if i % 2 or rare else ("cpu", "linux")
    return Heartbeat(
        worker_id=f"worker-{i:05d}",
        address=f"10.0.0.1:{i}",
        tags=(*carried, "rare") if rare else carried,
        max_tasks=max_tasks,
        current_tasks=current_tasks,
    )


def time_asks(cluster: Cluster, requirements: tags.Requirements, times: int) -> tuple[float, float]:
    """Median and p99 of placements, us, of the best round; a hundred leases are held."""
    held: deque[str] = deque()
    rounds = []
    for number in range(ROUNDS):
        spent = []
        for i in range(times // ROUNDS):
            ask = Ask(task_id=f"t{number}-{i}", requirements=requirements)
            started = time.perf_counter()
            step = cluster.handle(ask, START_S)
            spent.append(time.perf_counter() - started)
            assert isinstance(step.answer, Placement), step.answer
            held.append(ask.task_id)
            if len(held) > HELD:
                cluster.handle(Release(held.popleft()), START_S)
        rounds.append((median_us(spent), sorted(spent)[int(len(spent) * 0.99)] * 1e6))
    return min(median for median, _ in rounds), min(p99 for _, p99 in rounds)


def time_heartbeats(cluster: Cluster, workers: int, shape: str, times: int) -> float:
    """Median of heartbeats that bring another load, us, of the best round."""
    rng = random.Random(11)
    beats = [
        beat(rng.randrange(workers) | 1, *LOADS[shape](rng), rare=False) for _ in range(2 * times)
    ]
    for event in beats[:times]:  # the retagged ones of the busiest hundredth, once
        cluster.handle(event, START_S)
    medians = []
    for number in range(ROUNDS):
        spent = []
        for event in beats[times + number :: ROUNDS]:
            started = time.perf_counter()
            cluster.handle(event, START_S)
            spent.append(time.perf_counter() - started)
        medians.append(median_us(spent))
    return min(medians)


def linear_scan_us(workers: int, times: int) -> float:
    """One pass over a list of workers: match tags by set, keep the least loaded."""
    rng = random.Random(3)
    fleet = [
        ({"gpu", "cuda-12.4"} if i % 2 else {"cpu"}, rng.random(), f"w{i}") for i in range(workers)
    ]
    needed = {"gpu", "cuda-12.4"}
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        min((load, name) for carried, load, name in fleet if needed <= carried)
        spent.append(time.perf_counter() - started)
    return median_us(spent)


def expiry(workers: int) -> Figure:
    """What a tick costs that finds nobody due."""
    cluster = filled(workers, "few levels")
    now, spent = START_S, []
    for _ in range(1_000):
        now = cluster.next_deadline()
        started = time.perf_counter()
        cluster.handle(Tick(), now)
        spent.append(time.perf_counter() - started)
    return Figure(
        what=f"tick, {workers:,} workers that did not change",
        value=median_us(spent),
        unit="us",
        limit=5.0,
    )


def median_us(spent: Iterable[float]) -> float:
    """The median of seconds, in microseconds."""
    return statistics.median(spent) * 1e6


if __name__ == "__main__":
    program.run("core", main)
