import pytest

from core.env import START, WARM, Env, an_ask
from dtask.core.cluster import TICK_S, Step
from dtask.core.placement.events import Drain, Tick, WorkerChanged
from dtask.errors import Conflict, NotFound


def test_an_event_that_changes_nothing_to_tell_is_a_step_with_its_answer_alone(env: Env) -> None:
    assert env.cluster.handle(Tick(), env.now) == Step()
    env.worker("w1")
    step = env.cluster.handle(an_ask(), env.now)
    assert step == Step(answer=step.answer)
    assert step.answer.worker_id == "w1"


def test_effects_tell_what_changed_in_the_order_it_happened(env: Env) -> None:
    env.worker("a")
    env.advance(1)
    env.worker("b")
    env.advance(8)
    env.now += 1
    step = env.cluster.handle(Drain("b", drained=True), env.now)
    assert step.effects == (
        WorkerChanged("a", "suspect", "a:9000"),
        WorkerChanged("b", "draining", "b:9000"),
    )
    assert env.cluster.handle(Tick(), env.now).effects == ()


def test_what_time_brought_about_before_a_refused_event_is_told_with_the_next_step(
    env: Env,
) -> None:
    env.worker("a")
    env.worker("b", incarnation="i1")
    env.advance(9)
    env.beat("b")
    env.now += 1
    with pytest.raises(Conflict):
        env.beat("b", incarnation="i2", address="other:1")
    env.advance(0)
    env.take("a", "suspect")


def test_the_next_deadline_is_half_a_second_ahead_or_when_something_is_due(env: Env) -> None:
    env.advance(0)
    assert env.cluster.next_deadline() == START + TICK_S
    env.worker("w1")
    env.place("t", ttl_s=1.25)
    env.advance(1)
    assert env.cluster.next_deadline() == START + 1.25
    env.advance(0.25)
    assert env.view().leases == 0
    assert env.cluster.next_deadline() == START + 1.25 + TICK_S


def test_after_a_stall_deadlines_are_ahead_in_epoch_seconds(env: Env) -> None:
    env.worker("w1")
    env.stall(1_000)
    env.place("t", ttl_s=1.25)
    assert env.cluster.next_deadline() == START + 1_000 + TICK_S
    env.advance(1)
    assert env.cluster.next_deadline() == START + 1_001.25


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.7])
def test_no_deadline_is_one_that_has_passed_whatever_the_fractions(seconds: float) -> None:
    env = Env(WARM, now=START + 0.123456)
    env.worker("w1")
    for n in range(40):
        env.stall(1.7 + seconds)
        env.place(f"t{n % 4}", ttl_s=1 + seconds)
        env.advance(seconds)
        env.beat("w1")
        assert env.cluster.next_deadline() > env.now


def test_an_unknown_worker_can_not_be_drained(env: Env) -> None:
    with pytest.raises(NotFound, match="dtask workers") as refused:
        env.handle(Drain("nobody", drained=True))
    assert refused.value.code == "unknown_worker"
