"""Tasks that need each other, and jobs that come after others."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.env import Env
from dtask.core.jobs import graph
from dtask.core.jobs.events import StopAttempt
from dtask.core.jobs.model import TASKS_MAX
from dtask.core.jobs.states import State
from dtask.errors import InvalidRequest, NotFound

DIAMOND = {
    "a": {},
    "b": {"needs": ["a"]},
    "c": {"needs": ["a"]},
    "d": {"needs": ["b", "c"]},
}


def test_a_diamond_runs_from_its_top_to_its_bottom(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(DIAMOND)
    jobs.run("1/a")
    b, c = jobs.given("1/b"), jobs.given("1/c")
    jobs.started(c)
    jobs.ended(c)
    jobs.quiet()
    jobs.started(b)
    jobs.ended(b)
    jobs.run("1/d")
    assert jobs.state(job) is State.SUCCEEDED


def test_what_needs_a_failed_task_is_skipped_and_so_is_all_that_follows(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(DIAMOND)
    jobs.run("1/a")
    jobs.run("1/b", exit_code=1)
    assert jobs.state(job, "d") is State.SKIPPED
    assert jobs.state(job) is State.SCHEDULED
    jobs.run("1/c")
    assert jobs.state(job) is State.FAILED
    assert jobs.book.tasks[job, "d", -1].cause == "upstream"


def test_what_wants_its_needs_all_done_runs_whatever_became_of_them(jobs: Env) -> None:
    jobs.attach("w1")
    tidy = {"needs": ["b"], "when": "all_done"}
    job = jobs.submit({"a": {}, "b": {"needs": ["a"]}, "tidy": tidy})
    jobs.run("1/a", exit_code=1)
    assert jobs.state(job, "b") is State.SKIPPED
    jobs.run("1/tidy")
    assert jobs.state(job, "tidy") is State.SUCCEEDED
    assert jobs.state(job) is State.FAILED


def test_what_wants_its_needs_all_done_waits_for_all_of_them(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit({"a": {}, "b": {}, "tidy": {"needs": ["a", "b"], "when": "all_done"}})
    jobs.run("1/a", exit_code=1)
    b = jobs.given("1/b")
    jobs.quiet()
    jobs.started(b)
    jobs.ended(b)
    jobs.run("1/tidy")


def test_a_task_after_an_array_waits_for_every_element(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"tile": {"array": 3}, "join": {"needs": ["tile"]}})
    for index in range(3):
        jobs.run(f"1/tile[{index}]")
    jobs.run("1/join")
    assert jobs.state(job) is State.SUCCEEDED


def test_one_failed_element_skips_what_needs_the_array_once_all_have_ended(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit({"tile": {"array": 2}, "join": {"needs": ["tile"]}})
    jobs.run("1/tile[0]", exit_code=1)
    assert jobs.state(job, "join") is State.PENDING
    jobs.run("1/tile[1]")
    assert jobs.state(job, "join") is State.SKIPPED


def test_a_skip_runs_through_the_longest_chain_without_recursion(jobs: Env) -> None:
    chain = {f"t{n}": {"needs": [f"t{n - 1}"] if n else []} for n in range(TASKS_MAX)}
    jobs.attach("w1")
    job = jobs.submit(chain)
    jobs.run("1/t0", exit_code=1)
    assert jobs.state(job) is State.FAILED
    assert jobs.state(job, f"t{TASKS_MAX - 1}") is State.SKIPPED


def test_a_chain_runs_in_its_order_whatever_the_order_it_was_written_in(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    jobs.submit({f"t{n}": {"needs": [f"t{n + 1}"] if n < 9 else []} for n in range(10)})
    for n in reversed(range(10)):
        jobs.run(f"1/t{n}")


def test_a_cycle_is_named(jobs: Env) -> None:
    tasks = {"x": {}, "a": {"needs": ["x", "b"]}, "b": {"needs": ["c"]}, "c": {"needs": ["a"]}}
    with pytest.raises(InvalidRequest, match="a -> b -> c -> a") as refused:
        jobs.submit(tasks)
    assert refused.value.code == "bad_graph"
    assert refused.value.facts["cycle"] == ["a", "b", "c", "a"]
    assert jobs.book.jobs == {}


graphs = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=3)
).map(lambda found: {one: tuple(n for n in needs if n in found) for one, needs in found.items()})


@given(graphs)
def test_a_cycle_is_found_if_there_is_one_and_goes_along_needs(
    needs: dict[str, tuple[str, ...]],
) -> None:
    left = dict(needs)
    while free := [name for name, its in left.items() if not any(one in left for one in its)]:
        for name in free:
            del left[name]
    cycle = graph.find_cycle(needs)
    assert bool(cycle) == bool(left)
    assert all(to in needs[name] for name, to in pairwise(cycle))
    assert not cycle or (cycle[0] == cycle[-1] and len(set(cycle)) == len(cycle) - 1)


def test_a_task_that_needs_itself_is_a_cycle(jobs: Env) -> None:
    with pytest.raises(InvalidRequest, match="a -> a"):
        jobs.submit({"a": {"needs": ["a"]}})


def test_a_need_that_is_not_there_and_one_named_twice_are_refused(jobs: Env) -> None:
    with pytest.raises(InvalidRequest, match="there is no task 'b'"):
        jobs.submit({"a": {"needs": ["b"]}})
    with pytest.raises(InvalidRequest, match="twice"):
        jobs.submit({"a": {}, "b": {"needs": ["a", "a"]}})


def test_a_job_comes_after_a_live_one(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    second = jobs.submit(after=[first])
    start = jobs.given("1/main")
    jobs.quiet()
    assert jobs.state(second) is State.PENDING
    jobs.started(start)
    jobs.ended(start)
    jobs.run("2/main")


def test_a_job_after_one_that_succeeded_begins_at_once(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    jobs.run("1/main")
    jobs.submit(after=[first])
    jobs.run("2/main")


def test_a_job_after_one_that_failed_is_skipped_whenever_it_comes(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    early = jobs.submit({"a": {}, "b": {"needs": ["a"]}}, after=[first])
    jobs.run("1/main", exit_code=1)
    late = jobs.submit(after=[first])
    assert jobs.state(early) is State.SKIPPED
    assert jobs.state(late) is State.SKIPPED
    assert jobs.states(early) == {"a": State.SKIPPED, "b": State.SKIPPED}


def test_a_job_after_one_that_was_cancelled_is_skipped(jobs: Env) -> None:
    first = jobs.submit()
    second = jobs.submit(after=[first])
    jobs.cancel(first)
    assert jobs.state(second) is State.SKIPPED


def test_a_job_that_wants_the_earlier_ones_all_done_runs_after_they_failed(jobs: Env) -> None:
    jobs.attach("w1")
    first = jobs.submit()
    early = jobs.submit({"main": {}}, after=[first], when="all_done")
    jobs.run("1/main", exit_code=1)
    jobs.run(f"{early}/main")
    late = jobs.submit({"main": {}}, after=[first], when="all_done")
    jobs.run(f"{late}/main")


def test_jobs_in_a_row_are_all_skipped_when_the_first_fails(jobs: Env) -> None:
    jobs.attach("w1")
    last = jobs.submit()
    for _ in range(500):
        last = jobs.submit(after=[last])
    jobs.run("1/main", exit_code=1)
    assert jobs.state(last) is State.SKIPPED


def test_a_job_can_not_come_after_one_that_nobody_knows(jobs: Env) -> None:
    with pytest.raises(NotFound, match="There is no job 7"):
        jobs.submit(after=[7])


def test_a_job_waits_for_all_that_it_comes_after(jobs: Env) -> None:
    jobs.attach("w1")
    first, second = jobs.submit(), jobs.submit()
    third = jobs.submit(after=[first, second, first])
    a, b = jobs.given(), jobs.given()
    jobs.started(b)
    jobs.ended(b)
    jobs.quiet()
    jobs.started(a)
    jobs.ended(a)
    jobs.run(f"{third}/main")


def test_a_cancelled_task_skips_those_that_need_it_and_no_others(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit({**DIAMOND, "e": {}})
    a, e = jobs.given("1/a"), jobs.given("1/e")
    jobs.started(a)
    jobs.ended(a)
    b, c = jobs.given("1/b"), jobs.given("1/c")
    jobs.cancel(job, "b")
    assert jobs.take(StopAttempt).fence == b.fence
    jobs.stopped(b)
    assert jobs.state(job, "d") is State.SKIPPED
    for start in (c, e):
        jobs.started(start)
        jobs.ended(start)
    assert jobs.state(job) is State.CANCELLED
