"""Arrays: a million elements are not a million objects."""

from core.env import START, Env
from dtask.core.jobs import model
from dtask.core.jobs.job import Task
from dtask.core.jobs.states import Cause, State


def task_of(env: Env, job_id: int, name: str = "main") -> Task:
    """The task as it stands in memory."""
    jobs = env.cluster._jobs
    assert jobs is not None
    return jobs._register.jobs[job_id].tasks[name]


def test_only_touched_elements_are_objects(jobs: Env) -> None:
    jobs.attach("w1", slots=3)
    job = jobs.submit(array=model.ELEMENTS_MAX)
    starts = [jobs.given() for _ in range(3)]
    assert list(task_of(jobs, job).elements) == [0, 1, 2]
    for start in starts:
        jobs.started(start)
    jobs.ended(starts[0])
    jobs.ended(starts[1], 1)
    jobs.take_all()
    # Of those that succeeded nothing is kept but their state; the failed one may be tried again.
    assert list(task_of(jobs, job).elements) == [1, 2, 3, 4]
    assert len(jobs.book.tasks) == 6
    assert {row.queued_at for row in jobs.book.tasks.values()} == {START}


def test_elements_are_given_out_by_their_index(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    jobs.submit(array=4)
    first, _ = jobs.given("1/main[0]"), jobs.given("1/main[1]")
    jobs.started(first)
    jobs.ended(first)
    jobs.given("1/main[2]")


def test_an_element_that_waits_again_comes_before_those_of_a_higher_index(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit(array=100, retry={"max": 1, "backoff_s": 1})
    jobs.run("1/main[0]")
    jobs.run("1/main[1]", exit_code=1)
    jobs.run("1/main[2]")
    jobs.keep(1, "w1")
    jobs.run("1/main[3]")
    jobs.run("1/main[1]")
    jobs.run("1/main[4]")
    jobs.given("1/main[5]")


def test_an_element_knows_its_index_and_its_item(jobs: Env) -> None:
    jobs.attach("w1", slots=3)
    jobs.submit(command=["echo", "{}", "x{}y"], array=["b", "a b"])
    for index, item in ((0, "b"), (1, "a b")):
        start = jobs.given()
        assert model.command(start.spec, start.index) == ("echo", item, f"x{item}y")
        assert model.element_env(start.spec, start.index) == {
            "DTASK_INDEX": str(index),
            "DTASK_ITEM": item,
        }
    assert model.element_env(model.TaskSpec(("true",)), None) == {}
    jobs.submit(command=["echo", "{}"], array=1)
    start = jobs.given()
    assert model.command(start.spec, start.index) == ("echo", "0")
    plain = model.TaskSpec(("echo", "{}"))
    assert model.command(plain, None) == ("echo", "{}")


def test_an_array_shows_its_summary_and_counts(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=4)
    first, second = jobs.given(), jobs.given()
    jobs.started(first)
    whole = jobs.book.tasks[job, "main", -1]
    assert (whole.state, whole.rest) == (State.RUNNING, State.QUEUED)
    assert whole.counts == '{"queued":2,"scheduled":1,"running":1}'
    jobs.ended(first, 1)
    jobs.ended(second)
    jobs.run()
    jobs.run()
    whole = jobs.book.tasks[job, "main", -1]
    assert (whole.state, whole.rest) == (State.FAILED, None)
    assert whole.counts == '{"succeeded":3,"failed":1}'


def test_an_array_that_waits_too_long_fails_but_for_what_was_given_out(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(array=10, max_queue_s=5)
    start = jobs.given()
    jobs.started(start)
    jobs.keep(5, "w1")
    assert jobs.state(job, "main", 9) is State.FAILED
    whole = jobs.book.tasks[job, "main", -1]
    assert (whole.rest, whole.cause) == (State.FAILED, Cause.QUEUE_TIMEOUT)
    jobs.ended(start)
    assert jobs.state(job, "main", 0) is State.SUCCEEDED
    assert jobs.state(job) is State.FAILED


def test_a_retried_array_goes_on_where_it_was_cut_off(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(array=1000, max_queue_s=5)
    start = jobs.given("1/main[0]")
    jobs.started(start)
    jobs.keep(5, "w1")
    jobs.ended(start)
    assert jobs.retry(job) == 999
    assert len(jobs.changes) < 6
    jobs.given("1/main[1]")


def test_an_element_that_was_cancelled_does_not_hide_the_others(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(array=2, retry={"max": 1, "backoff_s": 100})
    jobs.run("1/main[0]", exit_code=1)
    jobs.run("1/main[1]")
    assert jobs.state(job) is State.PENDING
    jobs.cancel(job)
    assert jobs.state(job, "main", 0) is State.CANCELLED
    assert jobs.state(job, "main", 1) is State.SUCCEEDED
    assert jobs.state(job) is State.CANCELLED
