import pytest

from core.env import START, WARM, Env
from dtask.core.placement.leases import FENCES_PER_S


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
