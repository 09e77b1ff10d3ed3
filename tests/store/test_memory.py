from pathlib import Path

import pytest

from dtask.errors import Unavailable
from dtask.store.memory import MemoryStore
from store import conformance
from store.rows import attempt, job, task


class Shelf:
    """Keeps the one store of its home, as a process would that is not restarted."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def open(self) -> MemoryStore:
        return self._store

    def another(self) -> "Shelf":
        return Shelf()


@pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
def test_as_every_store(case: conformance.Case) -> None:
    case(Shelf())


def test_a_copy_stays_as_it_was() -> None:
    store = MemoryStore()
    store.commit([job(1), task(1), attempt(5, 1)])
    older = store.copy()
    before = older.load()
    store.commit([job(2), task(1, number=1), task(1, "b"), attempt(6, 1, number=2)])
    assert older.load() == before
    assert store.load() != before
    older.commit([job(9)])
    assert store.record(9) is None


def test_it_is_named_as_it_is_told() -> None:
    assert MemoryStore("seed-7").load().cluster_id == "seed-7"


def test_no_backup_is_written_of_what_is_on_no_disk(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="in memory"):
        MemoryStore().backup(tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []
