"""The ten rules of placement, each clause by a test that carries the rule's number."""

from typing import Any

import pytest
from msgspec.structs import replace

from core.env import START, Env
from dtask.core.cluster import Settings
from dtask.core.placement import fleet, leases
from dtask.core.placement.events import Heartbeat, Placement, Refusal
from dtask.errors import Busy, Conflict, NotFound

# 1. Requirements


@pytest.mark.parametrize(
    ("required", "chosen"),
    [
        ("gpu", "ann"),
        ("gpu,zone=eu", "ann"),
        ("tpu|gpu", "ann"),
        ("!gpu", "bob"),
        ("!gpu|zone=eu", "bob"),
        ("cuda>=12.0", "ann"),
        ("cuda>=12.4", "ann"),
        ("cuda>12.3", "ann"),
        ("gpu,cuda<12.10", "ann"),
        ("cuda<=11", "bob"),
        ("cuda<=11.0", "bob"),
        ("tpu|cuda>12", "ann"),
        ("!cuda>=12", "bob"),
    ],
)
def test_rule_1_every_element_must_hold(env: Env, required: str, chosen: str) -> None:
    env.worker("ann", "gpu,zone=eu,cuda-12.4")
    env.worker("bob", "cpu,cuda-11")
    assert env.place("t1", required).worker_id == chosen
    assert env.place("t2", required).worker_id == chosen


@pytest.mark.parametrize(
    "required", ["tpu", "gpu,cpu", "!gpu,!cpu", "cuda>12.4", "cuda<11", "cuda>=12,cpu", "rocm>=1"]
)
def test_rule_1_one_element_that_does_not_hold_is_enough_to_refuse(env: Env, required: str) -> None:
    env.worker("ann", "gpu,zone=eu,cuda-12.4")
    env.worker("bob", "cpu,cuda-11")
    assert sum(env.refuse("t", required).missing.values()) == 2


def test_rule_1_a_version_stands_after_the_last_hyphen(env: Env) -> None:
    env.worker("w1", "nvidia-driver-550.54")
    assert env.place("t", "nvidia-driver>=550").worker_id == "w1"
    env.refuse("u", "nvidia>=1")


def test_rule_1_a_worker_that_changes_its_tags_is_found_by_the_new_ones_only(env: Env) -> None:
    env.worker("w1", "gpu,cuda-11.8")
    env.refuse("t", "cuda>=12")
    env.beat("w1", tags=("gpu", "cuda-12.1"))
    assert env.place("t", "cuda>=12").worker_id == "w1"
    env.refuse("u", "cuda<12")


# 2. Feasible


def test_rule_2_offline_draining_excluded_and_full_workers_get_nothing(env: Env) -> None:
    env.worker("away", leaving=True)
    env.take("away", "left")
    env.worker("full", slots=1, current_tasks=1)
    env.worker("ending", draining=True)
    env.take("ending", "draining")
    env.worker("drained")
    env.drain("drained")
    env.worker("unwanted")
    env.refuse(excluded=("unwanted",))
    assert env.place().worker_id == "unwanted"


def test_rule_2_suspect_workers_are_used_only_when_no_online_worker_fits(env: Env) -> None:
    env.worker("old", "gpu", slots=9)
    env.advance(10)
    env.take("old", "suspect")
    env.worker("new", "cpu", slots=2, current_tasks=1)
    assert env.place("t1").worker_id == "new", "online comes first, whatever its load"
    assert env.place("t2").worker_id == "old"
    assert env.place("t3", "gpu").worker_id == "old"


def test_rule_2_only_trusted_workers_are_feasible_when_that_is_asked(env: Env) -> None:
    env.worker("stranger")
    refusal = env.refuse(trusted=True)
    assert refusal.untrusted == 1
    env.worker("friend", trusted=True, current_tasks=3)
    assert env.place(trusted=True).worker_id == "friend"
    assert env.place("u").worker_id == "stranger"


# 3. Rank


def test_rule_3_the_lowest_load_wins_not_the_lowest_count(env: Env) -> None:
    env.worker("small", slots=2, current_tasks=1)
    env.worker("large", slots=10, current_tasks=4)
    assert env.place().worker_id == "large"


def test_rule_3_bin_pack_takes_the_highest_load_that_still_fits(env: Env) -> None:
    env.worker("idle", slots=4)
    env.worker("busy", slots=4, current_tasks=3)
    env.worker("full", slots=4, current_tasks=4)
    assert env.place("t1", strategy="bin_pack").worker_id == "busy"
    assert env.place("t2", strategy="bin_pack").worker_id == "idle"


def test_rule_3_more_preferred_tags_come_before_less_load(env: Env) -> None:
    env.worker("none", slots=4)
    env.worker("one", "ssd", slots=4, current_tasks=1)
    env.worker("two", "ssd,zone=eu", slots=4, current_tasks=2)
    assert env.place("t1", preferred="ssd,zone=eu,tape").worker_id == "two"
    assert env.place("t2", preferred="ssd").worker_id == "one"
    assert env.place("t3", preferred="tape").worker_id == "none"
    assert env.place("t4", preferred="ssd,ssd,zone=eu").worker_id == "two"


def test_rule_3_the_tier_comes_before_preferred_tags(env: Env) -> None:
    env.worker("old", "ssd")
    env.advance(10)
    env.take("old", "suspect")
    env.worker("new")
    assert env.place(preferred="ssd").worker_id == "new"


def test_rule_3_ties_go_round_the_table(env: Env) -> None:
    for name in ("a", "b", "c"):
        env.worker(name, slots=4)
    chosen = []
    for n in range(7):
        chosen.append(env.place(f"t{n}").worker_id)
        env.release(f"t{n}")
    assert chosen == ["a", "b", "c", "a", "b", "c", "a"]


def test_rule_3_an_answer_that_is_repeated_does_not_move_the_turn(env: Env) -> None:
    for name in ("a", "b", "c"):
        env.worker(name)
    assert [env.place("t").worker_id for _ in range(3)] == ["a", "a", "a"]
    assert env.place("u").worker_id == "b"


# 4. One step


def test_rule_4_no_lease_is_granted_beyond_max_tasks(env: Env) -> None:
    env.worker("w1", slots=7)
    answers = [env.ask(f"t{n}") for n in range(200)]
    assert [isinstance(answer, Placement) for answer in answers] == [True] * 7 + [False] * 193
    assert env.occupancy() == 7


def test_rule_4_a_report_or_a_lowered_max_tasks_may_raise_occupancy_above_it(env: Env) -> None:
    env.worker("w1", slots=2, current_tasks=0)
    env.place("t1")
    env.beat("w1", current_tasks=2)
    assert env.occupancy() == 3
    assert env.refuse("t2").full == 1
    env.beat("w1", current_tasks=0, max_tasks=1)
    assert env.refuse("t2").full == 1
    env.beat("w1", max_tasks=2)
    env.place("t2")


# 5. A heartbeat confirms, it never erases


def test_rule_5_by_name_a_heartbeat_sent_before_a_placement_never_frees_the_slot(
    env: Env,
) -> None:
    env.worker("w1", slots=1, tasks=())
    env.place("t")
    env.beat("w1", tasks=())  # on its way while the task was placed
    assert env.refuse("u").full == 1
    env.advance(9)
    env.beat("w1", tasks=())  # still not there: the client is slow, the lease is open
    assert env.refuse("u").full == 1


@pytest.mark.parametrize("fenced", [True, False])
def test_rule_5_by_name_the_report_that_confirms_a_lease_never_counts_it_twice(
    env: Env, *, fenced: bool
) -> None:
    env.worker("w1", slots=4, tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence if fenced else None),), current_tasks=1)
    assert env.occupancy() == 1
    env.keep(40, "w1")
    assert env.view().leases == 1, "a confirmed lease does not expire"
    assert env.occupancy() == 1


def test_rule_5_by_name_tasks_nobody_placed_and_tasks_not_named_count_too(env: Env) -> None:
    env.worker("w1", slots=9, tasks=())
    env.place("t")
    env.beat("w1", tasks=(("mine", None), ("other", 7)), current_tasks=5)
    assert env.occupancy() == 1 + 2 + 3
    env.beat("w1", tasks=(("mine", None), ("other", 7)), current_tasks=1)
    assert env.occupancy() == 1 + 2, "a count below the number of names says nothing"


def test_rule_5_by_name_a_confirmed_lease_that_is_listed_no_longer_is_over(env: Env) -> None:
    env.worker("w1", slots=1, tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence),))
    env.beat("w1", tasks=())
    assert (env.view().leases, env.occupancy()) == (0, 0)
    with pytest.raises(NotFound):
        env.release("t")


@pytest.mark.parametrize("fenced", [True, False])
def test_rule_5_ended_ends_a_lease_never_seen(env: Env, *, fenced: bool) -> None:
    env.worker("w1", slots=1, tasks=())
    fence = env.place("t").fence
    env.beat("w1", ended=(("t", fence if fenced else None),))
    assert (env.view().leases, env.occupancy()) == (0, 0)


def test_rule_5_ended_wins_over_a_list_that_still_holds_the_fence(env: Env) -> None:
    env.worker("w1", tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence),), ended=(("t", fence),))
    assert (env.view().leases, env.occupancy()) == (0, 0)


def test_rule_5_an_old_fence_confirms_and_ends_nothing(env: Env) -> None:
    env.worker("w1", slots=4, tasks=())
    old = env.place("t").fence
    env.beat("w1", tasks=(("t", old),))
    env.release("t")
    new = env.place("t").fence
    env.beat("w1", tasks=(("t", old),))  # the old run, still there
    assert env.occupancy() == 2, "the old run and the new lease"
    env.beat("w1", tasks=(), ended=(("t", old),))
    assert (env.view().leases, env.occupancy()) == (1, 1), "the new lease is open, not over"
    env.beat("w1", tasks=(("t", new),))
    env.beat("w1", tasks=())
    assert env.view().leases == 0


def test_rule_5_an_old_name_never_confirms_a_new_fence(env: Env) -> None:
    env.worker("w1", slots=4, tasks=(("t", None),))
    assert env.occupancy() == 1
    env.place("t")
    env.beat("w1", tasks=(("t", None),))
    assert env.occupancy() == 2, "the old run and the new lease"
    env.beat("w1", tasks=())
    assert (env.view().leases, env.occupancy()) == (1, 1), "the old run ended, the lease is open"
    env.beat("w1", tasks=(("t", None),))
    assert env.occupancy() == 1
    env.beat("w1", tasks=())
    assert env.view().leases == 0, "now it was confirmed, and is over"


def test_rule_5_the_end_of_an_old_name_leaves_the_new_lease_open(env: Env) -> None:
    env.worker("w1", tasks=(("t", None),))
    env.place("t")
    env.beat("w1", tasks=(), ended=(("t", None),))
    assert env.view().leases == 1
    env.beat("w1", ended=(("t", None),))  # repeated, because no answer came: still the old end
    assert env.view().leases == 1
    env.beat("w1", tasks=(("t", None),))
    env.beat("w1", tasks=(), ended=(("t", None),))
    assert env.view().leases == 0


def test_rule_5_by_count_a_lease_counts_until_the_first_heartbeat_3_s_after_its_grant(
    env: Env,
) -> None:
    env.worker("w1", slots=4, current_tasks=0)
    env.place("t")
    env.advance(2.9)
    env.beat("w1", current_tasks=1)
    assert env.occupancy() == 2, "counted twice is the safe side"
    env.advance(5)
    assert env.occupancy() == 2, "time alone absorbs nothing"
    env.beat("w1", current_tasks=1)
    assert (env.view().leases, env.occupancy()) == (1, 1)


def test_rule_5_by_count_a_heartbeat_sent_before_a_placement_never_frees_the_slot(
    env: Env,
) -> None:
    env.worker("w1", slots=1, current_tasks=0)
    env.place("t")
    env.advance(2.9)
    env.beat("w1", current_tasks=0)
    assert env.refuse("u").full == 1
    env.advance(0.1)
    env.beat("w1", current_tasks=0)  # a slow client may meet a full worker now, which answers 429
    env.place("u")


def test_rule_5_by_lease_live_leases_are_all_that_count(env: Env) -> None:
    env.worker("w1", slots=2)
    env.place("t1", ttl_s=5)
    env.place("t2", ttl_s=9)
    env.keep(4, "w1")
    assert (env.occupancy(), env.view().reported) == (2, None)
    env.keep(1, "w1")
    assert env.occupancy() == 1
    env.release("t2")
    assert env.occupancy() == 0


def test_rule_5_an_open_lease_ends_at_its_ttl_and_the_same_question_renews_it(env: Env) -> None:
    env.worker("w1")
    first = env.place("t", ttl_s=10)
    assert first.expires_at == START + 10
    env.keep(6, "w1")
    assert env.place("t", ttl_s=10) == replace(first, expires_at=START + 16)
    assert env.place("t", ttl_s=1).expires_at == START + 16, "a renewal never shortens"
    env.keep(9, "w1")
    assert env.view().leases == 1
    env.keep(1, "w1")
    assert env.view().leases == 0


def test_rule_5_delete_ends_a_lease_with_its_fence_only(env: Env) -> None:
    env.worker("w1", slots=1)
    fence = env.place("t").fence
    with pytest.raises(NotFound, match=f"has fence {fence}, not {fence - 1}") as refused:
        env.release("t", fence - 1)
    assert refused.value.code == "no_lease"
    assert env.release("t", fence).fence == fence
    with pytest.raises(NotFound):
        env.release("t", fence)
    env.place("t")
    assert env.release("t").worker_id == "w1"


# 6. Idempotent


def test_rule_6_the_same_task_asked_again_takes_no_second_slot(env: Env) -> None:
    env.worker("w1", "gpu", slots=1)
    first = env.place("t", "gpu")
    assert env.place("t", "gpu") == first
    assert env.place("t") == first, "fewer tags are met too"
    assert env.occupancy() == 1


def test_rule_6_the_same_answer_holds_while_its_worker_is_suspect(env: Env) -> None:
    env.worker("w1")
    first = env.place("t")
    env.advance(10)
    env.take("w1", "suspect")
    env.worker("w2")
    again = env.place("t")
    assert (again.worker_id, again.fence) == ("w1", first.fence)


def test_rule_6_a_confirmed_lease_gives_the_same_answer(env: Env) -> None:
    env.worker("w1", tasks=())
    env.worker("w2", tasks=())
    first = env.place("t")
    env.beat("w1", tasks=(("t", first.fence),))
    env.keep(60, "w1", "w2")
    again = env.place("t")
    assert (again.worker_id, again.fence) == ("w1", first.fence)
    assert again.expires_at == env.now + 30


@pytest.mark.parametrize("reason", ["draining", "drained", "excluded", "tags", "life", "trust"])
def test_rule_6_else_the_old_lease_ends_and_a_higher_fence_is_granted(
    env: Env, reason: str
) -> None:
    env.worker("w1", "gpu", incarnation="i1")
    first = env.place("t")
    env.worker("w2", "tpu", trusted=True)
    more: dict[str, Any] = {}
    if reason == "draining":
        env.beat("w1", draining=True)
        env.take("w1", "draining")
    elif reason == "drained":
        env.drain("w1")
    elif reason == "excluded":
        more = {"excluded": ("w1",)}
    elif reason == "tags":
        more = {"required": "tpu"}
    elif reason == "trust":
        more = {"trusted": True}
    else:
        env.beat("w1", incarnation="i2", current_tasks=3)
        env.take("w1", "renewed")
    again = env.place("t", **more)
    assert again.worker_id == "w2"
    assert again.fence > first.fence
    assert (env.view("w1").leases, env.occupancy("w2")) == (0, 1)


def test_rule_6_a_new_life_of_a_plain_worker_is_another_address(env: Env) -> None:
    env.worker("w1")
    first = env.place("t")
    env.advance(10)
    env.take("w1", "suspect")
    env.beat("w1", address="elsewhere:9000")
    env.take("w1", "renewed")
    again = env.place("t")
    assert again.address == "elsewhere:9000"
    assert again.fence > first.fence
    assert env.occupancy() == 1


def test_rule_6_the_only_slot_may_be_granted_again_under_a_new_fence(env: Env) -> None:
    env.worker("w1", slots=1, incarnation="i1")
    first = env.place("t")
    env.beat("w1", incarnation="i2")
    env.take("w1", "renewed")
    assert env.place("t").fence > first.fence
    assert env.occupancy() == 1


def test_rule_6_going_offline_ends_the_leases(env: Env) -> None:
    env.worker("w1", tasks=())
    fence = env.place("t", ttl_s=3600).fence
    env.beat("w1", tasks=(("t", fence),))
    env.place("u", ttl_s=3600)
    env.advance(20)
    env.take("w1", "suspect", "offline")
    assert env.view().leases == 0
    env.refuse("t")
    env.beat("w1", tasks=(("t", fence),))
    env.take("w1", "back")
    assert env.occupancy() == 1, "it still holds what it names"
    assert env.place("t").fence > fence


# 7. Late is not new


def test_rule_7_an_older_or_repeated_seq_changes_nothing_and_does_not_refresh(env: Env) -> None:
    env.worker("w1", "gpu", incarnation="i", seq=5, current_tasks=3)
    env.advance(4)
    before = env.view()
    for late in (4, 5):
        env.beat("w1", seq=late, current_tasks=0, tags=(), max_tasks=9, address="x:1")
        assert env.view() == before
    env.advance(6)
    env.take("w1", "suspect")
    env.beat("w1", seq=5)
    assert env.view().status == "suspect"
    env.beat("w1", seq=6)
    env.take("w1", "back")


def test_rule_7_a_heartbeat_without_seq_does_not_forget_the_last_one(env: Env) -> None:
    env.worker("w1", incarnation="i", seq=5, current_tasks=0)
    env.beat("w1", seq=None, current_tasks=2)
    env.beat("w1", seq=4, current_tasks=1)
    assert env.occupancy() == 2


def test_rule_7_a_plain_worker_that_is_suspect_may_start_its_numbers_over(env: Env) -> None:
    """A plain worker that numbers its heartbeats starts over when it is restarted, and nothing
    tells the new life from the old: it must not be shut out until its old numbers are reached."""
    env.worker("w1", seq=500, current_tasks=3)
    env.advance(10)
    env.take("w1", "suspect")
    env.beat("w1", seq=1, current_tasks=0)
    env.take("w1", "back")
    assert env.occupancy() == 0


def test_rule_7_seq_starts_over_in_another_life(env: Env) -> None:
    env.worker("w1", incarnation="i1", seq=500)
    env.beat("w1", incarnation="i2", seq=0, current_tasks=1)
    env.take("w1", "renewed")
    assert (env.view().incarnation, env.occupancy()) == ("i2", 1)


def test_rule_7_a_restart_at_the_same_address_is_accepted_at_once(env: Env) -> None:
    env.worker("w1", incarnation="i1")
    env.advance(0.1)
    env.beat("w1", incarnation="i2")
    env.take("w1", "renewed")


def test_rule_7_a_second_live_process_is_refused_and_told_the_holder(env: Env) -> None:
    env.worker("w1", incarnation="i1")
    with pytest.raises(Conflict, match="held by a live worker at w1:9000") as refused:
        env.beat("w1", incarnation="i2", address="other:1")
    assert refused.value.code == "held"
    assert refused.value.facts == {
        "holder": {"worker_id": "w1", "address": "w1:9000", "incarnation": "i1"}
    }
    assert env.view().incarnation == "i1"


@pytest.mark.parametrize("holder", ["suspect", "offline", "leaving"])
def test_rule_7_another_address_is_accepted_when_the_holder_is(env: Env, holder: str) -> None:
    env.worker("w1", incarnation="i1")
    if holder == "leaving":
        env.beat("w1", leaving=True)
        env.take("w1", "left")
    else:
        env.advance(10)
        env.take("w1", "suspect")
    if holder == "offline":
        env.advance(10)
        env.take("w1", "offline")
    env.beat("w1", incarnation="i2", address="other:1", leaving=False)
    env.take("w1", "renewed")
    assert (env.view().status, env.view().address) == ("online", "other:1")


def test_rule_7_plain_workers_are_told_apart_by_their_address(env: Env) -> None:
    env.worker("w1")
    env.beat("w1")
    with pytest.raises(Conflict):
        env.beat("w1", address="other:1")
    env.beat("w1", address="w1:9000")
    env.advance(10)
    env.take("w1", "suspect")
    env.beat("w1", address="other:1")
    env.take("w1", "renewed")


def test_rule_7_superseded_lives_are_refused_and_the_last_eight_are_remembered(env: Env) -> None:
    env.worker("w1", incarnation="i0")
    for n in range(1, 10):
        env.beat("w1", incarnation=f"i{n}")
        env.take("w1", "renewed")
    for n in range(1, 9):
        with pytest.raises(Conflict, match="taken over") as refused:
            env.beat("w1", incarnation=f"i{n}")
        assert refused.value.code == "superseded"
    env.beat("w1", incarnation="i0")  # nine lives ago: forgotten
    env.take("w1", "renewed")


def test_rule_7_a_late_heartbeat_of_the_old_life_changes_nothing(env: Env) -> None:
    env.worker("w1", incarnation="i1", current_tasks=4)
    env.beat("w1", incarnation="i2", current_tasks=0)
    env.take("w1", "renewed")
    before = env.view()
    with pytest.raises(Conflict):
        env.beat("w1", incarnation="i1", current_tasks=4)
    assert env.view() == before


def test_rule_7_a_new_life_ends_confirmed_leases_and_keeps_open_ones_to_their_ttl(
    env: Env,
) -> None:
    env.worker("w1", incarnation="i1", tasks=())
    held = env.place("held", ttl_s=20)
    env.place("open", ttl_s=20)
    env.beat("w1", tasks=(("held", held.fence),))
    env.beat("w1", incarnation="i2", tasks=())
    env.take("w1", "renewed")
    assert (env.view().leases, env.occupancy()) == (1, 1)
    with pytest.raises(NotFound):
        env.release("held")
    env.keep(20, "w1")
    assert env.view().leases == 0


# 8. Slow is not dead


def test_rule_8_ages_are_computed_at_read_time(env: Env) -> None:
    env.worker("w1")
    env.advance(9.5)
    assert env.view().status == "online"
    env.advance(0.5)
    assert env.view().status == "suspect"
    env.take("w1", "suspect")
    env.advance(9.5)
    assert env.view().status == "suspect"
    env.advance(0.5)
    assert env.view().status == "offline"
    env.take("w1", "offline")


def test_rule_8_a_stall_ages_no_worker_and_expires_no_lease(env: Env) -> None:
    env.worker("w1")
    env.place("t", ttl_s=2)
    env.stall(30)
    assert (env.view().status, env.view().leases) == ("online", 1)
    env.advance(1)
    assert env.view().leases == 1
    env.advance(0.5)
    assert env.view().leases == 0, "0.5 s of the stall was promised, the rest was not counted"
    env.advance(7.5)
    assert env.view().status == "online"
    env.advance(0.5)
    env.take("w1", "suspect")


def test_rule_8_a_lease_granted_after_a_stall_ends_at_the_epoch_seconds_it_says(
    env: Env,
) -> None:
    env.worker("w1")
    env.stall(30)
    placed = env.place("t", ttl_s=5)
    assert placed.expires_at == START + 35
    env.advance(4.9)
    assert env.view().leases == 1
    env.advance(0.1)
    assert env.view().leases == 0


def test_rule_8_a_delay_of_half_a_second_is_no_stall(env: Env) -> None:
    env.worker("w1")
    for _ in range(10):
        env.stall(1.0)
        env.view()
    env.take("w1", "suspect")


def test_rule_8_time_that_steps_back_is_not_counted(env: Env) -> None:
    env.worker("w1")
    env.now -= 100
    assert env.view().status == "online"
    env.now += 100
    env.advance(10)
    env.take("w1", "suspect")


def test_rule_8_the_first_5_s_after_a_start_warm_up_and_refusals_say_so() -> None:
    env = Env(Settings())
    assert env.cluster.warm_in_s() == 5
    refusal = env.refuse()
    assert (refusal.warming_up, refusal.retry_after_s) == (True, 5.0)
    env.advance(4.5)
    assert env.refuse().retry_after_s == 0.5
    env.worker("w1", slots=1)
    env.place("t")
    env.advance(0.5)
    assert env.cluster.warm_in_s() == 0
    assert not env.refuse("u").warming_up


def test_rule_8_a_stall_does_not_warm_up() -> None:
    env = Env(Settings())
    env.stall(30)
    assert env.refuse().warming_up


# 9. Refusals explain


def test_rule_9_each_worker_counts_once_under_the_first_reason_that_applies(env: Env) -> None:
    everything: dict[str, Any] = {
        "tags": "cpu",
        "slots": 1,
        "current_tasks": 1,
    }  # misses gpu, and is full
    env.worker("offline", **everything, draining=True, leaving=True)
    env.take("offline", "draining", "left")
    env.worker("draining", **everything, draining=True)
    env.take("draining", "draining")
    env.worker("drained", **everything)
    env.drain("drained")
    env.worker("excluded", **everything)
    env.worker("untrusted", **everything)
    env.worker("missing", **everything, trusted=True)
    env.worker("missing-2", "gpu", slots=1, current_tasks=1, trusted=True)
    env.worker("full", "gpu,ssd", slots=1, current_tasks=1, trusted=True)
    refusal = env.refuse(
        "t",
        "gpu,ssd",
        trusted=True,
        excluded=("offline", "draining", "drained", "excluded", "nobody"),
    )
    assert refusal == Refusal(
        task_id="t",
        offline=1,
        draining=2,
        excluded=1,
        untrusted=1,
        missing={"gpu": 1, "ssd": 1},
        full=1,
        did_you_mean={},
        retry_after_s=1.0,
        warming_up=False,
    )


def test_rule_9_the_first_missing_requirement_is_named_as_it_was_written(env: Env) -> None:
    env.worker("w1", "gpu,cuda-11")
    assert env.refuse("t", "gpu,cuda>=12.0,tpu").missing == {"cuda>=12.0": 1}
    assert env.refuse("t", "!gpu").missing == {"!gpu": 1}
    assert env.refuse("t", "tpu|npu").missing == {"tpu|npu": 1}


def test_rule_9_near_misses_of_unknown_tags_are_named(env: Env) -> None:
    env.worker("w1", "gpu,cuda-12.4,zone=eu")
    assert env.refuse("t", "gpuu").did_you_mean == {"gpuu": ["gpu"]}
    assert env.refuse("t", "cudda>=12").did_you_mean == {"cudda": ["cuda"]}
    assert env.refuse("t", "zone_eu").did_you_mean == {"zone_eu": ["zone=eu"]}
    assert env.refuse("t", "quantum").did_you_mean == {}
    assert env.refuse("t", "cuda>=13").did_you_mean == {}, "known, only not this version"
    assert env.refuse("t", "!gpu").did_you_mean == {}


def test_rule_9_retry_after_tells_when_asking_again_is_worth_it(env: Env) -> None:
    assert env.refuse().retry_after_s == 5
    env.worker("w1", "gpu", slots=1)
    env.place("t", "gpu")
    assert env.refuse("u", "gpu").retry_after_s == 1
    assert env.refuse("u", "tpu").retry_after_s == 10
    env.drain("w1")
    assert env.refuse("u", "gpu").retry_after_s == 5


# 10. Bounded


def test_rule_10_an_offline_worker_is_forgotten_after_an_hour_and_its_slot_is_reused(
    env: Env,
) -> None:
    env.worker("a")
    env.worker("b", current_tasks=1)
    env.advance(20)
    for change in ("suspect", "offline"):
        env.take("a", change)
        env.take("b", change)
    env.beat("b")
    env.take("b", "back")
    env.keep(3599, "b")
    assert len(env.workers()) == 2
    env.keep(1, "b")
    env.take("a", "forgotten")
    assert [row.worker_id for row in env.workers()] == ["b"]
    assert env.refuse(excluded=("b",)).offline == 0
    env.worker("c", current_tasks=1)  # where a stood, so before b in the turn
    assert env.place().worker_id == "c"


def test_rule_10_the_hour_is_a_setting() -> None:
    settings = Settings(health=fleet.Health(forget_after_s=2.0), warm_up_s=0.0)
    env = Env(settings)
    env.worker("w1", leaving=True)
    env.take("w1", "left")
    env.advance(2)
    env.take("w1", "forgotten")


def test_rule_10_a_full_table_forgets_the_longest_offline_worker_for_a_new_one(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "WORKERS_MAX", 3)
    env.worker("a", leaving=True)
    env.take("a", "left")
    env.advance(1)
    env.worker("b", leaving=True)
    env.take("b", "left")
    env.worker("c")
    env.handle(Heartbeat("d", "d:9000", (), 4))
    env.take("a", "forgotten")
    env.take("d", "joined")
    assert [row.worker_id for row in env.workers()] == ["b", "c", "d"]


def test_rule_10_a_table_full_of_live_workers_takes_no_new_one(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "WORKERS_MAX", 2)
    env.worker("a")
    env.worker("b")
    with pytest.raises(Busy) as refused:
        env.worker("c")
    assert refused.value.code == "too_many_workers"
    env.beat("a")
    assert [row.worker_id for row in env.workers()] == ["a", "b"]


def test_rule_10_a_full_table_of_leases_grants_none_but_repeats_its_answers(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    env.worker("a", slots=9)
    first = env.place("t1")
    env.place("t2")
    with pytest.raises(Busy) as refused:
        env.ask("t3")
    assert refused.value.code == "too_many_leases"
    assert env.place("t1") == first
    env.release("t1")
    env.place("t3")
