import pytest

from core.env import START, WARM, Env
from dtask.core.placement.leases import FENCES_PER_S
from dtask.errors import NotFound


def test_fences_start_at_the_epoch_second_and_only_grow(env: Env) -> None:
    env.worker("w1", slots=9)
    assert env.place("t1").fence == int(START) * FENCES_PER_S + 1
    fences = [env.place(f"t{n}").fence for n in range(2, 7)]
    assert fences == sorted(set(fences))
    env.release("t6")
    assert env.place("t6").fence > fences[-1]
    later = Env(WARM, now=START + 1)
    later.worker("w1")
    assert later.place("t1").fence > fences[-1], "over restarts too"


@pytest.mark.parametrize("field", ["tasks", "ended"])
def test_a_fence_is_lifted_above_any_that_a_worker_reports(env: Env, field: str) -> None:
    env.worker("w1", tasks=())
    ahead = env.place("t").fence + 1_000
    env.beat("w1", **{field: (("old", ahead),)})
    assert env.place("u").fence == ahead + 1


def test_a_claim_beyond_what_json_counts_exactly_lifts_nothing(env: Env) -> None:
    env.worker("w1", tasks=())
    before = env.place("t").fence
    env.beat("w1", tasks=(("old", 2**53 - 1),))
    assert env.place("u").fence == before + 1


def test_ends_that_were_renewed_released_or_confirmed_are_not_kept_for_ever(env: Env) -> None:
    env.worker("w1", slots=4, tasks=())
    for n in range(2_000):
        env.place(f"t{n}", ttl_s=3_600)
        env.release(f"t{n}")
    assert len(env.cluster._leases._ends) < 1_100
    env.place("t", ttl_s=1)
    env.advance(1)
    assert env.view().leases == 0


def test_leases_end_in_the_order_of_their_ends_not_of_their_grants(env: Env) -> None:
    env.worker("w1", slots=3)
    env.place("long", ttl_s=9)
    env.place("short", ttl_s=2)
    env.place("renewed", ttl_s=1)
    env.place("renewed", ttl_s=4)
    left = []
    for _ in range(9):
        env.keep(1, "w1")
        left.append(env.view().leases)
    assert left == [3, 2, 2, 1, 1, 1, 1, 1, 0]


def test_release_frees_a_slot_at_once_also_when_the_worker_has_named_the_task(env: Env) -> None:
    env.worker("w1", slots=1, tasks=())
    fence = env.place("t").fence
    env.beat("w1", tasks=(("t", fence),))
    env.release("t", fence)
    env.place("u")
    env.beat("w1")
    assert env.occupancy() == 2, "it still ran, so it counts again"


def test_an_expired_lease_is_told_by_its_absence(env: Env) -> None:
    env.worker("w1")
    env.place("t", ttl_s=1)
    env.advance(1)
    with pytest.raises(NotFound, match="it ended, expired, or was never granted"):
        env.release("t")
