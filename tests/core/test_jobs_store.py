"""A store that fails, and is read again: the job half is forgotten, placement goes on."""

import pytest

from core.env import Env
from core.restored import must_restore
from dtask.core.jobs.events import CloseChannel, Look, StopAttempt
from dtask.core.jobs.states import State
from dtask.errors import Unavailable


def suspend(env: Env) -> None:
    env._note(env.cluster.suspend(env.now))
    env.cluster.check()


def restore(env: Env) -> None:
    env._note(env.cluster.restore(env.book.snapshot(), env.now))
    env.cluster.check()


def test_while_the_store_fails_channels_are_closed_and_placement_goes_on(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit()
    jobs.started(jobs.given())
    jobs.refuse("t")
    suspend(jobs)
    assert jobs.take(CloseChannel).worker_id == "w1"
    with pytest.raises(Unavailable):
        jobs.handle(Look(1))
    with pytest.raises(Unavailable):
        jobs.attach("w1")
    jobs.keep(5, "w1")
    assert jobs.place("t").worker_id == "w1", "the worker counts what it holds, and says so"


def test_what_was_never_committed_never_was(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit()
    before = dict(jobs.book.jobs), dict(jobs.book.tasks), dict(jobs.book.attempts)
    jobs.submit(key="k")
    jobs.cancel(1)
    jobs.take_all()
    jobs.book.jobs, jobs.book.tasks, jobs.book.attempts = before
    jobs.book.last_job_id = 1
    suspend(jobs)
    jobs.take(CloseChannel)
    restore(jobs)
    assert jobs.handle(Look(1)) is State.SCHEDULED
    assert jobs.submit(key="k") == 2


def test_what_workers_hold_is_adopted_when_they_say_hello_again(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=2)
    starts = [jobs.given(), jobs.given()]
    jobs.started(starts[0])
    for _ in range(3):
        suspend(jobs)
        jobs.take(CloseChannel)
        jobs.keep(3, "w1")
        restore(jobs)
        must_restore(jobs)
        jobs.attach("w1")
        assert jobs.occupancy("w1") == 2
    for start in starts:
        jobs.ended(start)
    assert jobs.state(job) is State.SUCCEEDED
    assert jobs.occupancy("w1") == 0


def test_an_attempt_given_out_and_never_committed_is_stopped_at_hello(jobs: Env) -> None:
    """Its start may have been sent before the commit failed, but then nobody waits for it."""
    jobs.attach("w1")
    before = dict(jobs.book.jobs), dict(jobs.book.tasks), dict(jobs.book.attempts)
    jobs.submit()
    start = jobs.given()
    jobs.book.jobs, jobs.book.tasks, jobs.book.attempts = before
    suspend(jobs)
    jobs.take(CloseChannel)
    restore(jobs)
    assert jobs.attach("w1").refused == (start.fence,)
    jobs.submit()
    assert jobs.given().fence > start.fence


@pytest.mark.parametrize("away", [False, True])
def test_a_stop_under_way_is_taken_up_again(jobs: Env, away: bool) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given()
    jobs.started(start)
    jobs.cancel(job)
    jobs.take(StopAttempt)
    suspend(jobs)
    jobs.take(CloseChannel)
    restore(jobs)
    if away:
        jobs.keep(20, "w1")
    else:
        jobs.attach("w1")
        assert jobs.take(StopAttempt).fence == start.fence
        jobs.stopped(start)
    assert jobs.state(job) is State.CANCELLED
