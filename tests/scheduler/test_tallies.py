"""What is counted, on a core that is told what happens; `test_metrics` asks a whole scheduler."""

import pytest

from core.env import Env
from dtask.core.jobs.states import Cause, State
from dtask.histogram import Histogram
from dtask.scheduler.tallies import Tallies


@pytest.fixture
def jobs() -> Env:
    return Env(with_jobs=True)


def tallied(jobs: Env) -> Tallies:
    """What has happened so far, counted."""
    tallies = Tallies()
    for moved in jobs.story:
        tallies.perform(moved)
    return tallies


def test_a_value_counts_up_to_its_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.counts == [2, 1, 1]
    assert histogram.total == 12.0


def test_starts_count_with_what_the_task_waited(jobs: Env) -> None:
    jobs.submit()
    jobs.advance(7)
    jobs.attach()
    start = jobs.given()
    assert tallied(jobs).starts == 0
    jobs.started(start)
    jobs.ended(start)
    counted = tallied(jobs)
    assert (counted.starts, counted.ends, counted.dispatch.total) == (1, 1, 7.0)
    assert counted.ended[State.SUCCEEDED] == 1


def test_each_element_of_an_array_that_ends_as_a_whole_counts(jobs: Env) -> None:
    jobs.submit({"first": {}, "many": {"array": 5, "needs": ["first"]}})
    jobs.attach()
    jobs.run("1/first", exit_code=1)
    assert tallied(jobs).ended == {
        State.SUCCEEDED: 0,
        State.FAILED: 1,
        State.CANCELLED: 0,
        State.SKIPPED: 5,
    }


def test_a_failure_that_is_retried_counts_as_that(jobs: Env) -> None:
    jobs.submit(retry={"max": 1})
    jobs.attach()
    jobs.run(exit_code=1)
    counted = tallied(jobs)
    assert (counted.retried, counted.requeued, counted.lost) == (1, 0, 0)
    assert counted.ends == 1
    assert not any(counted.ended.values())


def test_a_lost_attempt_counts_as_lost_and_as_requeued(jobs: Env) -> None:
    jobs.submit()
    jobs.attach()
    jobs.started(jobs.given())
    jobs.attach(held=())
    jobs.take_all()
    counted = tallied(jobs)
    assert (counted.retried, counted.requeued, counted.lost) == (0, 1, 1)
    assert counted.ends == 1


def test_the_last_loss_that_a_task_may_have_counts_too(jobs: Env) -> None:
    jobs.submit(crash_limit=1)
    jobs.attach()
    jobs.started(jobs.given())
    jobs.attach(held=())
    jobs.take_all()
    counted = tallied(jobs)
    assert (counted.requeued, counted.lost, counted.ended[State.FAILED]) == (0, 1, 1)


def test_what_is_returned_unstarted_is_no_retry(jobs: Env) -> None:
    jobs.submit(retry={"max": 3, "backoff_s": 1})
    jobs.attach()
    jobs.run(exit_code=1)
    jobs.keep(6, "w1")
    for _ in range(2):  # the second time it backs off
        jobs.ended(jobs.given(), None, Cause.RETURNED)
    counted = tallied(jobs)
    assert (counted.retried, counted.requeued) == (1, 2)
    last = jobs.story[-1]
    assert (last.state, last.cause, last.error) == (State.PENDING, Cause.RETURNED, None)


def test_what_a_client_cancels_was_neither_lost_nor_retried(jobs: Env) -> None:
    jobs.submit()
    jobs.attach()
    start = jobs.given()
    jobs.started(start)
    jobs.cancel(1)
    jobs.stopped(start)
    counted = tallied(jobs)
    assert (counted.ends, counted.ended[State.CANCELLED]) == (1, 1)
    assert (counted.retried, counted.requeued, counted.lost) == (0, 0, 0)


def test_latencies_are_put_aside_until_they_are_taken_in() -> None:
    tallies = Tallies()
    tallies.latencies += [0.00007, 0.3]
    assert sum(tallies.latency.counts) == 0
    tallies.fold()
    tallies.fold()
    assert sum(tallies.latency.counts) == 2
    assert tallies.latency.total == pytest.approx(0.30007)
    assert tallies.latencies == []
