"""What time alone brings about: `not_before`, `max_queue_s`, and stalls of the scheduler."""

import pytest

from core.env import START, Env, a_job
from dtask.core.jobs.states import Cause, State
from dtask.core.jobs.timers import RING_MAX, TIDY_MIN, Timers
from dtask.core.placement.events import Tick


def test_nothing_of_a_job_runs_before_its_time(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "b": {}}, not_before=START + 60)
    jobs.keep(59.5, "w1")
    assert jobs.states(job) == {"a": State.PENDING, "b": State.PENDING}
    assert jobs.why(job)[0].until == START + 60
    jobs.keep(0.5, "w1")
    jobs.run("1/a")
    jobs.run("1/b")


def test_the_core_asks_to_be_called_when_a_job_s_time_comes(jobs: Env) -> None:
    jobs.submit(not_before=START + 0.25)
    assert jobs.cluster.next_deadline() == START + 0.25


def test_a_time_that_has_passed_holds_nothing_back(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(not_before=START - 1)
    jobs.given()


def test_a_job_s_time_and_the_jobs_before_it_must_both_have_come(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit(after=[first], not_before=START + 10)
    jobs.run("1/main")
    assert jobs.why(second)[0].code == "not_before"
    third = jobs.submit()
    fourth = jobs.submit(after=[third], not_before=START + 1)
    start = jobs.given("3/main")
    jobs.keep(9.5, "w1")
    assert jobs.why(fourth)[0].code == "after"
    jobs.started(start)
    jobs.ended(start)
    jobs.given("4/main")
    jobs.keep(0.5, "w1")
    jobs.given("2/main")


@pytest.mark.parametrize("seconds", [0, 100])
def test_a_job_s_time_outlives_a_restart(jobs: Env, seconds: float) -> None:
    job = jobs.submit(not_before=START + 50)
    jobs.now += seconds
    jobs.restart()
    jobs.attach("w1")
    if not seconds:
        assert jobs.state(job) is State.PENDING
        jobs.keep(50, "w1")
    jobs.given("1/main")


def test_a_clock_set_back_over_a_restart_does_not_stop_a_job_that_has_begun(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"a": {}, "b": {"needs": ["a"]}}, not_before=START + 50)
    jobs.keep(50, "w1")
    start = jobs.given("1/a")
    jobs.started(start)
    jobs.now -= 40
    jobs.restart()
    jobs.beat("w1")
    jobs.take("w1", "joined")
    jobs.attach("w1")
    jobs.ended(start)
    jobs.run("1/b")
    assert jobs.state(job) is State.SUCCEEDED


def test_job_times_are_epoch_seconds_whatever_the_scheduler_slept_through(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(not_before=START + 60)
    jobs.stall(60)
    jobs.tick()
    jobs.given("1/main")


def test_what_waits_too_long_in_its_queue_fails(jobs: Env) -> None:
    job = jobs.submit({"a": {"max_queue_s": 5}, "b": {"needs": ["a"]}})
    jobs.advance(4.5)
    assert jobs.state(job, "a") is State.QUEUED
    jobs.advance(0.5)
    row = jobs.book.tasks[job, "a", -1]
    assert (row.state, row.cause) == (State.FAILED, Cause.QUEUE_TIMEOUT)
    assert jobs.state(job, "b") is State.SKIPPED


def test_the_wait_counts_from_when_it_was_last_queued(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(max_queue_s=5)
    start = jobs.given()
    jobs.started(start)
    jobs.keep(30, "w1")
    jobs.set_queue(paused=True)
    jobs.ended(start, None, Cause.LOST)
    jobs.keep(4.5, "w1")
    assert jobs.state(job) is State.QUEUED
    jobs.keep(0.5, "w1")
    assert jobs.state(job) is State.FAILED


def test_a_wait_goes_on_over_a_restart(jobs: Env) -> None:
    job = jobs.submit(max_queue_s=5)
    jobs.advance(3)
    jobs.restart()
    jobs.advance(1.5)
    assert jobs.state(job) is State.QUEUED
    jobs.advance(0.5)
    assert jobs.state(job) is State.FAILED


def test_a_backoff_goes_on_over_a_restart(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 1, "backoff_s": 10}, array=2)
    jobs.run(exit_code=1)
    jobs.run()
    jobs.advance(4)
    jobs.restart()
    jobs.advance(5.5)
    assert jobs.state(job, "main", 0) is State.PENDING
    jobs.advance(0.5)
    assert jobs.state(job, "main", 0) is State.QUEUED


def test_a_stall_counts_for_a_backoff_but_not_against_a_worker(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(retry={"max": 1, "backoff_s": 100})
    jobs.run(exit_code=1)
    jobs.stall(100)
    jobs.tick()
    jobs.given("1/main")


def test_many_jobs_whose_time_comes_at_once_begin_in_slices_without_pause(jobs: Env) -> None:
    for _ in range(2 * RING_MAX + 1):
        step = jobs.cluster.handle(a_job(not_before=START + 60), jobs.now)
        jobs.book.write(step.changes)
    for left in (RING_MAX + 1, 1, 0):
        jobs.now = START + 60
        jobs.book.write(jobs.cluster.handle(Tick(), jobs.now).changes)
        assert jobs.set_queue().pending == left
        assert (jobs.cluster.next_deadline() == jobs.now) == bool(left)


def test_timers_ring_in_their_order_and_only_what_still_counts() -> None:
    timers, rung, void = Timers(), [], {"b"}
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2"), (9.0, "d")):
        timers.add(when, lambda name: name not in void, rung.append, name)
    assert timers.next_due() == 1.0
    timers.ring(3.0)
    assert rung == ["a", "a2", "c"]
    assert timers.next_due() == 9.0


def test_timers_forget_what_is_void_long_before_it_is_due() -> None:
    timers = Timers()
    for n in range(20 * TIDY_MIN):
        timers.add(1e9 + n, lambda _n: False, lambda _n: None, n)
        assert len(timers) <= TIDY_MIN
    for _ in range(2):
        timers.ring(2e9)
    assert timers.next_due() == float("inf")
