"""Whose turn it is: priorities, queues with limits and weights, demands that fit nowhere."""

from collections import Counter

import pytest

from core.env import Env
from dtask.core.jobs.events import ListQueues, QueueView, SetQueue
from dtask.core.jobs.holding import DISPATCH_MAX
from dtask.core.jobs.jobs import QUEUES_MAX
from dtask.core.jobs.queues import TIDY_MIN
from dtask.core.jobs.states import Cause, State
from dtask.core.placement.events import Tick
from dtask.errors import Busy, InvalidRequest, NotFound


def order(env: Env, runs: int) -> list[int]:
    """The jobs of the next attempts, each run to its end."""
    return [env.run().job_id for _ in range(runs)]


def test_higher_priorities_go_first_then_older_jobs(jobs: Env) -> None:
    jobs.submit(priority=0)
    jobs.submit(priority=5)
    jobs.submit(priority=-1)
    jobs.submit(priority=5)
    jobs.attach("w1", slots=1)
    assert order(jobs, 4) == [2, 4, 1, 3]


def test_higher_priorities_go_first_out_of_a_queue_that_was_paused(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.set_queue(paused=True)
    for priority in (0, 5, -1, 7):
        jobs.submit(priority=priority)
    jobs.set_queue(paused=False)
    assert order(jobs, 4) == [4, 2, 1, 3]


def test_tasks_of_a_job_go_in_the_order_they_were_written_in(jobs: Env) -> None:
    jobs.submit({"b": {}, "a": {}, "c": {"tags": "!x"}})
    jobs.attach("w1", slots=1)
    assert [jobs.run().task for _ in range(3)] == ["b", "a", "c"]


def test_priorities_are_strict_over_different_requirements(jobs: Env) -> None:
    """The freed slot goes to the most urgent that fits, though it was shut out longest."""
    jobs.attach("w1", "gpu", slots=1)
    jobs.submit(tags="gpu")
    running = jobs.given()
    jobs.submit(priority=1)
    jobs.submit(priority=9, tags="gpu")
    jobs.submit(priority=5, tags="!cpu")
    jobs.started(running)
    jobs.ended(running)
    assert order(jobs, 3) == [3, 4, 2]


def test_a_late_urgent_job_overtakes_an_array_in_the_middle(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=1000)
    jobs.run("1/main[0]")
    start = jobs.given("1/main[1]")
    jobs.submit(priority=1)
    jobs.started(start)
    jobs.ended(start)
    jobs.run("2/main")
    jobs.given("1/main[2]")


def test_an_unsatisfiable_urgent_job_delays_nobody_and_why_says_so(jobs: Env) -> None:
    jobs.attach("w1", "gpu", slots=1)
    urgent = jobs.submit(priority=9, tags="tpu", array=1000)
    for _ in range(5):
        job = jobs.submit(tags="gpu")
        jobs.run(f"{job}/main")
    reason = jobs.why(urgent)[0]
    assert (reason.code, reason.count) == ("no_worker", 1000)
    assert "1 lacks tpu" in reason.sentence


def test_what_fitted_nowhere_runs_when_a_worker_comes_that_fits(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(tags="tpu")
    jobs.submit(tags="tpu|npu")
    jobs.submit(tags="!gpu,tpu")
    jobs.quiet()
    jobs.attach("w2", "tpu", slots=1)
    assert order(jobs, 3) == [1, 2, 3]


def test_what_fitted_nowhere_runs_when_a_worker_s_tags_change(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(tags="tpu")
    jobs.beat("w1", tags=("tpu",))
    jobs.tick()
    jobs.given("1/main")


def test_what_fitted_nowhere_runs_when_a_worker_gets_more_slots(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=3)
    jobs.given("1/main[0]")
    jobs.beat("w1", max_tasks=2)
    jobs.tick()
    jobs.given("1/main[1]")


def test_a_paused_queue_gives_nothing_out_until_it_goes_on(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.set_queue(paused=True)
    job = jobs.submit()
    jobs.quiet()
    assert jobs.why(job)[0].code == "paused"
    jobs.set_queue(paused=False)
    jobs.given("1/main")


def test_a_queue_runs_no_more_than_its_max_running(jobs: Env) -> None:
    jobs.attach("w1", slots=10)
    jobs.set_queue(max_running=2)
    job = jobs.submit(array=5)
    first, second = jobs.given(), jobs.given()
    jobs.quiet()
    assert jobs.why(job)[0].code == "queue_limit"
    jobs.started(first)
    jobs.ended(first)
    third = jobs.given()
    jobs.quiet()
    jobs.set_queue(max_running=0)
    jobs.given()
    jobs.given()
    for start in (second, third):
        jobs.started(start)


def test_limits_of_one_queue_are_no_other_s(jobs: Env) -> None:
    jobs.attach("w1", slots=10)
    jobs.set_queue(max_running=1)
    jobs.set_queue("other")
    jobs.submit(array=3)
    jobs.submit(array=3, queue="other")
    taken = [jobs.given().job_id for _ in range(4)]
    assert Counter(taken) == {1: 1, 2: 3}


def test_the_queue_with_the_lowest_held_slots_by_weight_is_next(jobs: Env) -> None:
    jobs.set_queue("heavy", weight=3)
    jobs.submit(array=100)
    jobs.submit(array=100, queue="heavy", priority=-100)
    jobs.attach("w1", slots=40)
    taken = Counter(jobs.given().job_id for _ in range(40))
    assert taken == {1: 10, 2: 30}


def test_priority_means_nothing_between_queues(jobs: Env) -> None:
    jobs.set_queue("other")
    jobs.submit(priority=100, array=10)
    jobs.submit(priority=-100, array=10, queue="other")
    jobs.attach("w1", slots=4)
    assert Counter(jobs.given().job_id for _ in range(4)) == {1: 2, 2: 2}


def test_a_queue_tells_since_when_the_oldest_waits(jobs: Env) -> None:
    def oldest() -> float | None:
        (view,) = jobs.handle(ListQueues("default"))
        return view.oldest_queued_at

    assert oldest() is None
    first = jobs.now
    jobs.submit(array=2, priority=-1)
    jobs.advance(5)
    jobs.submit(priority=1)
    assert oldest() == first
    jobs.attach("w1", slots=2)
    jobs.given("2/main")
    jobs.given("1/main[0]")
    assert oldest() == first
    jobs.cancel(1, "main")
    assert oldest() is None
    jobs.take_all()


def test_a_queue_is_made_and_changed_field_by_field(jobs: Env) -> None:
    shown = jobs.set_queue("q", max_running=2, max_queued=7, weight=0.5, paused=True)
    counts = {"pending": 0, "queued": 0, "running": 0}
    assert shown == QueueView("q", 2, 7, 0.5, paused=True, **counts)
    shown = jobs.set_queue("q", paused=False)
    assert shown == QueueView("q", 2, 7, 0.5, paused=False, **counts)
    shown = jobs.set_queue("q", max_running=0, max_queued=0)
    assert shown == QueueView("q", None, None, 0.5, paused=False, **counts)
    assert [view.name for view in jobs.handle(ListQueues())] == ["default", "q"]
    jobs.restart()
    assert jobs.handle(ListQueues("q")) == [shown]


def test_bad_settings_of_queues_are_refused(jobs: Env) -> None:
    for weight in (0, -1, float("nan"), 1e7):
        with pytest.raises(InvalidRequest, match="weight"):
            jobs.set_queue("q", weight=weight)
    with pytest.raises(InvalidRequest, match="is no name"):
        jobs.set_queue("a b")
    with pytest.raises(NotFound):
        jobs.handle(ListQueues("q"))


def test_queues_have_a_limit(jobs: Env) -> None:
    for n in range(QUEUES_MAX - 1):
        jobs.cluster.handle(SetQueue(f"q{n}"), jobs.now)
    with pytest.raises(Busy, match="which is the limit"):
        jobs.set_queue("one-more")
    jobs.set_queue("q7", weight=2)


def test_one_step_gives_out_so_many_and_hurries_on(jobs: Env) -> None:
    jobs.attach("w1", slots=1000)
    jobs.submit(array=1000)
    assert len(jobs.take_all()) == DISPATCH_MAX
    for _ in range(4):
        assert jobs.cluster.hurries
        assert jobs.cluster.next_deadline() == jobs.now
        jobs.cluster.check()
        jobs._note(jobs.cluster.handle(Tick(), jobs.now))
        assert len(jobs.take_all()) == DISPATCH_MAX
    jobs.tick()
    assert not jobs.cluster.hurries


def test_a_heartbeat_waits_for_no_dispatch_but_hurries_the_next_tick(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=3)
    jobs.given()
    jobs.beat("w1", max_tasks=2)
    jobs.quiet()
    assert jobs.cluster.hurries
    jobs.tick()
    jobs.given()


def test_a_freed_slot_is_given_on_in_the_same_step(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=2)
    start = jobs.given()
    jobs.started(start)
    jobs.ended(start)
    assert jobs.given().index == 1
    assert jobs.state(1, "main", 1) is State.SCHEDULED


def test_slots_taken_by_placement_are_not_given_to_jobs_nor_the_other_way_round(
    jobs: Env,
) -> None:
    jobs.attach("w1", slots=2)
    jobs.place("t")
    jobs.submit(array=2)
    jobs.given()
    jobs.quiet()
    assert jobs.refuse("t2").full == 1


def test_the_least_loaded_worker_gets_the_next_attempt(jobs: Env) -> None:
    jobs.attach("w1", slots=4)
    jobs.attach("w2", slots=4)
    jobs.submit(array=6)
    assert Counter(jobs.given().worker_id for _ in range(6)) == {"w1": 3, "w2": 3}


def test_what_is_queued_again_keeps_its_place_though_its_line_is_tidied_up(jobs: Env) -> None:
    """With its entry the line has as many as make it drop those that wait no more."""
    jobs.attach("w1", slots=1)
    jobs.submit()
    returned = jobs.given("1/main")
    for _ in range(TIDY_MIN - 1):
        jobs.submit()
    jobs.ended(returned, None, Cause.RETURNED)
    assert order(jobs, TIDY_MIN) == list(range(1, TIDY_MIN + 1))
