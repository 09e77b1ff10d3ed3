import pytest

from core.env import Env
from dtask.core.placement.events import Heartbeat
from dtask.errors import Denied, InvalidRequest


def test_an_untrusted_heartbeat_never_takes_over_a_trusted_id(env: Env) -> None:
    env.worker("w1", trusted=True, incarnation="i1")
    before = env.view()
    for changes in ({}, {"incarnation": "i2"}, {"address": "other:1"}):
        with pytest.raises(Denied) as refused:
            env.beat("w1", trusted=False, **changes)
        assert refused.value.code == "untrusted"
    assert env.view() == before
    env.advance(20)
    env.take("w1", "suspect", "offline")
    with pytest.raises(Denied):
        env.beat("w1", trusted=False, incarnation="i2")


def test_the_token_makes_a_known_worker_trusted(env: Env) -> None:
    env.worker("w1")
    env.refuse(trusted=True)
    env.beat("w1", trusted=True)
    assert env.view().trusted
    env.place(trusted=True)


def test_a_worker_may_change_its_way_of_reporting(env: Env) -> None:
    env.worker("w1", slots=9, current_tasks=0)
    env.place("t")
    env.advance(3)
    env.beat("w1", current_tasks=1)
    assert env.occupancy() == 1
    env.beat("w1", tasks=(("t", None),), current_tasks=1)
    assert env.occupancy() == 1
    env.beat("w1", tasks=None, current_tasks=2)
    assert env.occupancy() == 2, "granted long ago, so the count holds it"
    env.beat("w1", tasks=None, current_tasks=None)
    assert env.occupancy() == 1, "by lease"
    env.keep(31, "w1")
    assert env.view().leases == 0, "nobody names it any more, so it is open and expires"


def test_an_end_told_before_the_grant_and_repeated_after_it_is_the_old_one(
    env: Env,
) -> None:
    env.worker("w1", tasks=())
    env.beat("w1", ended=(("t", None),))
    env.place("t")
    env.beat("w1", ended=(("t", None),))
    assert env.view().leases == 1
    env.beat("w1")
    env.beat("w1", ended=(("t", None),))
    assert env.view().leases == 0


def test_by_count_ended_and_release_free_only_what_the_count_does_not_hold(
    env: Env,
) -> None:
    env.worker("w1", slots=4, current_tasks=0)
    env.place("t1")
    env.place("t2")
    env.beat("w1", ended=(("t1", None),))
    assert env.occupancy() == 1
    env.advance(3)
    env.beat("w1", current_tasks=1)
    env.release("t2")
    assert env.occupancy() == 1, "it is in the count until the worker counts anew"


def test_by_name_a_task_named_with_and_without_its_fence_is_one_task(env: Env) -> None:
    env.worker("w1", tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence), ("t", None)))
    assert env.occupancy() == 1


def test_a_name_that_outlives_a_release_never_confirms_the_next_fence(env: Env) -> None:
    """The client has its result and releases; it asks for the same task again at once, while a
    heartbeat that still names the first run is on its way."""
    env.worker("w1", slots=4, tasks=())
    env.place("t")
    env.beat("w1", tasks=(("t", None),))
    env.release("t")
    env.place("t")
    env.beat("w1", tasks=(("t", None),))
    env.beat("w1", tasks=())
    assert env.view().leases == 1, "only the first run has ended"


def test_what_the_old_life_said_of_a_name_does_not_bind_the_new_one(env: Env) -> None:
    env.worker("w1", incarnation="i1", tasks=(("t", None),))
    env.place("t")
    env.beat("w1", incarnation="i2", tasks=(("t", None),))  # a new run: the old died with i1
    env.take("w1", "renewed")
    assert env.occupancy() == 1
    env.beat("w1", tasks=())
    assert env.view().leases == 0


def test_an_old_number_is_late_also_without_an_incarnation(env: Env) -> None:
    env.worker("w1", current_tasks=1, seq=5)
    env.beat("w1", seq=4, current_tasks=3)
    assert env.view().reported == 1


def test_a_worker_without_incarnation_may_start_over_with_its_numbers_once_suspect(
    env: Env,
) -> None:
    """Its restart can't be told from late heartbeats before; after ten seconds it is."""
    env.worker("w1", current_tasks=1, seq=500)
    for seq in (1, 2, 3):
        env.advance(3)
        env.beat("w1", seq=seq, current_tasks=0)
        assert env.view().reported == 1
    env.advance(3)
    env.take("w1", "suspect")
    env.beat("w1", seq=4, current_tasks=0)
    env.take("w1", "back")
    assert (env.view().reported, env.view().status) == (0, "online")


def test_a_worker_that_leaves_is_offline_at_once_and_so_are_its_leases(env: Env) -> None:
    env.worker("w1", tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence),), leaving=True)
    env.take("w1", "left")
    assert (env.view().status, env.view().leases) == ("offline", 0)
    assert env.refuse("u").offline == 1


def test_a_worker_reports_an_operators_drain_to_a_scheduler_that_was_restarted(env: Env) -> None:
    env.worker("w1", drained=True)
    env.take("w1", "draining")
    assert env.view().draining
    env.drain("w1", drained=False)
    assert not env.beat("w1").drained, "what it still repeats is older than the operator's word"
    assert not env.view().draining


def test_a_drain_by_an_operator_outlives_a_restart_of_the_worker(env: Env) -> None:
    env.worker("w1", incarnation="i1")
    env.drain("w1")
    assert env.beat("w1", incarnation="i2").drained
    env.take("w1", "renewed")
    assert env.refuse().draining == 1


def test_repeated_tags_count_once(env: Env) -> None:
    env.worker("w1", "gpu,gpu,ssd")
    assert env.view().tags == ("gpu", "ssd")
    env.beat("w1", tags=("ssd", "ssd"))
    assert env.refuse("t", "gpu").missing == {"gpu": 1}


@pytest.mark.parametrize("joined", [True, False])
def test_a_heartbeat_with_a_bad_tag_changes_nothing(env: Env, *, joined: bool) -> None:
    if joined:
        env.worker("w1", "gpu", current_tasks=1)
    rows = env.workers()
    for bad, code, field in [
        (("ok", "a|b"), "bad_tag", "resource_tags[1]"),
        (tuple(f"t{n}" for n in range(65)), "malformed", "resource_tags"),
    ]:
        with pytest.raises(InvalidRequest) as refused:
            env.handle(Heartbeat("w1", "w1:9000", bad, 4, current_tasks=3))
        assert (refused.value.code, refused.value.facts) == (code, {"field": field})
    assert env.workers() == rows


def test_what_an_offline_worker_held_counts_when_it_is_back_and_names_it(env: Env) -> None:
    env.worker("w1", slots=2, tasks=(("old", 7),))
    env.advance(20)
    env.take("w1", "suspect", "offline")
    env.beat("w1")
    env.take("w1", "back")
    assert env.occupancy() == 1
