"""What is kept of jobs that ended, for how long, and that nothing else of them is."""

from typing import Any

from core.env import WARM, Env, a_job
from dtask.core.cluster import Settings
from dtask.core.jobs.events import Cancel, CountJobs, Ended, JobForgotten, Look, Reports
from dtask.core.jobs.flow import KEEP_JOBS, KEEP_S
from dtask.core.jobs.rows import JobRow
from dtask.core.jobs.states import State
from dtask.core.jobs.timers import TIDY_MIN


def keeping(keep_s: float = KEEP_S, keep_jobs: int = KEEP_JOBS) -> Env:
    settings = Settings(WARM.health, WARM.warm_up_s, keep_s, keep_jobs)
    return Env(settings, with_jobs=True)


def end(env: Env, count: int, **fields: object) -> list[int]:
    """So many jobs that have ended."""
    ended = []
    for _ in range(count):
        ended.append(env.submit(**fields))
        env.cancel(ended[-1])
    return ended


def forgotten(env: Env) -> list[int]:
    return [env.take(JobForgotten).job_id for _ in range(len(env._effects))]


def test_ended_jobs_are_forgotten_when_they_are_old_enough() -> None:
    env = keeping(keep_s=60)
    end(env, 2)
    env.advance(30)
    end(env, 1)
    env.advance(29)
    assert forgotten(env) == []
    env.advance(11)
    assert forgotten(env) == [1, 2]
    env.advance(30)
    assert forgotten(env) == [3]
    assert env.book.jobs == env.book.tasks == {}
    assert env.submit() == 4


def test_many_that_grow_old_at_once_are_forgotten_in_slices_without_pause() -> None:
    env = keeping(keep_s=60)
    end(env, 1000)
    env.advance(58)
    for n in range(40):
        env.advance(0.5)
        assert len(env.changes) <= 100, n
    assert len(forgotten(env)) == 1000


def test_no_more_are_kept_than_so_many_the_oldest_go_first() -> None:
    env = keeping(keep_jobs=3)
    end(env, 5)
    assert forgotten(env) == [1, 2]
    assert sorted(env.book.jobs) == [(3,), (4,), (5,)]


def test_jobs_that_end_and_are_forgotten_in_one_step_leave_no_row() -> None:
    env = keeping(keep_jobs=1)
    first = env.submit()
    for _ in range(4):
        env.submit(after=[first])
    env.cancel(first)
    assert forgotten(env) == [1, 2, 3, 4]
    assert sorted(env.book.jobs) == [(5,)]
    assert {key[0] for key in env.book.tasks} == {5}


def test_too_many_in_the_store_at_the_start_are_forgotten_bit_by_bit() -> None:
    env = keeping()
    end(env, 500)
    env._settings = Settings(keep_jobs=10)
    env.restart()
    env.advance(12)
    assert forgotten(env) == list(range(1, 491))
    assert len(env.book.jobs) == 10


def test_a_forgotten_job_frees_its_key() -> None:
    env = keeping(keep_jobs=1)
    assert env.submit(key="k") == 1
    env.cancel(1)
    end(env, 1)
    assert forgotten(env) == [1]
    assert env.submit(key="k") == 3
    assert env.handle(a_job(key="k")).job_id == 3


def test_a_job_tried_again_is_kept_from_its_last_end() -> None:
    env = keeping(keep_jobs=2)
    end(env, 2)
    env.retry(1)
    env.cancel(1)
    end(env, 1)
    assert forgotten(env) == [2]
    assert env.handle(Look(1)) is State.CANCELLED


def test_nothing_of_ended_jobs_stays_behind_but_what_is_kept_in_brief() -> None:
    """Neither timers of days, nor lines of what fits nowhere, nor marks at jobs to come after."""
    env = keeping()
    env.attach("w1", slots=1)
    waiting = env.submit(tags="npu", priority=9)
    day = 86_400.0
    retry = {"max": 1, "backoff_s": day, "backoff_max_s": day}
    slow = {"max_queue_s": day, "start_timeout_s": day, "retry": retry}
    tasks = {"ran": slow, "never": {**slow, "tags": "npu", "array": 3}}
    for n in range(TIDY_MIN + 100):
        job_id = step(env, a_job(tasks, after=[waiting] if n % 2 else [])).job_id
        if not n % 2:
            start = env.given()
            step(env, Reports("w1", "w1-1", (Ended(start.fence, 1),)))
        step(env, Cancel(job_id))
    env.advance(20)
    jobs = env.cluster._jobs
    assert jobs is not None
    assert list(jobs._register.jobs) == [waiting]
    assert jobs._register.heirs == jobs._register.attempts == {}
    assert len(jobs._flow.wall) + len(jobs._flow.core) <= 2 * TIDY_MIN
    lines = [line for queue in jobs._lines.queues.values() for line in queue.lines.values()]
    assert sum(len(line) for line in lines) < 100


def step(env: Env, event: Any) -> Any:
    """One event, without the checks that take long when there is much."""
    done = env.cluster.handle(event, env.now)
    env._note(done)
    return done.answer


def test_counts_tell_of_now_and_of_all_since_the_start(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=3)
    jobs.run()
    jobs.run(exit_code=1)
    jobs.run()
    jobs.submit({"a": {}, "b": {"needs": ["a"]}})
    start = jobs.given()
    stats = jobs.handle(CountJobs())
    assert (stats.jobs, stats.past, stats.attached) == (1, 1, 1)
    assert {state: n for state, n in stats.tasks.items() if n} == {"scheduled": 1, "pending": 1}
    assert stats.ended == {"succeeded": 2, "failed": 1, "cancelled": 0, "skipped": 0}
    assert (stats.submitted, stats.dispatched, stats.requeued, stats.refused) == (2, 4, 0, 0)
    jobs.started(start)
    jobs.ended(start)
    jobs.ended(start)
    jobs.run()
    assert jobs.handle(CountJobs()).refused == 1


def test_the_row_of_a_huge_job_is_not_written_with_each_of_its_attempts(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    items = ["x" * 20] * 2_000
    job = jobs.submit({"main": {"array": items}})
    written = [row.state for row in jobs.changes if isinstance(row, JobRow)]
    for _ in range(20):
        start = jobs.given()
        for report in (jobs.started, jobs.ended):
            report(start)
            written += [row.state for row in jobs.changes if isinstance(row, JobRow)]
    assert written == [State.SCHEDULED, State.RUNNING]
    assert jobs.cluster.handle(Look(job), jobs.now).answer is State.SCHEDULED
    jobs.given()
