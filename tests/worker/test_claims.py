import asyncio
import os
from pathlib import Path

import pytest

from dtask.worker.claims import Claims

ONE, OTHER = "http://one:8080", "http://other:8080"


def claims(path: Path, *urls: str) -> Claims:
    known = Claims(urls or (ONE, OTHER), path / "schedulers.json")
    known.load()
    return known


def test_what_a_scheduler_said_is_known_in_the_next_life(tmp_path: Path) -> None:
    first = claims(tmp_path)
    assert first.of(ONE) is None
    first.claim(ONE, "a")
    first.claim(OTHER, "b")
    first.claim(OTHER, "c")
    second = claims(tmp_path)
    assert (second.of(ONE), second.of(OTHER)) == ("a", "c")
    assert claims(tmp_path, OTHER).of(ONE) is None


def test_stores_are_orphans_only_when_all_schedulers_have_said_theirs(tmp_path: Path) -> None:
    known = claims(tmp_path)
    known.claim(ONE, "a")
    assert known.orphans({"a", "b", "x"}) == set()
    known.claim(OTHER, "b")
    assert known.orphans({"a", "b", "x"}) == {"x"}
    known.claim(ONE, "new")
    assert known.orphans({"a", "b"}) == {"a"}


def test_scheduler_under_a_new_url_is_taken_for_the_one_that_nobody_claims(tmp_path: Path) -> None:
    known = claims(tmp_path)
    known.claim(ONE, "a")
    assert known.of(OTHER, {"a", "b"}) == "b"
    assert known.of(OTHER, {"a"}) is None
    assert known.of(OTHER, {"a", "b", "c"}) is None
    assert known.of(ONE, {"b"}) == "a"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": 1}', b"\xff"])
def test_file_that_holds_something_else_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "schedulers.json").write_bytes(content)
    assert claims(tmp_path).of(ONE) is None


def test_file_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = Claims((ONE,), tmp_path / "gone" / "schedulers.json")
    known.claim(ONE, "a")
    assert known.of(ONE) == "a"
    assert os.strerror(2) in caplog.text


def test_second_name_of_a_scheduler_waits_until_the_first_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        known = claims(tmp_path)
        await known.free(ONE)
        for url in (ONE, OTHER):
            known.claim(url, "a")
        known.open(ONE)
        assert set(known.opened()) == {"a"}
        await known.free(ONE)
        waits = asyncio.create_task(known.free(OTHER))
        await asyncio.sleep(0)
        known.close(OTHER)
        await asyncio.sleep(0)
        assert not waits.done()
        known.close(ONE)
        await asyncio.wait_for(waits, 5)
        assert not known.opened()

    asyncio.run(main())
