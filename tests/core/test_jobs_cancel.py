"""Cancel: in any state, once or twice, and against a success that comes first."""

import pytest

from core.env import Env
from dtask.core.jobs.events import CloseChannel, StopAttempt, Stopping
from dtask.core.jobs.states import Cause, State
from dtask.errors import Conflict, NotFound


def test_what_waits_is_cancelled_at_once(jobs: Env) -> None:
    job = jobs.submit({"a": {}, "b": {"needs": ["a"]}})
    assert jobs.cancel(job) == Stopping(job, State.CANCELLED, 0)
    assert jobs.states(job) == {"a": State.CANCELLED, "b": State.CANCELLED}
    row = jobs.book.jobs[job,]
    assert (row.state, row.cancelled, row.ended_at) == (State.CANCELLED, True, jobs.now)


@pytest.mark.parametrize("started", [False, True])
def test_what_a_worker_holds_is_cancelled_when_it_says_so(jobs: Env, started: bool) -> None:
    jobs.attach("w1")
    job = jobs.submit(grace_s=3)
    start = jobs.given()
    if started:
        jobs.started(start)
    assert jobs.cancel(job).attempts == 1
    stop = jobs.take(StopAttempt)
    assert (stop.fence, stop.grace_s) == (start.fence, 3)
    assert jobs.state(job) is (State.RUNNING if started else State.SCHEDULED)
    jobs.stopped(start)
    row = jobs.book.attempts[job, "main", -1, 1]
    assert (row.state, row.cause) == (State.CANCELLED, Cause.STOPPED)
    assert jobs.state(job) is State.CANCELLED


def test_a_second_cancel_says_the_same_and_stops_nothing_twice(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given())
    jobs.cancel(job)
    jobs.take(StopAttempt)
    assert jobs.cancel(job).attempts == 1
    jobs.quiet()


def test_a_success_reported_first_stands(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.run()
    with pytest.raises(Conflict, match="Job 1 is succeeded"):
        jobs.cancel(job)
    assert jobs.state(job) is State.SUCCEEDED


def test_a_success_reported_after_the_cancel_is_cancelled(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 5})
    start = jobs.given()
    jobs.started(start)
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.ended(start, 0)
    assert jobs.state(job) is State.CANCELLED


@pytest.mark.parametrize(
    ("exit_code", "cause"),
    [(1, None), (None, Cause.LOST), (None, Cause.RETURNED), (-9, Cause.TIMEOUT)],
)
def test_a_cancelled_attempt_is_not_tried_again_however_it_ends(
    jobs: Env, exit_code: int | None, cause: Cause | None
) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 5})
    start = jobs.given()
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.ended(start, exit_code, cause)
    assert jobs.state(job) is State.CANCELLED


def test_a_cancel_while_the_worker_is_away_reaches_it_at_its_hello(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given()
    jobs.started(start)
    jobs.detach("w1")
    assert jobs.cancel(job).attempts == 1
    jobs.quiet()
    jobs.attach("w1")
    assert jobs.take(StopAttempt).fence == start.fence
    jobs.stopped(start)
    assert jobs.state(job) is State.CANCELLED


def test_a_cancel_of_what_a_lost_worker_held_is_done_with_the_loss(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given())
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.advance(20)
    jobs.take("w1", "suspect", "offline")
    jobs.take(CloseChannel)
    assert jobs.state(job) is State.CANCELLED


def test_a_cancel_outlives_a_restart(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given()
    jobs.started(start)
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.restart()
    jobs.beat("w1")
    jobs.take("w1", "joined")
    jobs.attach("w1")
    assert jobs.take(StopAttempt).fence == start.fence
    jobs.stopped(start)
    assert jobs.state(job) is State.CANCELLED


def test_a_start_that_is_cancelled_and_never_arrives_is_cancelled_by_the_next_hello(
    jobs: Env,
) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.given()
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.keep(20, "w1")
    assert jobs.state(job) is State.SCHEDULED
    jobs.detach("w1")
    jobs.attach("w1", held=[])
    assert jobs.state(job) is State.CANCELLED


def test_a_backoff_can_be_cancelled(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 3, "backoff_s": 10})
    jobs.run(exit_code=1)
    jobs.cancel(job)
    assert jobs.state(job) is State.CANCELLED
    jobs.keep(20, "w1")


def test_a_job_cancelled_before_its_time_does_not_come_back_then(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(not_before=jobs.now + 5)
    jobs.cancel(job)
    jobs.keep(10, "w1")
    assert jobs.state(job) is State.CANCELLED


def test_the_cancel_of_one_task_skips_its_heirs_but_those_that_want_it_done(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(
        {"other": {}, "a": {}, "b": {"needs": ["a"]}, "tidy": {"needs": ["a"], "when": "all_done"}}
    )
    jobs.cancel(job, "a")
    assert jobs.state(job, "b") is State.SKIPPED
    assert not jobs.book.jobs[job,].cancelled
    jobs.run("1/other")
    jobs.run("1/tidy")
    assert jobs.state(job) is State.CANCELLED


def test_a_cancelled_job_runs_nothing_more_not_even_what_wants_all_done(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "tidy": {"needs": ["a"], "when": "all_done"}})
    start = jobs.given("1/a")
    jobs.started(start)
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.stopped(start)
    assert jobs.states(job) == {"a": State.CANCELLED, "tidy": State.CANCELLED}


def test_the_untouched_rest_of_an_array_is_cancelled_at_once(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=1_000_000)
    first, second = jobs.given(), jobs.given()
    jobs.started(first)
    assert jobs.cancel(job).attempts == 2
    assert len(jobs.changes) < 10
    for start in (first, second):
        assert jobs.take(StopAttempt).fence == start.fence
    jobs.stopped(first)
    jobs.stopped(second)
    assert jobs.state(job) is State.CANCELLED
    assert jobs.state(job, "main", 999_999) is State.CANCELLED


def test_what_is_not_there_or_is_over_can_not_be_cancelled(jobs: Env) -> None:
    with pytest.raises(NotFound, match="There is no job 3"):
        jobs.cancel(3)
    job = jobs.submit()
    with pytest.raises(NotFound, match="has no task 'b'"):
        jobs.cancel(job, "b")
    jobs.cancel(job)
    with pytest.raises(Conflict) as refused:
        jobs.cancel(job)
    assert refused.value.code == "job_ended"


def test_a_stop_that_takes_longer_than_a_start_may_is_waited_for(jobs: Env) -> None:
    """Cancelled is the state once the stop is confirmed: its process may be in its grace."""
    jobs.attach("w1")
    job = jobs.submit(start_timeout_s=5, grace_s=30)
    start = jobs.given()
    jobs.cancel(job)
    jobs.take(StopAttempt)
    jobs.keep(20, "w1")
    assert jobs.state(job) is State.SCHEDULED
    jobs.quiet()
    jobs.stopped(start)
    assert jobs.state(job) is State.CANCELLED
