"""The nine promises of the job layer, as far as the core can keep them.

What the core can't see is tested where it happens: disks in `tests/store`, process trees in
`tests/worker`, and all of it together, with processes that are really killed, in `tests/e2e`.
"""

import pytest

from core.env import WARM, Env, a_job
from core.restored import must_restore
from dtask.core.cluster import Settings
from dtask.core.jobs import model
from dtask.core.jobs.events import Ended, JobForgotten, StartAttempt, StopAttempt
from dtask.core.jobs.holding import DISPATCH_MAX
from dtask.core.jobs.states import Cause, State
from dtask.core.placement.events import Drain
from dtask.errors import Busy, InvalidRequest


def come_back(env: Env, *worker_ids: str) -> None:
    """After a restart the workers heartbeat and say hello, with what they hold."""
    for worker_id in worker_ids:
        env.beat(worker_id)
        env.take(worker_id, "joined")
        env.attach(worker_id)


def test_promise_1_an_acknowledged_submit_survives(jobs: Env) -> None:
    """The step that answers carries all rows; whoever has them has the job."""
    body = {"a": {}, "b": {"array": 3, "needs": ["a"], "when": "all_done"}}
    event = a_job(body, key="k", name="n", priority=3)
    assert jobs.handle(event).job_id == 1
    must_restore(jobs)
    jobs.restart()
    assert jobs.handle(event).known
    jobs.attach("w1")
    jobs.run("1/a", exit_code=1)
    for index in range(3):
        jobs.run(f"1/b[{index}]")


def test_promise_2_a_task_whose_worker_is_lost_runs_again(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(crash_limit=2, retry={"max": 0})
    jobs.ended(jobs.given(), None, Cause.RETURNED)  # no free slot there
    jobs.keep(10, "w1")
    jobs.take(StartAttempt)
    jobs.take(StopAttempt)  # a start that never happened
    assert jobs.state(job) is State.PENDING
    jobs.keep(2, "w1")
    start = jobs.given()
    jobs.started(start)
    jobs.handle(Drain("w1", drained=True))
    jobs.take("w1", "draining")
    jobs.ended(start, -15, Cause.RETURNED)  # a drain that could not wait
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.failures, row.crashes) == (State.QUEUED, 0, 0)
    for crashes, state in ((1, State.QUEUED), (2, State.FAILED)):
        jobs.attach(f"v{crashes}")
        jobs.started(jobs.given())
        jobs.beat(f"v{crashes}", leaving=True)  # losses after a reported start
        jobs.take_all()
        row = jobs.book.tasks[job, "main", -1]
        assert (row.state, row.failures, row.crashes) == (state, 0, crashes)
    assert row.cause is Cause.LOST


def test_promise_3_one_result_is_accepted_and_the_other_process_is_stopped(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    old = jobs.given()
    jobs.started(old)
    jobs.advance(20)  # paused past offline
    jobs.take_all()
    jobs.attach("w2", slots=1)
    new = jobs.given()
    jobs.started(new)
    jobs.beat("w1")  # and resumed
    jobs.take("w1", "back")
    assert jobs.report("w1", Ended(old.fence, 0)).refused == (old.fence,)
    assert jobs.attach("w1", held=[(old.fence, True)]).refused == (old.fence,)
    assert jobs.state(job) is State.RUNNING
    jobs.ended(new, 7)
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.exit_code) == (State.FAILED, 7)
    assert jobs.report("w1", Ended(old.fence, 0)).refused == (old.fence,)
    assert jobs.state(job) is State.FAILED


def test_promise_4_a_restart_runs_nothing_again_that_still_runs(jobs: Env) -> None:
    jobs.attach("w1", slots=3)
    job = jobs.submit(array=3)
    running, scheduled, ends_meanwhile = jobs.given(), jobs.given(), jobs.given()
    jobs.started(running)
    jobs.started(ends_meanwhile)
    for _ in range(10):
        jobs.restart()
        jobs.advance(19)
        jobs.quiet()
        come_back(jobs, "w1")
        assert jobs.occupancy("w1") == 3
    jobs.ended(ends_meanwhile)
    jobs.started(scheduled)
    jobs.ended(scheduled)
    jobs.ended(running)
    assert jobs.state(job) is State.SUCCEEDED
    assert {row.number for row in jobs.book.attempts.values()} == {1}


def test_promise_4_after_a_full_offline_period_what_did_not_come_back_is_lost(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given())
    jobs.restart()
    jobs.advance(19.5)
    assert jobs.state(job) is State.RUNNING
    jobs.advance(0.5)
    assert jobs.state(job) is State.QUEUED


def test_promise_4_what_runs_is_adopted_though_all_slots_are_taken_meanwhile(jobs: Env) -> None:
    """It takes a slot beyond the last one, and no second one."""
    jobs.attach("w1", slots=1)
    job = jobs.submit(array=2)
    start = jobs.given()
    jobs.started(start)
    jobs.restart()
    jobs.beat("w1")
    jobs.take("w1", "joined")
    jobs.place("t")
    jobs.attach("w1")
    jobs.attach("w1")
    assert jobs.occupancy("w1") == 2
    jobs.ended(start)
    assert jobs.occupancy("w1") == 1
    jobs.quiet()
    jobs.release("t")
    jobs.tick()
    jobs.given("1/main[1]")
    assert jobs.state(job, "main", 0) is State.SUCCEEDED


def test_promise_5_an_end_that_was_not_committed_is_told_again(jobs: Env) -> None:
    """The worker keeps it until it was heard, and it is heard when the step is durable."""
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given()
    jobs.started(start)
    committed = (dict(jobs.book.jobs), dict(jobs.book.tasks), dict(jobs.book.attempts))
    jobs.ended(start)
    jobs.book.jobs, jobs.book.tasks, jobs.book.attempts = committed
    jobs.held["w1"][start.fence] = True
    jobs.restart(suspended=True)
    jobs.take_all()
    attached = jobs.attach("w1")
    assert [kept.fence for kept in attached.kept] == [start.fence]
    jobs.ended(start)
    assert jobs.state(job) is State.SUCCEEDED
    assert jobs.occupancy("w1") == 0


def test_promise_5_what_is_missing_of_a_log_is_marked(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=2)
    whole, lost = jobs.given(), jobs.given()
    jobs.started(lost)
    jobs.ended(whole, 0, started_at=jobs.now, stdout_bytes=7, result_bytes=3)
    jobs.beat("w1", leaving=True)
    jobs.take("w1", "left")
    jobs.take_all()
    rows = {row.idx: row for row in jobs.book.attempts.values()}
    assert (rows[0].log_lost, rows[0].stdout_bytes, rows[0].result_bytes) == (False, 7, 3)
    assert rows[1].log_lost
    assert jobs.state(job, "main", 1) is State.QUEUED


def test_promise_6_a_task_that_fits_nowhere_blocks_none_that_fits(jobs: Env) -> None:
    jobs.attach("w1", "gpu", slots=1)
    jobs.submit(priority=9, tags="tpu")
    jobs.submit(priority=9, tags="gpu,cuda>=99", array=1_000_000)
    for _ in range(20):
        job = jobs.submit(tags="gpu")
        jobs.run(f"{job}/main")


def test_promise_7_what_was_stopped_is_cancelled_once_that_is_sure(jobs: Env) -> None:
    jobs.attach("w1", slots=3)
    job = jobs.submit(array=3, grace_s=4)
    confirmed, away, succeeds = (jobs.given() for _ in range(3))
    for start in (confirmed, away, succeeds):
        jobs.started(start)
    jobs.ended(succeeds)
    jobs.cancel(job)
    stops = [jobs.take(StopAttempt) for _ in range(2)]
    assert [(stop.fence, stop.grace_s) for stop in stops] == [
        (confirmed.fence, 4),
        (away.fence, 4),
    ]
    assert jobs.state(job) is State.RUNNING
    jobs.stopped(confirmed)
    assert jobs.state(job, "main", 0) is State.CANCELLED
    jobs.beat("w1", leaving=True)
    jobs.take_all()
    assert jobs.state(job, "main", 1) is State.CANCELLED
    assert jobs.state(job, "main", 2) is State.SUCCEEDED
    assert jobs.state(job) is State.CANCELLED


def test_promise_8_nothing_grows_without_bound() -> None:
    env = Env(Settings(WARM.health, 0.0, keep_jobs=3), with_jobs=True)
    with pytest.raises(InvalidRequest, match=f"at most {model.ELEMENTS_MAX}"):
        env.submit({"a": {"array": model.ELEMENTS_MAX}, "b": {}})
    env.set_queue(max_queued=2)
    with pytest.raises(Busy, match="takes at most 2 waiting tasks"):
        env.submit(array=3)
    for _ in range(10):
        env.cancel(env.submit(key=f"k{len(env.book.jobs)}-{env.now}"))
        env.advance(1)
    assert [type(effect) for effect in env.take_all()] == [JobForgotten] * 7
    assert len(env.book.jobs) == len(env.book.tasks) == 3
    memory = env.cluster._jobs
    assert memory is not None
    assert len(memory._register.past) == len(memory._register.keys) == 3
    env.set_queue(max_queued=0)
    env.attach("w1", slots=10_000)
    env.submit(array=10_000)
    assert len(env.take_all()) == DISPATCH_MAX
    env.cluster.handle(Drain("w1", drained=True), env.now)


def test_promise_9_every_waiting_task_can_say_why(jobs: Env) -> None:
    jobs.attach("w1", "gpu", slots=2)
    jobs.set_queue("paused", paused=True)
    jobs.set_queue("narrow", max_running=1)
    retry = {"max": 1, "backoff_s": 60}
    runs = jobs.submit({"fails": {"retry": retry}, "runs": {}, "needs": {"needs": ["runs"]}})
    jobs.run("1/fails", exit_code=1)
    jobs.started(jobs.given("1/runs"))
    narrow = jobs.submit(array=2, queue="narrow")
    jobs.given("2/main[0]")
    after = jobs.submit(after=[runs])
    later = jobs.submit(not_before=jobs.now + 60)
    paused = jobs.submit(queue="paused")
    full = jobs.submit(tags="gpu")
    nowhere = jobs.submit(tags="tpu", priority=9)
    told = {
        (reason.name, reason.code)
        for job in (runs, narrow, after, later, paused, full, nowhere)
        for reason in jobs.why(job)
    }
    assert told == {
        ("1/fails", "backoff"),
        ("1/runs", "running"),
        ("1/needs", "needs"),
        ("2/main", "queue_limit"),
        ("2/main[0]", "starting"),
        ("3/main", "after"),
        ("4/main", "not_before"),
        ("5/main", "paused"),
        ("6/main", "full"),
        ("7/main", "no_worker"),
    }
    waiting = {
        (row.job_id, row.task)
        for row in jobs.book.tasks.values()
        if row.state in (State.PENDING, State.QUEUED) and row.idx < 0
    }
    assert all(any(name.startswith(f"{job}/{task}") for name, _ in told) for job, task in waiting)
