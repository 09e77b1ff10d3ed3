"""How long does one placement take in process, and one heartbeat?

One placement is a whole `Cluster.handle(Ask)`: match two tags, rank, take the slot, lease it,
move the worker's level. The peer is what the field does, one pass over all workers. Each figure is
that of the best of 40 rounds, which all measurements take in turn: a machine that is shared has
slow seconds, and they only ever add.
"""

import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, NamedTuple

import program

from dtask.bench.figures import Figure
from dtask.core.cluster import Cluster, Settings
from dtask.core.placement import tags
from dtask.core.placement.events import Ask, Heartbeat, Placement, Release, Tick
from dtask.core.placement.fleet import Health

START_S: Final = 1_700_000_000.0
PLACE_LIMITS_US: Final = {500: 8.0, 5_000: 10.0, 50_000: 20.0}
#: Rounds of each measurement, and leases held in it.
ROUNDS: Final = 40
HELD: Final = 100

RARE_P99_LIMIT_US: Final = 365.0
HEARTBEAT_LIMIT_US: Final = 15.0
TICK_LIMIT_US: Final = 5.0
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


class Measurement(NamedTuple):
    """A figure to be, one value a round."""

    what: str
    rounds: Iterator[float]
    limit: float
    #: What the field does instead, one value a round.
    peer: Iterator[float] | None = None


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    sizes = [500] if small else [500, 5_000, 50_000]
    measurements = [each for workers in sizes for each in of_fleets(workers, 100 if small else 500)]
    values: list[list[float]] = [[] for _ in measurements]
    peers: list[list[float]] = [[] for _ in measurements]
    for _ in range(ROUNDS):
        for i, measurement in enumerate(measurements):
            values[i].append(next(measurement.rounds))
            if measurement.peer is not None:
                peers[i].append(next(measurement.peer))
    for i, measurement in enumerate(measurements):
        yield Figure(
            what=measurement.what,
            value=min(values[i]),
            unit="us",
            peer="linear scan, us" if peers[i] else "",
            peer_value=min(peers[i], default=None),
            limit=measurement.limit,
        )


def of_fleets(workers: int, times: int) -> Iterator[Measurement]:
    """What is measured for fleets of this size, each with a fleet of its own that it changes."""
    for shape in LOADS:
        fleet = f"{workers:,} workers, {shape}"
        yield Measurement(
            f"placement, {fleet}, median",
            time_asks(filled(workers, shape), REQUIREMENTS, times, share=0.5),
            PLACE_LIMITS_US[workers],
            peer=time_linear_scans(workers, 2 if workers > 5_000 else 10),
        )
        yield Measurement(
            f"placement, {fleet}, only the busiest 1 % match, p99",
            time_asks(filled(workers, shape), RARE, times, share=0.99),
            RARE_P99_LIMIT_US,
        )
        yield Measurement(
            f"heartbeat with a new load, {fleet}, median",
            time_heartbeats(filled(workers, shape), workers, shape, times),
            HEARTBEAT_LIMIT_US,
        )
    yield Measurement(
        f"tick, {workers:,} workers that did not change, median",
        time_ticks(filled(workers, "few levels"), times),
        TICK_LIMIT_US,
    )


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


def time_asks(
    cluster: Cluster, requirements: tags.Requirements, times: int, *, share: float
) -> Iterator[float]:
    """For each round this percentile of placements, us, while a hundred leases are held."""
    held: deque[str] = deque()
    for number in count():
        spent = []
        for i in range(times):
            ask = Ask(task_id=f"t{number}-{i}", requirements=requirements)
            started = time.perf_counter()
            step = cluster.handle(ask, START_S)
            spent.append(time.perf_counter() - started)
            assert isinstance(step.answer, Placement), step.answer
            held.append(ask.task_id)
            if len(held) > HELD:
                cluster.handle(Release(held.popleft()), START_S)
        yield sorted(spent)[int(len(spent) * share)] * 1e6


def time_heartbeats(cluster: Cluster, workers: int, shape: str, times: int) -> Iterator[float]:
    """For each round the median of heartbeats that bring another load, us."""
    rng = random.Random(11)
    numbers = [number for number in range(1, workers, 2) if not is_rare(cluster, number)]
    while True:
        spent = []
        for _ in range(times):
            event = beat(rng.choice(numbers), *LOADS[shape](rng), rare=False)
            started = time.perf_counter()
            cluster.handle(event, START_S)
            spent.append(time.perf_counter() - started)
        yield median_us(spent)


def is_rare(cluster: Cluster, number: int) -> bool:
    """Whether the worker of this number is one of the busiest hundredth."""
    return "rare" in cluster._fleet.workers[f"worker-{number:05d}"].tags


def time_linear_scans(workers: int, times: int) -> Iterator[float]:
    """For each round the median of one pass over all workers: match tags, keep the least loaded."""
    rng = random.Random(3)
    fleet = [
        ({"gpu", "cuda-12.4"} if i % 2 else {"cpu"}, rng.random(), f"w{i}") for i in range(workers)
    ]
    needed = {"gpu", "cuda-12.4"}
    while True:
        spent = []
        for _ in range(times):
            started = time.perf_counter()
            min((load, name) for carried, load, name in fleet if needed <= carried)
            spent.append(time.perf_counter() - started)
        yield median_us(spent)


def time_ticks(cluster: Cluster, times: int) -> Iterator[float]:
    """For each round the median of ticks that find nobody due, us."""
    while True:
        spent = []
        for _ in range(times):
            now = cluster.next_deadline()
            started = time.perf_counter()
            cluster.handle(Tick(), now)
            spent.append(time.perf_counter() - started)
        yield median_us(spent)


def median_us(spent: Iterable[float]) -> float:
    """The median of seconds, in microseconds."""
    return statistics.median(spent) * 1e6


if __name__ == "__main__":
    program.run("core", main)
