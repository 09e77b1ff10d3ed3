"""Every waiting task can say why, in words."""

import pytest

from core.env import START, Env
from dtask.core.jobs.states import State
from dtask.errors import Conflict, NotFound


def only(
    env: Env, job_id: int, task: str | None = None, index: int | None = None
) -> tuple[str, str]:
    (reason,) = env.why(job_id, task, index)
    return reason.code, reason.sentence


def test_without_any_worker_it_says_how_to_start_one(jobs: Env) -> None:
    assert only(jobs, jobs.submit()) == (
        "no_worker",
        "No worker is known: start one with `dtask-worker`.",
    )


def test_what_each_worker_lacks_is_counted_by_the_first_reason(jobs: Env) -> None:
    jobs.worker("late", incarnation="i", trusted=True)
    jobs.advance(20)
    jobs.take("late", "suspect", "offline")
    jobs.worker("drains", draining=True)
    jobs.take("drains", "draining")
    jobs.worker("stranger")
    jobs.worker("mute", "gpu", incarnation="i", trusted=True)
    jobs.attach("w1", "cpu")
    job = jobs.submit(tags="gpu,ssd")
    code, sentence = only(jobs, job)
    assert code == "no_worker"
    assert sentence.startswith(
        "No worker can take it (gpu, ssd). Of 5 workers, 1 is offline, 1 is draining, "
        "1 heartbeats without the token, 1 lacks gpu, 1 lacks ssd."
    )


def test_a_misspelt_tag_is_told_with_what_comes_near(jobs: Env) -> None:
    jobs.attach("w1", "cuda-12.4,gpu")
    assert "No worker has gpv: did you mean gpu?" in only(jobs, jobs.submit(tags="gpv"))[1]


def test_full_workers_that_fit_are_told_of(jobs: Env) -> None:
    jobs.attach("w1", "gpu", slots=1)
    jobs.submit()
    jobs.given()
    code, sentence = only(jobs, jobs.submit(tags="gpu"))
    assert (code, sentence) == ("full", "The worker that fits is full: it waits for a free slot.")


def test_workers_without_a_channel_are_told_of(jobs: Env) -> None:
    jobs.worker("w1", incarnation="i", trusted=True)
    code, sentence = only(jobs, jobs.submit())
    assert code == "no_worker"
    assert sentence == "No worker can take it. Of 1 worker, 1 has no open channel."


def test_needs_that_have_not_ended_are_named_with_their_states(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "b": {}, "c": {"needs": ["a", "b"]}})
    a, b = jobs.given(), jobs.given()
    jobs.started(a)
    assert only(jobs, job, "c") == (
        "needs",
        "It needs tasks that have not ended: a (running), b (scheduled).",
    )
    jobs.started(b)
    jobs.ended(b)
    assert only(jobs, job, "c")[1] == "It needs tasks that have not ended: a (running)."


def test_jobs_that_come_first_are_named(jobs: Env) -> None:
    first = jobs.submit()
    assert only(jobs, jobs.submit(after=[first])) == (
        "after",
        "It comes after job 1, which has not ended.",
    )


def test_a_time_that_has_not_come_is_told_as_people_say_it(jobs: Env) -> None:
    job = jobs.submit(not_before=START + 7200)
    (reason,) = jobs.why(job)
    assert reason.sentence == "It is not to start before a time that is 2 h ahead."
    assert (reason.code, reason.until) == ("not_before", START + 7200)


def test_a_backoff_tells_what_came_before_and_when_it_ends(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 1, "backoff_s": 90})
    jobs.run(exit_code=1)
    (reason,) = jobs.why(job)
    assert (reason.code, reason.state, reason.until) == ("backoff", State.PENDING, START + 90)
    assert reason.sentence == "Attempt 1 came to nothing (exit); the next one comes in 90 s."


def test_what_a_worker_holds_says_on_which_one(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given()
    assert only(jobs, job) == ("starting", "Worker w1 was given it and has not started it yet.")
    jobs.started(start)
    assert only(jobs, job) == ("running", "It runs on worker w1.")
    jobs.detach("w1")
    assert only(jobs, job)[1] == "It runs on worker w1. Its channel is gone for the moment."
    jobs.cancel(job)
    assert only(jobs, job) == (
        "stopping",
        "Worker w1 is stopping it. Its channel is gone for the moment.",
    )


def test_a_paused_queue_and_a_full_one_are_the_reason_before_any_worker(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.set_queue(max_running=1)
    job = jobs.submit(array=2)
    jobs.given()
    assert only(jobs, job, "main", 1) == (
        "queue_limit",
        "The queue default runs 1 at a time, which is its limit.",
    )
    jobs.set_queue(paused=True)
    assert only(jobs, job, "main", 1) == ("paused", "The queue default is paused.")


def test_the_rest_of_an_array_is_one_reason_with_its_count(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=1_000_000)
    jobs.given()
    jobs.given()
    rest, first, second = jobs.why(job)
    assert (rest.name, rest.count, rest.code) == ("1/main", 999_998, "full")
    assert (first.name, second.name) == ("1/main[0]", "1/main[1]")


def test_of_many_elements_some_are_named_and_the_others_counted(jobs: Env) -> None:
    jobs.attach("w1", slots=50)
    job = jobs.submit(array=50)
    reasons = jobs.why(job)
    assert len(reasons) == 21
    assert (reasons[-1].code, reasons[-1].count) == ("more", 30)
    assert only(jobs, job, "main", 49)[0] == "starting"
    jobs.take_all()


def test_one_element_can_be_asked_for(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(array=3)
    jobs.given()
    assert [reason.name for reason in jobs.why(job, "main", 0)] == ["1/main[0]"]
    (reason,) = jobs.why(job, "main", 2)
    assert (reason.name, reason.code, reason.count) == ("1/main[2]", "full", 1)


@pytest.mark.parametrize(("task", "index"), [("main", 3), ("main", 10**9), ("plain", 0)])
def test_an_element_that_is_not_there_is_not_found(jobs: Env, task: str, index: int) -> None:
    job = jobs.submit({"main": {"array": 3}, "plain": {}})
    with pytest.raises(NotFound) as refused:
        jobs.why(job, task, index)
    assert refused.value.code == "no_task"


def test_what_has_ended_waits_for_nothing(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({"a": {}, "b": {"array": 2}})
    jobs.run("1/a", exit_code=1)
    jobs.run("1/b[0]")
    assert jobs.why(job, "a") == jobs.why(job, "b", 0) == ()
    jobs.run("1/b[1]")
    with pytest.raises(Conflict) as refused:
        jobs.why(job)
    assert refused.value.code == "job_ended"
    with pytest.raises(NotFound):
        jobs.why(9)


def test_a_job_of_many_equal_tasks_asks_for_each_demand_once(jobs: Env) -> None:
    jobs.attach("w1", "cpu")
    asked = []
    seating = jobs.cluster._seating
    explain = seating.explain
    seating.explain = lambda tags: asked.append(tags) or explain(tags)  # type: ignore[method-assign]
    job = jobs.submit({f"t{n}": {"tags": "gpu" if n % 2 else "tpu"} for n in range(100)})
    assert len(jobs.why(job)) == 100
    assert sorted(asked) == [("gpu",), ("tpu",)]
