"""What the simulation found in the core, in the fewest events that show it."""

from dtask.core.cluster import Cluster
from dtask.core.placement.events import Ask, AskAll, Heartbeat, Placement, Refusal

START = 1_700_000_000.0


def with_worker(start: float, slots: int = 1) -> Cluster:
    cluster = Cluster(start)
    cluster.handle(Heartbeat("w", "w:1", (), slots), start)
    return cluster


def fence_of(cluster: Cluster, task_id: str, now: float) -> int:
    placed = cluster.handle(Ask(task_id), now).answer
    assert isinstance(placed, Placement)
    return placed.fence


def test_a_refused_all_or_nothing_leaves_no_deadline_too_late() -> None:
    cluster = with_worker(START)
    refused = cluster.handle(AskAll((Ask("one", ttl_s=1.0), Ask("two", ttl_s=1.0))), START).answer
    assert isinstance(refused, Refusal)
    cluster.check()


def test_two_schedulers_started_in_one_second_grant_no_fence_twice() -> None:
    first = fence_of(with_worker(START + 0.1), "a", START + 0.2)
    assert fence_of(with_worker(START + 0.7), "b", START + 0.8) > first


def test_fences_keep_up_with_the_clock() -> None:
    """A scheduler on an earlier clock soon grants fences that workers have not seen."""
    before = fence_of(with_worker(START + 20, slots=100), "a", START + 20)
    after = with_worker(START, slots=100)
    assert fence_of(after, "a", START) < before
    for tick in range(1, 45):
        after.handle(Heartbeat("w", "w:1", (), 100), START + tick / 2)
    assert fence_of(after, "b", START + 22) > before
