"""Elements counted in spans: those with rows of their own and those that stand with the rest."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.core.jobs.states import State
from dtask.errors import InvalidRequest
from dtask.scheduler.api import element_states
from dtask.store.memory import MemoryStore
from dtask.wire.job_answers import StatesAnswer
from dtask.wire.limits import SPANS_MAX
from scheduler.test_job_rows import JOB, MAIN, array, stored

SIZE = 12


def counted(
    store: MemoryStore, *, first: int = 0, count: int | None = None, every: int | None = None
) -> StatesAnswer:
    body = element_states.states(store, 1, "tile", first=first, count=count, every=every)
    return msgspec.json.decode(body, type=StatesAnswer)


@given(
    rows=st.dictionaries(st.integers(0, SIZE - 1), st.sampled_from(State)),
    rest=st.sampled_from(State),
    first=st.integers(0, SIZE + 2),
    count=st.none() | st.integers(1, SIZE + 2),
    every=st.integers(1, 5),
)
def test_each_element_is_counted_once_in_its_span(
    rows: dict[int, State], rest: State, first: int, count: int | None, every: int
) -> None:
    store = stored(JOB, MAIN, *array(rows, SIZE, rest))
    answer = counted(store, first=first, count=count, every=every)
    end = SIZE if count is None else min(SIZE, first + count)
    spans = [range(at, min(end, at + every)) for at in range(first, end, every)]
    stand = [Counter(rows.get(index, rest) for index in span) for span in spans]
    states = {state for counts in stand for state in counts}
    assert answer.states == {state: [counts[state] for counts in stand] for state in states}
    assert (answer.elements, answer.first, answer.every) == (SIZE, first, every)


def test_a_million_elements_are_a_thousand_spans_unless_more_are_asked_for() -> None:
    store = stored(JOB, MAIN, *array({999_999: State.FAILED}, 1_000_000, State.QUEUED))
    answer = counted(store)
    assert answer.every == 1_000
    assert answer.states[State.QUEUED] == [1_000] * 999 + [999]
    assert answer.states[State.FAILED] == [0] * 999 + [1]
    with pytest.raises(InvalidRequest, match="expected at least 100, for at most 10000") as error:
        counted(store, every=99)
    assert error.value.facts["field"] == "every"
    assert len(counted(store, every=1_000_000 // SPANS_MAX).states[State.QUEUED]) == SPANS_MAX
