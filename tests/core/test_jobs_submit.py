"""Submits: what is accepted, what is refused, and what a repeated one means."""

import pytest

from core.env import Env, a_job
from dtask.core.jobs.events import Look, Submitted
from dtask.core.jobs.states import State
from dtask.errors import Busy, Conflict, InvalidRequest, NotFound, Unavailable


def test_ids_of_jobs_are_small_and_grow(jobs: Env) -> None:
    assert [jobs.submit() for _ in range(3)] == [1, 2, 3]
    jobs.restart()
    assert jobs.submit() == 4


def test_a_submit_writes_the_job_and_its_tasks_and_no_elements(jobs: Env) -> None:
    job = jobs.submit({"a": {}, "b": {"array": 1000, "needs": ["a"]}}, name="render", key="k")
    row = jobs.book.jobs[job,]
    assert (row.name, row.key, row.state, row.submitted_at) == ("render", "k", "queued", jobs.now)
    assert len(jobs.changes) == 3
    whole = jobs.book.tasks[job, "b", -1]
    assert (whole.state, whole.rest, whole.counts) == ("pending", "pending", '{"pending":1000}')


def test_submit_and_first_dispatch_are_one_step(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.given("1/main")
    assert jobs.state(job) is State.SCHEDULED
    assert [type(change).__name__ for change in jobs.changes] == ["AttemptRow", "TaskRow", "JobRow"]


def test_the_same_key_and_body_again_is_the_same_job(jobs: Env) -> None:
    event = a_job(key="k")
    assert jobs.handle(event) == Submitted(1)
    assert jobs.handle(event) == Submitted(1, known=True)
    assert jobs.changes == ()
    jobs.cancel(1)
    assert jobs.handle(event) == Submitted(1, known=True)
    jobs.restart()
    assert jobs.handle(event) == Submitted(1, known=True)


def test_the_same_key_with_another_body_is_refused(jobs: Env) -> None:
    jobs.submit(key="k")
    with pytest.raises(Conflict, match="job 1 was submitted with this key") as refused:
        jobs.submit(key="k", array=2)
    assert refused.value.code == "key_taken"
    assert refused.value.facts["job_id"] == 1
    assert jobs.submit(array=2) == 2


def test_without_a_key_the_same_body_is_another_job(jobs: Env) -> None:
    assert (jobs.submit(), jobs.submit()) == (1, 2)


def test_an_unknown_queue_is_refused_and_known_ones_are_named(jobs: Env) -> None:
    jobs.set_queue("nightly")
    with pytest.raises(NotFound, match="expected one of default, nightly") as refused:
        jobs.submit(queue="nighty")
    assert refused.value.code == "unknown_queue"


def test_a_queue_takes_no_more_than_its_max_queued(jobs: Env) -> None:
    jobs.set_queue(max_queued=5)
    jobs.submit(array=3)
    with pytest.raises(Busy, match="at most 5 waiting tasks, and this has 6: it will never fit"):
        jobs.submit(array=6)
    with pytest.raises(Busy, match="holds 3 waiting tasks of at most 5, and this would add 3"):
        jobs.submit(array=3)
    job = jobs.submit(array=2)
    jobs.cancel(job)
    jobs.submit({"a": {}, "b": {"needs": ["a"]}})


def test_what_workers_hold_does_not_count_as_queued(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    jobs.set_queue(max_queued=2)
    jobs.submit(array=2)
    jobs.given()
    jobs.given()
    jobs.submit(array=2)
    with pytest.raises(Busy):
        jobs.submit()


def test_a_refused_submit_changes_nothing(jobs: Env) -> None:
    before = jobs.set_queue(max_queued=3)
    for wrong in (
        a_job(array=4),
        a_job(queue="unknown"),
        a_job(after=[1]),
        a_job(tags="a|"),
        a_job({"a": {"needs": ["b"]}, "b": {"needs": ["a"]}}),
    ):
        with pytest.raises((Busy, NotFound, InvalidRequest)):
            jobs.handle(wrong)
    assert jobs.set_queue() == before
    assert jobs.submit() == 1


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"tags": "cuda>=x"}, r"tasks\.main\.tags\[0\]"),
        ({"env": {"DTASK_JOB": "1"}}, "dtask's own"),
        ({"env": {"A=B": "1"}}, "can't be a variable"),
        ({"env": {"A": "\0"}}, "can't be a variable"),
        ({"command": ["a\0b"]}, "NUL"),
        ({"command": ["", "a"]}, "first word is the program"),
        ({"files": {"../x": "sha256:" + "0" * 64}}, r"relative one such as"),
        ({"files": {"/x": "sha256:" + "0" * 64}}, r"relative one such as"),
    ],
)
def test_what_can_not_be_run_is_refused_with_its_field(
    jobs: Env, task: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        jobs.submit({"main": task})
    assert refused.value.facts["field"].startswith("tasks.main.")


def test_names_of_tasks_and_queues_are_checked(jobs: Env) -> None:
    with pytest.raises(InvalidRequest, match="is no name"):
        jobs.submit({"a b": {}})
    with pytest.raises(InvalidRequest, match="is no name"):
        jobs.submit({"": {}})
    with pytest.raises(InvalidRequest, match="is no name"):
        jobs.submit(queue="../x")


def test_all_elements_of_a_job_together_have_a_limit(jobs: Env) -> None:
    with pytest.raises(InvalidRequest, match="1000001 tasks and elements in all"):
        jobs.submit({"a": {"array": 1_000_000}, "b": {}})


def test_a_look_tells_the_state_ended_or_not(jobs: Env) -> None:
    job = jobs.submit()
    assert jobs.handle(Look(job)) is State.QUEUED
    jobs.cancel(job)
    assert jobs.handle(Look(job)) is State.CANCELLED
    with pytest.raises(NotFound):
        jobs.handle(Look(7))


def test_before_the_store_was_heard_jobs_are_neither_taken_nor_shown(env: Env) -> None:
    for event in (a_job(), Look(1)):
        with pytest.raises(Unavailable) as refused:
            env.handle(event)
        assert refused.value.code == "store_failed"
    env.worker("w1")
    env.place("t")
