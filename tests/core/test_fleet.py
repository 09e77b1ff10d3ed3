import time

import pytest

from core.env import START, WARM, Env
from dtask.core.cluster import Cluster, Settings
from dtask.core.placement.events import (
    CountFleet,
    Drain,
    Glance,
    Heartbeat,
    LookAtWorker,
    SlotHeld,
)
from dtask.core.placement.fleet import Health


def test_a_view_shows_what_the_worker_said_and_what_is_taken(env: Env) -> None:
    env.worker(
        "w1", "gpu,ssd", slots=4, current_tasks=1, incarnation="i", metrics={"gpu": 0.5, "os": None}
    )
    env.place("t")
    view = env.view()
    assert (view.worker_id, view.address, view.tags) == ("w1", "w1:9000", ("gpu", "ssd"))
    assert (view.max_tasks, view.occupancy, view.reported, view.leases) == (4, 2, 1, 1)
    assert (view.status, view.last_heartbeat) == ("online", env.now)
    assert (view.trusted, view.draining, view.incarnation) == (False, False, "i")
    assert view.metrics == {"gpu": 0.5, "os": None}


def test_the_last_heartbeat_is_shown_in_epoch_seconds_also_after_a_stall(env: Env) -> None:
    env.worker("w1")
    env.stall(100)
    env.beat("w1")
    assert env.view().last_heartbeat == env.now


def test_a_listing_goes_by_id_and_in_slices(env: Env) -> None:
    for name in ("c", "a", "d", "b"):
        env.worker(name)
    assert [row.worker_id for row in env.workers()] == ["a", "b", "c", "d"]
    assert [row.worker_id for row in env.workers(limit=3)] == ["a", "b", "c"]
    assert [row.worker_id for row in env.workers(after="b", limit=1)] == ["c"]
    assert [row.worker_id for row in env.workers(after="bb")] == ["c", "d"]
    assert env.workers(after="d") == []


def test_a_glance_is_a_listing_in_a_few_words(env: Env) -> None:
    for name in ("c", "a", "b"):
        env.worker(name, slots=4)
    env.place("t", excluded=("b", "c"))
    env.drain("b")
    seen = env.handle(Glance(2))
    assert seen == [("a", "online", False, 1, 4, env.now), ("b", "online", True, 0, 4, env.now)]
    assert [one.worker_id for one in env.handle(Glance(2, "b"))] == ["c"]


def test_a_look_at_a_worker_names_what_takes_its_slots(env: Env) -> None:
    env.worker("w1", slots=9, tasks=(("mine", None), ("known", 7)))
    granted = env.now
    lease = env.place("open")
    env.advance(1)
    env.beat("w1", tasks=(("mine", None), ("known", 7), ("open", lease.fence)))
    held = env.handle(LookAtWorker("w1")).held
    assert held == (
        SlotHeld("known", 7, None),
        SlotHeld("mine", None, None),
        SlotHeld("open", lease.fence, granted),
    )


def test_the_fleet_is_counted(env: Env) -> None:
    env.worker("a", slots=4)
    env.worker("b", slots=2)
    env.place("t")
    env.drain("b")
    counts = env.handle(CountFleet())
    assert (counts.online, counts.suspect, counts.offline, counts.draining) == (2, 0, 0, 1)
    assert (counts.slots, counts.occupied, counts.leases) == (6, 1, 1)
    env.advance(20)
    for change in ("suspect", "offline"):
        for name in ("a", "b"):
            env.take(name, change)
    counts = env.handle(CountFleet())
    assert (counts.offline, counts.slots, counts.occupied) == (2, 0, 0)


def test_nobody_misses_a_worker_that_left_by_its_own_word(env: Env) -> None:
    for name in ("a", "b", "c"):
        env.worker(name)
    for name in ("a", "b"):
        env.beat(name, draining=True)
        env.take(name, "draining")
        env.beat(name, draining=True, leaving=True)
        env.take(name, "left")
    counts = env.handle(CountFleet())
    assert (counts.online, counts.offline, counts.draining) == (1, 0, 0)
    assert [one.status for one in env.handle(Glance(9))] == ["left", "left", "online"]
    assert [row.status for row in env.workers()] == ["offline", "offline", "online"]
    env.beat("b", draining=False, leaving=False)
    env.take("b", "back", "undrained")
    assert env.handle(CountFleet()).online == 2
    env.advance(20)
    assert env.handle(CountFleet()).offline == 2
    for change in ("suspect", "offline"):
        for name in ("c", "b"):
            env.take(name, change)
    assert [one.status for one in env.handle(Glance(9))] == ["left", "offline", "offline"]


def test_counting_a_large_fleet_takes_no_longer_than_a_small_one() -> None:
    cluster = Cluster(START, WARM)
    for i in range(20_000):
        cluster.handle(Heartbeat(f"w{i}", "w:1", (), 8, i % 8), START)

    def seconds() -> float:
        began = time.perf_counter()
        assert cluster.handle(CountFleet(), START).answer.slots == 160_000
        return time.perf_counter() - began

    assert min(seconds() for _ in range(20)) < 0.0005  # one pass over all takes 20 times that


def test_a_worker_that_is_forgotten_between_two_slices_hides_no_other() -> None:
    env = Env(Settings(health=Health(forget_after_s=1.0), warm_up_s=0.0))
    for name in ("a", "b", "c"):
        env.worker(name)
    assert [row.worker_id for row in env.workers(limit=2)] == ["a", "b"]
    env.beat("b", leaving=True)
    env.take("b", "left")
    env.advance(1)
    env.take("b", "forgotten")
    assert [row.worker_id for row in env.workers(after="b", limit=2)] == ["c"]


def test_workers_go_silent_each_at_its_own_time(env: Env) -> None:
    env.worker("a")
    env.advance(2)
    env.worker("b")
    env.advance(2)
    env.beat("a")
    env.advance(8)
    env.take("b", "suspect")
    env.advance(2)
    env.take("a", "suspect")
    env.advance(8)
    env.take("b", "offline")
    env.advance(2)
    env.take("a", "offline")


def test_a_suspect_that_heartbeats_is_back_and_online(env: Env) -> None:
    env.worker("a")
    env.worker("b", current_tasks=1)
    env.advance(10)
    env.take("a", "suspect")
    env.take("b", "suspect")
    env.beat("b")
    env.take("b", "back")
    assert env.place().worker_id == "b"


@pytest.mark.parametrize("by", ["operator", "worker"])
def test_a_drained_worker_keeps_its_leases_and_takes_tasks_again_when_undrained(
    env: Env, by: str
) -> None:
    env.worker("w1")
    env.place("t")
    if by == "operator":
        assert env.drain("w1").draining
        assert env.beat("w1").drained
    else:
        env.beat("w1", draining=True)
        env.take("w1", "draining")
    assert env.refuse("u").draining == 1
    assert env.view().leases == 1
    if by == "operator":
        env.drain("w1", drained=False)
        assert not env.beat("w1").drained
    else:
        env.beat("w1", draining=False)
        env.take("w1", "undrained")
    env.place("u")


def test_both_must_take_back_their_word_before_a_worker_takes_tasks(env: Env) -> None:
    env.worker("w1", draining=True)
    env.take("w1", "draining")
    env.handle(Drain("w1", drained=True))
    env.beat("w1", draining=False)
    assert env.refuse().draining == 1
    env.drain("w1", drained=False)
    env.place()


def test_a_slot_of_the_table_serves_the_next_worker_with_nothing_left_in_it() -> None:
    env = Env(Settings(health=Health(forget_after_s=1.0), warm_up_s=0.0))
    env.worker("a", "gpu", trusted=True, draining=True, leaving=True)
    env.take("a", "draining", "left")
    env.advance(1)
    env.take("a", "forgotten")
    env.worker("b")
    refusal = env.refuse("t", "gpu", trusted=True)
    assert (refusal.draining, refusal.untrusted) == (0, 1)
    assert env.refuse("t", "gpu").missing == {"gpu": 1}
    env.place("t")


def test_what_is_remembered_of_requirements_forgets_a_forgotten_worker(env: Env) -> None:
    """Its slot of the table goes to the next one, who need not have its tags."""
    env.worker("w1", "gpu")
    env.place("t1", "gpu")
    env.release("t1")
    env.advance(3700)
    env.take_all()
    assert env.refuse("t2", "gpu").full == 0
    env.worker("w2", "cpu")
    assert env.refuse("t3", "gpu").missing == {"gpu": 1}
