import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dtask.worker import journal
from dtask.worker.journal import End, Journal, Launched


def launched(mark: str, fence: int = 1) -> Launched:
    facts = {"task_id": "t", "fence": fence, "pid": 1, "start_time": 2, "boot_id": "b"}
    return msgspec.convert(
        {"event": "launched", "mark": mark, "group": None, "cluster_id": "c", **facts}, Launched
    )


def ended(fence: int, error: str | None = None) -> End:
    facts: dict[str, Any] = dict.fromkeys(End.__struct_fields__)
    facts |= {"task_id": "t", "cluster_id": "c", "fence": fence, "ended_at": 1.0, "error": error}
    facts |= {"stdout_bytes": 0, "stderr_bytes": 0, "result_bytes": 0, "truncated": False}
    return msgspec.convert({"event": "ended", **facts}, End)


def opened(path: Path) -> Journal:
    made = Journal(path / "journal")
    made.open()
    return made


def test_the_next_life_knows_what_was_written_and_not_forgotten(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.launch(launched("a", 1))
    first.launch(launched("b", 2))
    first.end(ended(2))
    first.end(ended(3))
    first.forget("b", ("c", 2))
    first.launch(launched("b", 4))  # the directory is used again
    first.close()
    second = opened(tmp_path)
    assert second.launched == {"a": launched("a", 1), "b": launched("b", 4)}
    assert second.ends == {("c", 3): ended(3)}
    second.close()


def test_a_kill_at_any_byte_costs_the_last_line_at_most(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for fence in range(2):
        first.end(ended(fence))
    whole = (tmp_path / "journal").read_bytes()
    starts = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    for length in range(len(whole) + 1):
        (tmp_path / "journal").write_bytes(whole[:length])
        torn = opened(tmp_path)
        complete = sum(start - 1 <= length for start in starts[1:])
        assert list(torn.ends) == [("c", fence) for fence in range(complete)]
        torn.close()


def test_the_file_is_begun_anew_when_most_of_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "JOURNAL_BYTES_MAX", 5_000)
    book = opened(tmp_path)
    book.end(ended(0))
    for fence in range(1, 200):
        book.launch(launched("m", fence))
        book.end(ended(fence))
        book.forget("m", ("c", fence))
        assert (tmp_path / "journal").stat().st_size < 6_000
    book.close()
    assert list(opened(tmp_path).ends) == [("c", 0)]


def test_on_a_full_disk_no_line_is_torn_and_all_are_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = opened(tmp_path)
    book.end(ended(1))
    write = os.write

    def half(handle: int, data: bytes) -> int:
        return write(handle, data[: len(data) // 2])

    def none(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, f"no room for {len(data)} on {handle}")

    for fence, full in enumerate((half, none, half), 2):
        monkeypatch.setattr(journal.os, "write", full)
        with pytest.raises(OSError, match=r"No space|no room"):
            book.end(ended(fence))
        after = Journal(tmp_path / "journal")
        for line in (tmp_path / "journal").read_bytes().splitlines():
            after._take(line)
        assert list(after.ends) == [("c", 1)]
    monkeypatch.setattr(journal.os, "write", write)
    book.end(ended(9))
    book.close()
    assert [fence for _, fence in opened(tmp_path).ends] == [1, 2, 3, 4, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]
