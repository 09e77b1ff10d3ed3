import pytest

from core.env import Env, an_ask
from dtask.core.placement import leases
from dtask.core.placement.events import AskEach, Refusal
from dtask.errors import Busy


def test_all_or_nothing_places_all_in_the_order_asked(env: Env) -> None:
    env.worker("w1", slots=2)
    env.worker("w2", slots=2)
    placed = env.ask_all(*(an_ask(f"t{n}") for n in range(4)))
    assert isinstance(placed, list)
    assert [one.worker_id for one in placed] == ["w1", "w2", "w1", "w2"]
    assert [one.fence for one in placed] == sorted({one.fence for one in placed})


def test_all_or_nothing_refused_names_the_one_that_did_not_fit(env: Env) -> None:
    env.worker("w1", slots=2)
    refusal = env.ask_all(*(an_ask(f"t{n}") for n in range(4)))
    assert isinstance(refusal, Refusal)
    assert (refusal.index, refusal.task_id, refusal.full) == (2, "t2", 1)


def test_all_or_nothing_refused_changes_nothing(env: Env) -> None:
    """Among what is put back: a lease that was renewed, one that was ended for a new one, one
    that was both; and the turn."""
    env.worker("w1", "gpu", slots=5, tasks=())
    env.worker("w2", "cpu", slots=5, current_tasks=0)
    env.worker("w3", slots=5)
    held = env.place("held", "gpu", ttl_s=10)
    env.beat("w1", tasks=(("held", held.fence),))
    counted = env.place("counted", "cpu", ttl_s=10)
    opened = env.place("open", "gpu", ttl_s=10)
    rows = env.workers()
    refusal = env.ask_all(
        an_ask("open", ttl_s=60),
        an_ask("open", "cpu"),
        an_ask("held", excluded=("w1",)),
        an_ask("counted", excluded=("w2",)),
        an_ask("new"),
        an_ask("misfit", "tpu"),
    )
    assert isinstance(refusal, Refusal)
    assert env.workers() == rows
    assert env.place("next", "!gpu,!cpu").worker_id == "w3"
    for task_id, before in (("held", held), ("counted", counted), ("open", opened)):
        assert env.ask(task_id, ttl_s=1) == before
    env.keep(10, "w1", "w2", "w3")
    assert [row.leases for row in env.workers()] == [1, 0, 1], "ended when they would have"


def test_all_or_nothing_refused_leaves_the_order_in_which_a_count_absorbs(env: Env) -> None:
    env.worker("w1", slots=5, current_tasks=0)
    env.place("old")
    env.advance(2)
    env.place("young")
    assert isinstance(
        env.ask_all(an_ask("old", excluded=("w1",)), an_ask("misfit", "tpu")), Refusal
    )
    env.advance(1)
    env.beat("w1", current_tasks=1)
    assert env.occupancy() == 2, "old is in the count, young is not"


def test_a_task_asked_twice_in_one_batch_gets_one_slot(env: Env) -> None:
    env.worker("w1", slots=1)
    placed = env.ask_all(an_ask("t", ttl_s=1), an_ask("t", ttl_s=5))
    assert isinstance(placed, list)
    assert placed[0] == placed[1]
    assert env.view().leases == 1


@pytest.mark.parametrize("full", [True, False])
def test_a_confirmed_lease_that_is_put_back_awaits_no_end(
    env: Env, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    env.worker("w1", tasks=())
    env.worker("w2", tasks=())
    fence = env.place("held", ttl_s=5).fence
    env.beat("w1", tasks=(("held", fence),))
    env.keep(40, "w1", "w2")
    asks = [an_ask("held", excluded=("w1",)), an_ask("held"), an_ask("new")]
    if full:
        monkeypatch.setattr(leases, "LEASES_MAX", 1)
        with pytest.raises(Busy):
            env.ask_all(*asks)
    else:
        assert isinstance(env.ask_all(*asks, an_ask("misfit", "tpu")), Refusal)
    env.keep(10, "w1", "w2")
    assert (env.view("w1").leases, env.view("w2").leases) == (1, 0)


def test_all_or_nothing_changes_nothing_when_the_table_of_leases_is_full(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 3)
    env.worker("w1", slots=9)
    env.place("t0")
    rows = env.workers()
    with pytest.raises(Busy):
        env.ask_all(*(an_ask(f"t{n}") for n in range(1, 5)))
    assert env.workers() == rows


def test_asked_each_for_itself_a_full_table_of_leases_refuses_only_what_it_must(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    env.worker("w1", slots=9)
    first = env.place("t0")
    again, second, busy = env.handle(AskEach((an_ask("t0"), an_ask("t1"), an_ask("t2"))))
    assert again == first
    assert second.worker_id == "w1"
    assert isinstance(busy, Busy)
