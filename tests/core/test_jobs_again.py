"""Retries: by themselves after a failure, and on somebody's word."""

import pytest

from core.env import Env, a_job
from dtask.core.jobs import retry
from dtask.core.jobs.events import NeedsRecord, RetryJob, StopAttempt
from dtask.core.jobs.model import Retry
from dtask.core.jobs.states import Cause, State
from dtask.errors import Busy, Conflict, NotFound

# By themselves


def test_a_failed_task_runs_again_as_often_as_it_may(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 2, "backoff_s": 0})
    for _ in range(3):
        jobs.run("1/main", exit_code=1)
        jobs.tick()
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause, row.exit_code) == (State.FAILED, Cause.EXIT, 1)
    assert (row.number, row.failures) == (3, 3)


def test_without_a_retry_the_first_failure_is_the_end(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.run("1/main", exit_code=1)
    assert jobs.state(job) is State.FAILED


def test_pauses_double_up_to_a_bound_with_the_longest_draw(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 6, "backoff_s": 2, "backoff_max_s": 20})
    pauses = []
    for _ in range(6):
        jobs.run("1/main", exit_code=1)
        row = jobs.book.tasks[job, "main", -1]
        assert row.state is State.PENDING
        pauses.append(row.not_before - jobs.now)
        jobs.keep(pauses[-1] - 0.5, "w1")
        assert jobs.state(job) is State.PENDING
        jobs.keep(0.5, "w1")
    assert pauses == [2, 4, 8, 16, 20, 20]
    jobs.given("1/main")


@pytest.mark.parametrize("draw", [0.0, 0.25, 1.0])
def test_a_pause_is_drawn_between_nothing_and_its_bound(jobs: Env, draw: float) -> None:
    jobs.draw = draw
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 6, "backoff_s": 8})
    jobs.run("1/main", exit_code=1)
    row = jobs.book.tasks[job, "main", -1]
    assert row.not_before == jobs.now + 8 * draw
    jobs.keep(8 * draw, "w1")
    jobs.tick()
    jobs.given("1/main")


def test_a_thousand_failures_overflow_nothing() -> None:
    policy = Retry(max=1000, backoff_s=0.001, backoff_max_s=86_400)
    assert retry.pause_s(policy, 1000, lambda: 1.0) == 86_400
    assert retry.pause_s(Retry(max=1000, backoff_s=0), 1000, lambda: 1.0) == 0


def test_only_the_exit_codes_named_are_worth_a_retry(jobs: Env) -> None:
    jobs.attach("w1")
    policy = {"max": 5, "backoff_s": 0, "on_exit": [75, -9]}
    job = jobs.submit(retry=policy, array=3)
    first, second, third = jobs.given(), jobs.given(), jobs.given()
    jobs.ended(first, 75)
    jobs.ended(second, -9)
    jobs.ended(third, 1)
    assert [jobs.state(job, "main", i) for i in range(3)] == ["pending", "pending", "failed"]
    jobs.tick()
    for name in ("1/main[0]", "1/main[1]"):
        jobs.run(name)


@pytest.mark.parametrize("cause", [Cause.TIMEOUT, Cause.START_FAILED, Cause.RESULT_TOO_LARGE])
def test_what_has_no_exit_code_is_retried_unless_exit_codes_are_named(
    jobs: Env, cause: Cause
) -> None:
    jobs.attach("w1")
    any_failure = jobs.submit(retry={"max": 1})
    named = jobs.submit(retry={"max": 1, "on_exit": [1]})
    for _ in range(2):
        jobs.ended(jobs.given(), None, cause, error="so it was")
    assert jobs.state(any_failure) is State.PENDING
    row = jobs.book.tasks[named, "main", -1]
    assert (row.state, row.cause, row.error) == (State.FAILED, cause, "so it was")


def test_a_command_that_is_not_there_fails_with_the_reason(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.ended(jobs.given(), None, Cause.START_FAILED, error="no such file: nonsense")
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause) == (State.FAILED, Cause.START_FAILED)
    assert row.error == "no such file: nonsense"
    moves = [move.state for move in jobs.story if move.task]
    assert State.RUNNING not in moves


def test_a_task_that_ran_too_long_failed_by_timeout(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(timeout_s=60)
    start = jobs.given()
    assert start.spec.timeout_s == 60
    jobs.started(start)
    jobs.ended(start, -15, Cause.TIMEOUT)
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause, row.exit_code) == (State.FAILED, Cause.TIMEOUT, -15)


def test_a_worker_s_own_failure_uses_up_crash_limit_and_no_retry(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(crash_limit=3, retry={"max": 1})
    for pause in (1, 2):
        jobs.ended(jobs.given(), None, Cause.WORKER_FAILED, error="spool full")
        row = jobs.book.tasks[job, "main", -1]
        assert (row.state, row.failures, row.not_before) == (State.PENDING, 0, jobs.now + pause)
        assert "worker_failed" in jobs.why(job)[0].sentence
        jobs.keep(pause, "w1")
    jobs.ended(jobs.given(), None, Cause.WORKER_FAILED, error="spool full")
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause, row.error) == (
        State.FAILED,
        Cause.WORKER_FAILED,
        "spool full",
    )


def test_losses_and_failures_are_counted_apart(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(crash_limit=2, retry={"max": 1, "backoff_s": 0})
    start = jobs.given()
    jobs.started(start)
    jobs.ended(start, None, Cause.LOST)
    jobs.run(exit_code=1)
    jobs.tick()
    row = jobs.book.tasks[job, "main", -1]
    assert (row.failures, row.crashes) == (1, 1)
    jobs.run()
    assert jobs.state(job) is State.SUCCEEDED


def test_a_success_after_a_failure_leaves_no_trace_of_it_in_the_task(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 1, "backoff_s": 0})
    start = jobs.given()
    jobs.ended(start, 1, error="oh")
    jobs.tick()
    jobs.run()
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause, row.error, row.exit_code) == (State.SUCCEEDED, None, None, 0)


# On somebody's word


def test_an_ended_job_needs_its_record_to_be_tried_again(jobs: Env) -> None:
    job = jobs.submit()
    jobs.cancel(job)
    assert jobs.handle(RetryJob(job)) == NeedsRecord(job)
    assert jobs.changes == ()
    assert jobs.retry(job) == 1
    assert not jobs.book.jobs[job,].cancelled


def test_a_retry_starts_over_what_did_not_succeed_and_leaves_the_rest(jobs: Env) -> None:
    jobs.attach("w1")
    tasks = {"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["a"]}, "d": {"needs": ["b", "c"]}}
    job = jobs.submit(tasks)
    jobs.run("1/a")
    jobs.run("1/b", exit_code=1)
    jobs.run("1/c")
    assert jobs.retry(job) == 2
    assert jobs.given("1/b").number == 2
    assert jobs.states(job)["d"] is State.PENDING
    assert jobs.book.jobs[job,].ended_at is None


def test_a_retry_gives_failures_and_losses_anew(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 1, "backoff_s": 0})
    for _ in range(2):
        jobs.run(exit_code=1)
        jobs.tick()
    assert jobs.state(job) is State.FAILED
    assert jobs.retry(job) == 1
    for number in (3, 4):
        assert jobs.run(exit_code=1).number == number
        jobs.tick()
    assert jobs.state(job) is State.FAILED


def test_a_retry_of_what_failed_leaves_what_was_cancelled(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"a": {}, "b": {}})
    jobs.cancel(job, "b")
    jobs.run("1/a", exit_code=1)
    assert jobs.retry(job, again="failed") == 1
    jobs.run("1/a")
    assert jobs.states(job) == {"a": State.SUCCEEDED, "b": State.CANCELLED}
    assert jobs.retry(job) == 1
    jobs.run("1/b")
    assert jobs.state(job) is State.SUCCEEDED


def test_a_retry_of_one_task_takes_those_that_come_after_it_along(jobs: Env) -> None:
    jobs.attach("w1")
    tasks = {"a": {}, "b": {}, "c": {"needs": ["b"]}, "d": {"needs": ["c"]}}
    job = jobs.submit(tasks)
    jobs.run("1/a", exit_code=1)
    jobs.run("1/b", exit_code=1)
    assert jobs.retry(job, "b") == 3
    for name in "bcd":
        jobs.run(f"1/{name}")
    assert jobs.state(job) is State.FAILED
    assert jobs.states(job)["a"] is State.FAILED


def test_a_retry_of_a_live_job_starts_over_what_has_failed_so_far(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit({"a": {}, "long": {}})
    jobs.run("1/a", exit_code=1)
    jobs.started(jobs.given("1/long"))
    assert jobs.retry(job) == 1
    jobs.run("1/a")
    assert jobs.states(job) == {"a": State.SUCCEEDED, "long": State.RUNNING}


def test_what_would_be_skipped_again_is_not_tried_again_but_told_what_it_needs(jobs: Env) -> None:
    jobs.attach("w1")
    tasks = {"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["b"]}}
    job = jobs.submit(tasks)
    jobs.run("1/a", exit_code=1)
    for name in "bc":
        with pytest.raises(
            Conflict, match=f"1/{name} would be skipped again: it needs 1/a, which failed."
        ):
            jobs.retry(job, name)
        assert jobs.changes == ()
    assert jobs.set_queue().pending == 0
    assert jobs.retry(job, "a") == 3
    jobs.given("1/a")


def test_a_retry_leaves_out_what_would_be_skipped_again(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "b": {}, "c": {"needs": ["a", "b"]}, "d": {"needs": ["c"]}})
    jobs.run("1/a", exit_code=1)
    jobs.run("1/b", exit_code=1)
    assert jobs.retry(job, "b") == 1
    jobs.run("1/b")
    assert jobs.state(job) is State.FAILED
    assert jobs.states(job)["c"] is State.SKIPPED
    assert jobs.retry(job) == 3
    jobs.given("1/a")


def test_a_retry_of_what_failed_leaves_what_was_skipped_for_a_cancel(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"a": {}, "b": {}, "c": {"needs": ["b"]}})
    jobs.cancel(job, "b")
    jobs.run("1/a", exit_code=1)
    assert jobs.retry(job, again="failed") == 1
    jobs.run("1/a")
    with pytest.raises(Conflict, match="it needs 1/b, which was cancelled"):
        jobs.retry(job, again="failed")


def test_what_runs_whatever_becomes_of_its_needs_is_tried_again_without_them(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "b": {"needs": ["a"], "when": "all_done"}})
    jobs.run("1/a", exit_code=1)
    jobs.run("1/b", exit_code=1)
    assert jobs.retry(job, "b") == 1
    jobs.run("1/b")


def test_a_retry_of_a_job_that_succeeded_changes_nothing(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.run()
    assert jobs.retry(job) == 0
    assert jobs.changes == ()
    assert jobs.state(job) is State.SUCCEEDED


def test_a_retry_keeps_the_limit_of_its_queue(jobs: Env) -> None:
    jobs.set_queue("q", max_queued=2)
    job = jobs.submit(queue="q", array=2)
    jobs.cancel(job)
    jobs.submit(queue="q")
    with pytest.raises(Busy, match="holds 1 waiting tasks of at most 2, and this would add 2"):
        jobs.retry(job)
    assert jobs.changes == ()
    jobs.set_queue("q", max_queued=3)
    assert jobs.retry(job) == 2


def test_a_retry_of_a_task_that_is_not_there_changes_nothing(jobs: Env) -> None:
    job = jobs.submit()
    jobs.cancel(job)
    with pytest.raises(NotFound, match="has no task 'b'"):
        jobs.retry(job, "b")
    with pytest.raises(NotFound, match="There is no job 9"):
        jobs.retry(9)
    assert jobs.set_queue().pending == 0


def test_a_retry_of_some_elements_runs_those_alone(jobs: Env) -> None:
    jobs.attach("w1", slots=5)
    job = jobs.submit(array=5)
    for index in range(5):
        jobs.run(f"1/main[{index}]", exit_code=index % 2)
    assert jobs.state(job) is State.FAILED
    assert jobs.retry(job) == 2
    jobs.run("1/main[1]")
    jobs.run("1/main[3]")
    assert jobs.state(job) is State.SUCCEEDED


def test_a_retry_by_a_record_from_before_another_retry_asks_for_a_newer_one(jobs: Env) -> None:
    """Two clients read the same record; numbers of attempts must not come twice."""
    jobs.attach("w1")
    job = jobs.submit()
    jobs.run(exit_code=1)
    old = jobs.book.record(job)
    jobs.advance(1)
    jobs.retry(job)
    jobs.run(exit_code=1)
    assert jobs.handle(RetryJob(job, record=old)) == NeedsRecord(job)
    jobs.retry(job)
    assert jobs.given().number == 3


def test_a_job_tried_again_keeps_its_key(jobs: Env) -> None:
    job = jobs.submit(key="k")
    jobs.cancel(job)
    jobs.retry(job)
    assert jobs.handle(a_job(key="k")).known
    jobs.cancel(job)
    assert jobs.handle(a_job(key="k")).known


def test_a_job_tried_again_waits_for_those_that_it_comes_after(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit(after=[first])
    start = jobs.given("1/main")
    jobs.cancel(second)
    jobs.retry(second)
    jobs.quiet()
    assert jobs.state(second) is State.PENDING
    jobs.started(start)
    jobs.ended(start)
    jobs.given("2/main")


def test_a_job_that_has_not_begun_waits_for_an_earlier_one_that_is_tried_again(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    first = jobs.submit()
    jobs.submit({"main": {}}, after=[first], when="all_done", not_before=jobs.now + 5)
    jobs.run("1/main", exit_code=1)
    jobs.retry(first)
    start = jobs.given("1/main")
    jobs.started(start)
    for _ in range(2):
        jobs.keep(5, "w1")
        assert jobs.why(2)[0].code == "after"
        jobs.restart()
        jobs.beat("w1")
        jobs.take("w1", "joined")
        jobs.attach("w1")
    jobs.ended(start, 1)
    jobs.given("2/main")


def test_a_job_that_has_begun_waits_for_no_earlier_one_that_is_tried_again(jobs: Env) -> None:
    """Neither as long as the scheduler remembers it, nor after a restart."""
    jobs.attach("w1", slots=2)
    first = jobs.submit()
    tasks = {"a": {"retry": {"max": 1, "backoff_s": 5}}, "b": {"needs": ["a"]}}
    jobs.submit(tasks, after=[first], when="all_done")
    jobs.run("1/main", exit_code=1)
    jobs.run("2/a", exit_code=1)
    jobs.retry(first)
    start = jobs.given("1/main")
    jobs.started(start)
    jobs.restart()
    jobs.beat("w1")
    jobs.take("w1", "joined")
    jobs.attach("w1")
    jobs.keep(5, "w1")
    jobs.run("2/a")
    jobs.run("2/b")
    assert jobs.state(2) is State.SUCCEEDED


def test_what_came_after_a_failed_job_is_not_taken_along_by_its_retry(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit(after=[first])
    jobs.run("1/main", exit_code=1)
    jobs.retry(first)
    jobs.run("1/main")
    assert jobs.state(second) is State.SKIPPED
    jobs.retry(second)
    jobs.run("2/main")


def test_a_job_is_not_tried_again_before_those_that_it_comes_after(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit(after=[first])
    jobs.run("1/main", exit_code=1)
    for task in (None, "main"):
        with pytest.raises(
            Conflict, match=r"Job 2 would be skipped again: it comes after job 1, which failed\."
        ) as refused:
            jobs.retry(second, task)
        assert (refused.value.code, refused.value.facts["after"]) == ("upstream", first)
        assert jobs.changes == ()
    assert jobs.set_queue().pending == 0
    jobs.retry(first)
    jobs.retry(second)
    jobs.run("1/main")
    jobs.run("2/main")


def test_a_job_that_comes_after_others_anyhow_is_tried_again_without_them(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit({"main": {}}, after=[first], when="all_done")
    jobs.run("1/main", exit_code=1)
    jobs.run("2/main", exit_code=1)
    assert jobs.retry(second) == 1
    jobs.run("2/main")


def test_what_is_being_stopped_stays_so_through_a_retry(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"a": {}, "b": {}})
    start = jobs.given("1/a")
    jobs.started(start)
    jobs.cancel(job)
    jobs.take(StopAttempt)
    assert jobs.retry(job) == 1
    jobs.stopped(start)
    assert jobs.state(job, "a") is State.CANCELLED
    jobs.run("1/b")
    assert jobs.state(job) is State.CANCELLED
