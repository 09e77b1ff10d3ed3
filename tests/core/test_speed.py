"""The hot events of the core under pytest-benchmark.

In a usual run each happens once, as a test. `pytest tests/core/test_speed.py --benchmark-enable`
measures them and compares with earlier runs; `bench/core.py` holds them against their limits.
"""

from itertools import count

from pytest_benchmark.fixture import BenchmarkFixture

from core.env import START, WARM, an_ask
from dtask.core.cluster import Cluster
from dtask.core.placement.events import Heard, Heartbeat, Placement, Refusal, Release


def fleet(current_tasks: int = 0) -> Cluster:
    """A thousand workers of 30 slots, every second one with a GPU."""
    cluster = Cluster(START, WARM)
    for i in range(1_000):
        tags = ("gpu", "cuda-12.4") if i % 2 else ("cpu",)
        cluster.handle(Heartbeat(f"w{i}", f"w{i}:1", tags, 30, current_tasks), START)
    return cluster


def test_speed_of_a_placement_and_its_release(benchmark: BenchmarkFixture) -> None:
    cluster, numbers = fleet(), count()

    def place_and_release() -> object:
        ask = an_ask(f"t{next(numbers)}", "gpu,cuda>=12.0")
        answer = cluster.handle(ask, START).answer
        cluster.handle(Release(ask.task_id), START)
        return answer

    assert isinstance(benchmark(place_and_release), Placement)


def test_speed_of_a_refusal(benchmark: BenchmarkFixture) -> None:
    cluster, ask = fleet(current_tasks=30), an_ask("t", "gpu,cuda>=12.0")
    refusal = benchmark(lambda: cluster.handle(ask, START).answer)
    assert isinstance(refusal, Refusal)
    assert (refusal.missing, refusal.full) == ({"gpu": 500}, 500)


def test_speed_of_a_heartbeat_with_a_new_load(benchmark: BenchmarkFixture) -> None:
    cluster, loads = fleet(), count(1)

    def beat() -> object:
        event = Heartbeat("w1", "w1:1", ("gpu", "cuda-12.4"), 30, next(loads) % 30)
        return cluster.handle(event, START).answer

    assert benchmark(beat) == Heard()
