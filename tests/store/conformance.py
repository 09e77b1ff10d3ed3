"""What every store does. `CASES` is run for each of them, with a home of its own for each case."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import FunctionType
from typing import Any, Protocol

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtask.core.jobs.rows import (
    WHOLE,
    AttemptRow,
    Change,
    Forget,
    JobRecord,
    JobRow,
    Past,
    QueueRow,
    Row,
    Snapshot,
    TaskRow,
)
from dtask.core.jobs.states import ENDS, HELD, State
from dtask.store.base import Store
from store import rows
from store.rows import attempt, job, queue, task

ANY = frozenset[State]()


class Home(Protocol):
    """Where one store is kept: opened again, it holds what was committed."""

    def open(self) -> Store: ...

    def another(self) -> "Home": ...


def a_new_store_is_empty_and_has_a_name_of_its_own(home: Home) -> None:
    store = home.open()
    snapshot = store.load()
    assert snapshot == Snapshot(snapshot.cluster_id, [], [], [], 0, 0)
    assert store.record(1) is None
    assert store.jobs(states=ANY, queue=None, before=None, limit=9) == []
    store.close()
    assert len(snapshot.cluster_id) == 32
    assert snapshot.cluster_id != home.another().open().load().cluster_id


def what_was_committed_is_there_when_it_is_opened_again(home: Home) -> None:
    store = home.open()
    store.commit([queue("gpu", weight=2.5, paused=True), job(1), task(1), attempt(70, 1)])
    store.commit([job(2, State.FAILED, ended_at=5.25), task(2, state=State.FAILED)])
    before = store.load()
    store.close()
    again = home.open()
    assert again.load() == before
    assert before == Snapshot(
        before.cluster_id,
        [queue("gpu", weight=2.5, paused=True)],
        [JobRecord(job(1), [task(1)], [attempt(70, 1)])],
        [Past(2, State.FAILED, "k2", "d", 5.25)],
        last_job_id=2,
        last_fence=70,
    )
    assert again.record(2) == JobRecord(
        job(2, State.FAILED, ended_at=5.25), [task(2, state=State.FAILED)], []
    )


def a_later_row_takes_the_place_of_an_earlier_one(home: Home) -> None:
    store = home.open()
    ended = attempt(7, 1, state=State.SUCCEEDED, ended_at=3.5, stdout_bytes=10)
    store.commit([job(1), task(1), attempt(7, 1)])
    store.commit([task(1, number=1), ended, task(1, number=2), job(1, priority=9)])
    assert store.record(1) == JobRecord(job(1, priority=9), [task(1, number=2)], [])
    assert store.attempts(1, None, None, limit=9) == [ended]


def an_empty_commit_is_one(home: Home) -> None:
    store = home.open()
    store.commit([])
    store.commit(iter([job(1)]))
    assert store.record(1) == JobRecord(job(1), [], [])


def a_batch_of_thousands_of_rows_is_there_whole(home: Home) -> None:
    many = [task(1, "main", idx, State.SUCCEEDED) for idx in range(3_333)]
    live = [attempt(idx + 1, 1, "main", idx) for idx in range(1_111)]
    store = home.open()
    store.commit([job(1), task(1), *many, *live])
    assert store.load().jobs == [JobRecord(job(1), [task(1), *many], live)]
    assert store.record(1) == JobRecord(job(1), [task(1), *many], live)
    outline = store.record(1, elements=False)
    assert outline == JobRecord(msgspec.structs.replace(job(1), spec=""), [task(1)], [])
    assert store.spec(1) == job(1).spec
    assert store.spec(2) is None


def many_live_jobs_are_loaded_each_with_its_own(home: Home) -> None:
    store = home.open()
    expected = []
    for job_id in range(1, 101):
        own = [task(job_id, "array", idx) for idx in range(WHOLE, job_id % 30)]
        held = [attempt(1_000 * job_id + idx, job_id, "array", idx) for idx in range(job_id % 4)]
        state = State.QUEUED if job_id % 3 else State.SUCCEEDED
        store.commit([job(job_id, state), *own, *held])
        if state is State.QUEUED:
            expected.append(JobRecord(job(job_id), own, held))
    snapshot = store.load()
    assert snapshot.jobs == expected
    assert [past.job_id for past in snapshot.past] == list(range(3, 101, 3))


def a_spec_of_megabytes_is_kept(home: Home) -> None:
    spec = '{"tasks": {"main": {"command": ["' + '\\"ü\\\\' * 1_000_000 + '"]}}}'
    store = home.open()
    store.commit([job(job_id, spec=spec) for job_id in (1, 2)])
    assert [record.job.spec == spec for record in store.load().jobs] == [True, True]
    assert store.jobs(states=ANY, queue=None, before=None, limit=9) == [
        job(2, spec=""),
        job(1, spec=""),
    ]


def a_job_that_was_forgotten_is_gone_with_all_it_had(home: Home) -> None:
    store = home.open()
    for job_id in (1, 2):
        store.commit([job(job_id), task(job_id), task(job_id, "a", 0), attempt(job_id, job_id)])
    store.commit([task(2, "a", 1), Forget(2), queue("q")])
    assert store.record(2) is None
    assert store.record(2, elements=False) is None
    assert store.elements(2, "a", states=ANY, after=-1, limit=9) == []
    assert store.attempts(2, None, None, limit=9) == []
    assert [record.job.job_id for record in store.load().jobs] == [1]
    assert len(store.record(1).tasks) == 2  # type: ignore[union-attr]


def a_job_of_many_rows_is_hidden_at_once_when_it_is_forgotten(home: Home) -> None:
    store = home.open()
    tasks = [task(1, "main", idx) for idx in range(12_000)]
    store.commit([job(1), *tasks, *(attempt(idx + 1, 1, "main", idx) for idx in range(12_000))])
    store.commit([Forget(1)])
    for job_id in range(2, 6):
        assert store.elements(1, "main", states=ANY, after=-1, limit=9) == []
        assert store.attempts(1, None, None, limit=9) == []
        assert store.attempts(1, "main", 7, limit=9) == []
        assert store.load().last_fence == 12_000
        store.commit([job(job_id)])
        store.close()
        store = home.open()
    assert [record.job.job_id for record in store.load().jobs] == [2, 3, 4, 5]


def numbers_are_never_given_again_though_their_job_is_forgotten(home: Home) -> None:
    store = home.open()
    store.commit([job(7), attempt(900, 7), job(3), attempt(800, 3)])
    store.commit([Forget(7)])
    store.commit([job(8), attempt(1_000, 8), Forget(8), Forget(3)])
    store.close()
    snapshot = home.open().load()
    assert (snapshot.last_job_id, snapshot.last_fence) == (8, 1_000)


def jobs_are_listed_from_the_newest_by_state_and_queue(home: Home) -> None:
    store = home.open()
    states = [State.QUEUED, State.SUCCEEDED, State.FAILED]
    store.commit(
        job(job_id, states[job_id % 3], queue="gpu" if job_id % 2 else "default")
        for job_id in range(1, 31)
    )

    def listed(
        *states: State, queue: str | None = None, before: int | None = None, limit: int = 99
    ) -> list[int]:
        found = store.jobs(states=frozenset(states), queue=queue, before=before, limit=limit)
        return [row.job_id for row in found]

    assert listed() == list(range(30, 0, -1))
    assert listed(limit=3) == [30, 29, 28]
    assert listed(before=28, limit=2) == [27, 26]
    assert listed(State.SUCCEEDED, limit=2) == [28, 25]
    assert listed(State.SUCCEEDED, State.FAILED, before=10) == [8, 7, 5, 4, 2, 1]
    assert listed(State.FAILED, queue="gpu", limit=2) == [29, 23]
    assert listed(queue="gpu", before=6) == [5, 3, 1]
    assert listed(State.CANCELLED) == []
    assert listed(queue="none") == []


def jobs_are_found_by_a_part_of_their_name_or_by_their_number(home: Home) -> None:
    store = home.open()
    names = ["Render A", "render%b", "50_percent", "été", "12", ""]
    store.commit(job(10 + i, State.FAILED, name=name) for i, name in enumerate(names))

    def found(search: str, **more: Any) -> list[int]:
        wanted = {"states": ANY, "queue": None, "before": None, "limit": 9} | more
        return [row.job_id for row in store.jobs(search=search, **wanted)]

    assert found("RENDER") == [11, 10]
    assert found("render", states=frozenset({State.FAILED}), limit=1) == [11]
    assert found("render", before=11) == [10]
    assert found("render", states=frozenset({State.QUEUED})) == []
    assert found("%") == [11]
    assert found("_") == [12]
    assert found("Ét") == []
    assert found("ét") == [13]
    assert found("12") == [14, 12]
    assert found("1") == [14]


def elements_are_read_page_by_page(home: Home) -> None:
    store = home.open()
    states = [State.SUCCEEDED, State.FAILED]
    store.commit([task(1, "a"), *(task(1, "a", idx, states[idx % 2]) for idx in range(20))])
    store.commit([task(1, "b", 3), task(2, "a", 4)])

    def indexes(*states: State, after: int = -1, limit: int = 99) -> list[int]:
        found = store.elements(1, "a", states=frozenset(states), after=after, limit=limit)
        return [row.idx for row in found]

    assert indexes() == list(range(20))
    assert indexes(after=16) == [17, 18, 19]
    assert indexes(after=-5, limit=2) == [0, 1]
    assert indexes(State.FAILED, after=4, limit=3) == [5, 7, 9]
    assert indexes(*states, limit=2) == [0, 1]
    assert indexes(State.QUEUED) == []


def elements_are_counted_span_by_span(home: Home) -> None:
    store = home.open()
    states = [State.SUCCEEDED, State.FAILED]
    store.commit([task(1, "a"), *(task(1, "a", idx, states[idx % 2]) for idx in range(20))])
    store.commit([task(1, "b", 3), task(2, "a", 4)])
    failed, succeeded = State.FAILED, State.SUCCEEDED

    assert store.tally(1, "a", 0, 20, every=20) == [(0, failed, 10), (0, succeeded, 10)]
    assert store.tally(1, "a", 3, 8, every=3) == [
        (0, failed, 2),
        (0, succeeded, 1),
        (1, failed, 1),
        (1, succeeded, 1),
    ]
    assert store.tally(1, "a", 18, 30, every=1) == [(0, succeeded, 1), (1, failed, 1)]
    assert store.tally(1, "a", 20, 30, every=1) == []
    assert store.tally(3, "a", 0, 9, every=1) == []


def attempts_are_read_from_the_newest(home: Home) -> None:
    store = home.open()
    store.commit(
        [
            attempt(10, 1, "a", 0, 1, state=State.FAILED),
            attempt(50, 1, "a", 0, 2),
            attempt(30, 1, "a", 5, 1),
            attempt(40, 1, "b", WHOLE, 1),
            attempt(60, 2, "a", 0, 1),
        ]
    )

    def fences(name: str | None, idx: int | None, limit: int = 9) -> list[int]:
        return [row.fence for row in store.attempts(1, name, idx, limit=limit)]

    assert fences(None, None) == [50, 40, 30, 10]
    assert fences(None, None, limit=2) == [50, 40]
    assert fences("a", None) == [50, 30, 10]
    assert fences("a", None, limit=1) == [50]
    assert fences("a", 0) == [50, 10]
    assert fences("b", WHOLE) == [40]
    assert fences("b", 0) == []


def a_store_may_be_closed_twice(home: Home) -> None:
    store = home.open()
    store.commit([job(1)])
    store.close()
    store.close()
    assert home.open().record(1) is not None


def readers_beside_a_writer_see_whole_commits_alone(home: Home) -> None:
    store = home.open()
    store.commit(_stamped(0))
    done = threading.Event()
    torn: list[object] = []

    def read() -> None:
        last = 0
        while not done.is_set():
            record = store.record(1)
            assert record is not None
            stamps = {row.number for row in record.tasks} | {record.job.priority}
            if len(stamps) != 1 or min(stamps) < last:
                torn.append((last, stamps))
            last = max(stamps)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for stamp in range(1, 60):
            store.commit(_stamped(stamp))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert torn == []


def _stamped(stamp: int) -> list[Change]:
    return [job(1, priority=stamp), *(task(1, "a", idx, number=stamp) for idx in range(40))]


def it_answers_as_a_dict_of_rows_would(home: Home) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.lists(rows.changes, max_size=25), max_size=4),
        st.booleans(),
        st.randoms(use_true_random=False),
    )
    def check(batches: list[list[Change]], reopened: bool, rng: random.Random) -> None:
        place, model = home.another(), Model()
        store = place.open()
        for batch in batches:
            store.commit(batch)
            model.commit(batch)
            if reopened:
                store.close()
                store = place.open()
            model.compare(store, rng)
        store.close()

    check()


class Model:
    """The obvious store: every row by its key."""

    def __init__(self) -> None:
        self.rows: dict[tuple[object, ...], Row] = {}
        self.last_job_id = 0
        self.last_fence = 0

    def commit(self, batch: Sequence[Change]) -> None:
        for change in batch:
            if isinstance(change, Forget):
                gone = [
                    key
                    for key, row in self.rows.items()
                    if not isinstance(row, QueueRow) and row.job_id == change.job_id
                ]
                for key in gone:
                    del self.rows[key]
                continue
            self.rows[change.table, *change.key_of] = change
            if isinstance(change, JobRow):
                self.last_job_id = max(self.last_job_id, change.job_id)
            if isinstance(change, AttemptRow):
                self.last_fence = max(self.last_fence, change.fence)

    def compare(self, store: Store, rng: random.Random) -> None:
        jobs = sorted((row for row in self.all(JobRow)), key=attrgetter("job_id"))
        snapshot = store.load()
        assert snapshot == Snapshot(
            cluster_id=snapshot.cluster_id,
            queues=sorted(self.all(QueueRow), key=attrgetter("name")),
            jobs=[self.record(row) for row in jobs if row.state not in ENDS],
            past=[_past(row) for row in jobs if row.state in ENDS],
            last_job_id=self.last_job_id,
            last_fence=self.last_fence,
        )
        states = frozenset(rng.sample(list(State), rng.randrange(4)))
        limit = rng.randrange(1, 6)
        job_id, name, idx = rng.randrange(1, 5), rng.choice("ab"), rng.choice([WHOLE, 0, 1])
        bound, line = rng.choice([None, 2, 4]), rng.choice([None, "gpu"])
        fitting = [
            msgspec.structs.replace(row, spec="")
            for row in reversed(jobs)
            if (not states or row.state in states)
            and line in (None, row.queue)
            and row.job_id < (bound or 99)
        ]
        assert store.jobs(states=states, queue=line, before=bound, limit=limit) == fitting[:limit]
        (wanted,) = [row for row in jobs if row.job_id == job_id] or [None]
        assert store.record(job_id) == (wanted and self.record(wanted))
        found = store.elements(job_id, name, states=states, after=idx, limit=limit)
        assert found == self.elements(job_id, name, states, idx)[:limit]
        every = rng.randrange(1, 3)
        counts = Counter(
            (row.idx // every, row.state) for row in self.elements(job_id, name, frozenset(), WHOLE)
        )
        assert store.tally(job_id, name, 0, 99, every=every) == sorted(
            (span, state, count) for (span, state), count in counts.items()
        )
        for place in ((None, None), (name, None), (name, idx)):
            found = store.attempts(job_id, *place, limit=limit)
            assert found == self.attempts(job_id, *place)[:limit]

    def all(self, kind: type) -> list:
        return [row for row in self.rows.values() if isinstance(row, kind)]

    def record(self, row: JobRow) -> JobRecord:
        tasks = [one for one in self.all(TaskRow) if one.job_id == row.job_id]
        live = [
            one for one in self.all(AttemptRow) if one.job_id == row.job_id and one.state in HELD
        ]
        return JobRecord(
            row, sorted(tasks, key=attrgetter("key_of")), sorted(live, key=attrgetter("fence"))
        )

    def elements(
        self, job_id: int, name: str, states: frozenset[State], after: int
    ) -> list[TaskRow]:
        found = [
            row
            for row in self.all(TaskRow)
            if (row.job_id, row.task) == (job_id, name)
            and row.idx > max(after, WHOLE)
            and (not states or row.state in states)
        ]
        return sorted(found, key=attrgetter("idx"))

    def attempts(self, job_id: int, name: str | None, idx: int | None) -> list[AttemptRow]:
        found = [
            row
            for row in self.all(AttemptRow)
            if row.job_id == job_id and name in (None, row.task) and idx in (None, row.idx)
        ]
        return sorted(found, key=attrgetter("fence"), reverse=True)


def _past(row: JobRow) -> Past:
    ended_at = row.submitted_at if row.ended_at is None else row.ended_at
    return Past(row.job_id, row.state, row.key, row.digest, ended_at)


Case = Callable[[Home], None]

CASES: list[Case] = [
    case
    for name, case in list(globals().items())
    if isinstance(case, FunctionType) and case.__module__ == __name__ and not name.startswith("_")
]
