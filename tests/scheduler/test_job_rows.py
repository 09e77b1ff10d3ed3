"""Pages of elements: those with rows of their own and those that stand with the rest, together."""

import json
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.core.jobs.rows import WHOLE, AttemptRow, JobRow, TaskRow
from dtask.core.jobs.states import State
from dtask.errors import DtaskError
from dtask.scheduler.api import job_rows
from dtask.store.memory import MemoryStore
from dtask.wire.job_answers import AttemptAnswer, ElementAnswer, ElementsAnswer, JobAnswer

SPEC = '{"tasks":{"main":{"command":["x"]},"tile":{"command":["x"],"array":9}}}'
JOB = JobRow(
    1, "", "default", 0, None, "digest", State.RUNNING, 1.0, None, cancelled=False, spec=SPEC
)
MAIN = TaskRow(1, "main", WHOLE, State.RUNNING, None, None)


def array(rows: dict[int, State], size: int, rest: State) -> list[TaskRow]:
    """The rows of an array whose elements stand so."""
    counts = Counter(rows.values())
    if size > len(rows):
        counts[rest] += size - len(rows)
    whole = TaskRow(1, "tile", WHOLE, State.RUNNING, rest, json.dumps(counts))
    return [whole, *(TaskRow(1, "tile", i, state, None, None) for i, state in rows.items())]


def stored(*rows: JobRow | TaskRow | AttemptRow) -> MemoryStore:
    store = MemoryStore()
    store.commit(rows)
    return store


def page(store: MemoryStore, states: set[State], after: int, limit: int) -> ElementsAnswer:
    body = job_rows.elements(store, 1, "tile", states=frozenset(states), after=after, limit=limit)
    return msgspec.json.decode(body, type=ElementsAnswer)


@given(
    rows=st.dictionaries(st.integers(0, 11), st.sampled_from(State)),
    rest=st.sampled_from(State),
    states=st.sets(st.sampled_from(State)),
    limit=st.integers(1, 5),
)
def test_pages_hold_each_element_once_in_order(
    rows: dict[int, State], rest: State, states: set[State], limit: int
) -> None:
    store = stored(JOB, MAIN, *array(rows, 12, rest))
    found: list[ElementAnswer] = []
    after: int | None = -1
    while after is not None:
        answer = page(store, states, after, limit)
        assert len(answer.elements) <= limit
        assert answer.after is None or answer.after > after
        found += answer.elements
        after = answer.after
    stand = {index: rows.get(index, rest) for index in range(12)}
    assert [(element.index, element.state) for element in found] == [
        (index, state) for index, state in stand.items() if not states or state in states
    ]


def test_a_page_that_took_too_long_goes_on_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_rows, "ROWS_LOOKED_AT_MAX", 3)
    rows = dict.fromkeys(range(8), State.SUCCEEDED)
    store = stored(JOB, MAIN, *array(rows, 9, State.QUEUED))
    first = page(store, {State.QUEUED}, -1, 2)
    assert first == ElementsAnswer([], 3)
    assert page(store, {State.QUEUED}, 3, 2) == ElementsAnswer([], 7)
    assert page(store, {State.QUEUED}, 7, 2).elements == [
        ElementAnswer(index=8, state=State.QUEUED)
    ]


def test_a_job_is_shown_with_its_tasks_in_the_order_of_its_spec_and_their_last_attempts() -> None:
    attempts = [
        AttemptRow(1, "main", WHOLE, n, n, f"w{n}", State.RUNNING, 1.0, n + 0.5) for n in (1, 2)
    ]
    of_elements = [AttemptRow(1, "tile", i, 1, 10 + i, "w9", State.RUNNING, 1.0) for i in range(6)]
    tried = msgspec.structs.replace(MAIN, number=2)
    store = stored(JOB, tried, *array({}, 9, State.QUEUED), *attempts, *of_elements)
    job = msgspec.json.decode(job_rows.job(store, 1), type=JobAnswer)
    assert list(job.tasks) == ["main", "tile"]
    assert (job.tasks["main"].worker_id, job.tasks["main"].started_at) == ("w2", 2.5)
    assert job.tasks["tile"].counts == {State.QUEUED: 9}
    assert job.tasks["tile"].worker_id is None


def test_attempts_are_found_by_number_and_followed_from_it() -> None:
    rows = [AttemptRow(1, "main", WHOLE, n, n, "w", State.CANCELLED, 1.0) for n in (1, 2, 4)]
    store = stored(JOB, MAIN, *array({}, 9, State.QUEUED), *rows)
    assert job_rows.attempt(store, 1, "main", WHOLE, None).number == 4
    assert job_rows.attempt(store, 1, "main", WHOLE, 2).number == 2
    assert job_rows.following(store, 1, "main", WHOLE, 3) == (rows[2], False)
    assert job_rows.following(store, 1, "main", WHOLE, 5) == (None, False)
    store.commit([msgspec.structs.replace(MAIN, state=State.SUCCEEDED)])
    assert job_rows.following(store, 1, "main", WHOLE, 5) == (None, True)
    listed = msgspec.json.decode(
        job_rows.attempts(store, 1, "main", WHOLE, 2), type=list[AttemptAnswer]
    )
    assert [attempt.number for attempt in listed] == [4, 2]


@pytest.mark.parametrize(
    ("place", "code", "sentence"),
    [
        ((2, "main", WHOLE, None), "no_job", "There is no job 2"),
        ((1, "man", WHOLE, None), "no_task", "Job 1 has no task 'man': expected one of main, tile"),
        ((1, "tile", WHOLE, None), "malformed", "1/tile is an array: expected one of its elements"),
        ((1, "main", 0, None), "malformed", "1/main is no array"),
        ((1, "tile", 9, None), "no_task", "1/tile has no element 9: it has 9, counted from 0"),
        ((1, "tile", 8, None), "no_attempt", "1/tile[8]: It has not been tried yet."),
        ((1, "main", WHOLE, 3), "no_attempt", "1/main#3: There was no such attempt."),
    ],
)
def test_what_is_not_there_is_named(
    place: tuple[int, str, int, int | None], code: str, sentence: str
) -> None:
    store = stored(JOB, MAIN, *array({}, 9, State.QUEUED))
    with pytest.raises(DtaskError) as error:
        job_rows.attempt(store, *place)
    assert error.value.code == code
    assert sentence in str(error.value)
