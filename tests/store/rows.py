"""Rows to keep, and strategies for all that rows may hold."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Struct

from dtask.core.jobs.rows import WHOLE, AttemptRow, Change, Forget, JobRow, QueueRow, TaskRow
from dtask.core.jobs.states import State

SECONDS = 1_700_000_000.123456


def job(job_id: int, state: State = State.QUEUED, **fields: Any) -> JobRow:
    ended_at = SECONDS + job_id if state in (State.SUCCEEDED, State.FAILED) else None
    row = JobRow(
        job_id=job_id,
        name="",
        queue="default",
        priority=0,
        key=f"k{job_id}",
        digest="d",
        state=state,
        submitted_at=SECONDS,
        ended_at=ended_at,
        cancelled=False,
        spec='{"tasks":{}}',
    )
    return msgspec.structs.replace(row, **fields)


def task(
    job_id: int, name: str = "main", idx: int = WHOLE, state: State = State.QUEUED, **fields: Any
) -> TaskRow:
    return msgspec.structs.replace(TaskRow(job_id, name, idx, state, None, None), **fields)


def attempt(
    fence: int, job_id: int, name: str = "main", idx: int = WHOLE, number: int = 1, **fields: Any
) -> AttemptRow:
    row = AttemptRow(job_id, name, idx, number, fence, "w", State.RUNNING, SECONDS)
    return msgspec.structs.replace(row, **fields)


def queue(name: str, **fields: Any) -> QueueRow:
    return msgspec.structs.replace(QueueRow(name, None, None, 1.0, paused=False), **fields)


# Anything that may stand in a row, of few keys

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_ints = st.integers(-(2**63) + 1, 2**63 - 1)
_job_ids = st.integers(1, 4)
_tasks = st.sampled_from(["a", "b", "b-2"])
_indexes = st.sampled_from([WHOLE, 0, 1, 7, 11])
_numbers = st.integers(1, 3)


def _any_row(row: type[Struct], **keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    drawn = {
        field.name: keys.get(field.name, _any_value(field.type))
        for field in msgspec.structs.fields(row)
    }
    return st.builds(row, **drawn)


def _any_value(kind: Any) -> st.SearchStrategy[Any]:
    known = {str: _texts, int: _ints, float: _floats, bool: st.booleans(), type(None): st.none()}
    if kind in known:
        return known[kind]
    if isinstance(kind, type):
        return st.sampled_from(list(kind))  # an enumeration
    return st.one_of(*map(_any_value, kind.__args__))


def _fenced(row: AttemptRow) -> AttemptRow:
    """The fence of an attempt never changes, and no other has it."""
    place = ["a", "b", "b-2"].index(row.task)
    fence = ((row.number * 20 + row.idx + 1) * 3 + place) * 10 + row.job_id
    return msgspec.structs.replace(row, fence=fence)


changes: st.SearchStrategy[Change] = st.one_of(
    _any_row(JobRow, job_id=_job_ids, queue=st.sampled_from(["default", "gpu"])),
    _any_row(TaskRow, job_id=_job_ids, task=_tasks, idx=_indexes),
    _any_row(AttemptRow, job_id=_job_ids, task=_tasks, idx=_indexes, number=_numbers).map(_fenced),
    _any_row(QueueRow, name=st.sampled_from(["default", "gpu"])),
    st.builds(Forget, _job_ids),
)
