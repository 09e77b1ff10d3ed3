"""The table of legal moves: who keeps to it, and that `docs/states.md` draws what it says."""

import pytest

from core.env import Env, a_job
from core.states_page import PAGE, drawn
from dtask.core.jobs.job import CODES, STATES, Job
from dtask.core.jobs.model import DEFAULT_QUEUE
from dtask.core.jobs.queues import Queue
from dtask.core.jobs.states import ENDS, HELD, MOVES, State

LEGAL = [(came, to) for came, row in MOVES.items() for to in row]
ILLEGAL = [(came, to) for came in State for to in State if (came, to) not in LEGAL]


def a_task_in(state: State) -> Job:
    """A job of one array, all of whose elements stand in `state`."""
    job = Job(1, a_job(array=3).spec, Queue(DEFAULT_QUEUE), 0.0)
    task = job.tasks["main"]
    task.states[:] = bytes([CODES[state]]) * 3
    for counts in (task.counts, job.counts, job.queue.counts):
        counts[:] = [3 if one is state else 0 for one in STATES]
    return job


@pytest.mark.parametrize(("came", "to"), ILLEGAL)
def test_an_illegal_move_raises_and_changes_nothing(came: State, to: State) -> None:
    job = a_task_in(came)
    task = job.tasks["main"]
    before = bytes(task.states), list(task.counts), list(job.counts), list(job.queue.counts)
    with pytest.raises(AssertionError, match=f"{came} -> {to}"):
        task.move(1, CODES[to])
    with pytest.raises(AssertionError, match=f"{came} -> {to}"):
        task.move_rest(CODES[to])
    assert (bytes(task.states), task.counts, job.counts, job.queue.counts) == before


@pytest.mark.parametrize(("came", "to"), LEGAL)
def test_a_legal_move_is_counted_everywhere(came: State, to: State) -> None:
    job = a_task_in(came)
    task = job.tasks["main"]
    task.move(1, CODES[to])
    for counts in (task.counts, job.counts, job.queue.counts):
        assert (counts[CODES[came]], counts[CODES[to]]) == (2, 1)


def test_ends_are_left_by_an_explicit_retry_alone_and_success_never() -> None:
    assert MOVES[State.SUCCEEDED] == {}
    for state in ENDS - {State.SUCCEEDED}:
        assert MOVES[state] == {State.PENDING: "`retry` was asked for"}
    assert not HELD & ENDS


def test_every_state_can_be_reached_and_every_task_can_end() -> None:
    reached = {State.PENDING}
    while more := {to for came in reached for to in MOVES[came]} - reached:
        reached |= more
    assert reached == set(State)
    ending = set(ENDS)
    while more := {came for came, row in MOVES.items() if row.keys() & ending} - ending:
        ending |= more
    assert ending == set(State)


def test_all_that_happened_to_a_task_went_along_legal_moves(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    job = jobs.submit(array=4, retry={"max": 1, "backoff_s": 0})
    jobs.run(exit_code=1)
    jobs.tick()
    jobs.cancel(job)
    jobs.take_all()
    stood: dict[int, State] = {}
    for move in jobs.story:
        if move.index is not None:
            came = stood.get(move.index, State.QUEUED)
            assert move.state in MOVES[came], move
            stood[move.index] = move.state
    assert stood


def test_the_page_of_states_is_drawn_from_the_table() -> None:
    assert PAGE.read_text() == drawn(), "python tests/core/states_page.py draws it anew"
