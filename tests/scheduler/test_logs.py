"""Logs as a channel writes them and a reader reads them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dtask.core.jobs.events import JobForgotten, TaskChanged
from dtask.core.jobs.rows import WHOLE
from dtask.core.jobs.states import State
from dtask.errors import Busy, InvalidRequest, Unavailable
from dtask.scheduler import logs as logs_module
from dtask.scheduler.log_files import RESULT_BYTES_MAX, Attempt, LogFiles
from dtask.scheduler.logs import Logs
from dtask.wire.frames import LogFrame, Stream

MAIN = (42, "main", -1, 1)


def chunk(offset: int, data: bytes, stream: Stream = "stdout") -> LogFrame:
    return LogFrame(7, stream, offset, data)


def play(path: Path, act: Callable[[Logs], Awaitable[None]], *, log_bytes_max: int = 2000) -> None:
    """Act on the logs in `path`, then let go of them."""

    async def main() -> None:
        logs = Logs(path, log_bytes_max=log_bytes_max)
        try:
            async with asyncio.timeout(20):
                await act(logs)
        finally:
            logs.close()

    asyncio.run(main())


def files(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }


def test_streams_are_files_that_a_person_can_read(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"out"), chunk(0, b"err", "stderr"), chunk(3, b"put")])
        await logs.write((42, "tile", 7123, 2), [chunk(0, b"{}", "result")])
        assert await logs.sizes(MAIN) == (6, 3, 0)
        assert await logs.read(MAIN, "stdout", 2, 3) == b"tpu"
        assert await logs.read(MAIN, "result", 0, 3) == b""

    play(tmp_path, act)
    assert files(tmp_path) == {
        "42/main#1.stdout": b"output",
        "42/main#1.stderr": b"err",
        "42/tile/7/7123#2.result": b"{}",
    }


def test_a_chunk_that_comes_twice_does_no_harm(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"abc"), chunk(0, b"abc"), chunk(1, b"bcde")])
        await logs.write(MAIN, [chunk(2, b"cd"), chunk(5, b"f")])
        assert await logs.read(MAIN, "stdout", 0, 100) == b"abcdef"

    play(tmp_path, act)


def test_a_chunk_beyond_the_end_is_refused_and_nothing_is_made_up(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"abc")])
        with pytest.raises(InvalidRequest, match="begins at byte 4, and 3 have arrived"):
            await logs.write(MAIN, [chunk(4, b"e")])
        assert await logs.sizes(MAIN) == (3, 0, 0)

    play(tmp_path, act)


def test_one_order_that_is_refused_spoils_no_other(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        outcomes = await asyncio.gather(
            *(logs.write((1, "t", index, 1), [chunk(index % 2, b"x")]) for index in range(40)),
            return_exceptions=True,
        )
        assert [isinstance(one, InvalidRequest) for one in outcomes] == [False, True] * 20
        for index in range(0, 40, 2):
            assert await logs.sizes((1, "t", index, 1)) == (1, 0, 0)

    play(tmp_path, act)


def test_what_is_over_the_cap_is_dropped_and_noted(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"a" * 900), chunk(900, b"b" * 200)])
        await logs.write(MAIN, [chunk(1100, b"c"), chunk(0, b"err", "stderr")])
        standing = logs.standing(MAIN)
        assert standing.sizes == (1000, 3, 0)
        assert standing.cut

    play(tmp_path, act)
    assert files(tmp_path)["42/main#1.stdout"] == b"a" * 900 + b"b" * 100


def test_a_result_has_a_cap_of_its_own(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"r" * RESULT_BYTES_MAX, "result")])
        assert not logs.standing(MAIN).cut
        await logs.write(MAIN, [chunk(RESULT_BYTES_MAX, b"!", "result")])
        assert logs.standing(MAIN) == ((0, 0, RESULT_BYTES_MAX), True)

    play(tmp_path, act)


def test_an_attempt_that_writes_nothing_costs_nothing(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        await logs.take([], [MAIN])
        logs.finish(MAIN)
        assert logs.standing(MAIN) == ((0, 0, 0), False)
        assert logs._entries == {}

    play(tmp_path, act)
    assert list(tmp_path.iterdir()) == []


def test_logs_go_on_after_a_restart_where_they_stood(tmp_path: Path) -> None:
    strange = (42, "other", -1, 1)

    async def before(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"abc"), chunk(0, b"1", "stderr")])

    async def after(logs: Logs) -> None:
        assert await logs.resume([MAIN, strange]) == [(3, 1, 0), (0, 0, 0)]
        await logs.write(MAIN, [chunk(3, b"def")])
        assert logs.standing(MAIN).sizes == (6, 1, 0)
        assert strange not in logs._entries

    play(tmp_path, before)
    play(tmp_path, after)
    assert files(tmp_path)["42/main#1.stdout"] == b"abcdef"


def test_what_lay_there_before_is_made_durable_before_it_counts_as_such(tmp_path: Path) -> None:
    """Whether an earlier scheduler had it synced, nobody knows."""
    passing = tmp_path / "42" / "main#1.stdout"

    async def before(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"abc"), chunk(0, b"1", "stderr")])

    async def after(logs: Logs) -> None:
        await logs.resume([MAIN])
        assert logs._entries[MAIN].growth.unsynced == {"stdout", "stderr"}
        await logs.take([(MAIN, [chunk(1, b"2", "stderr")])], [MAIN])
        assert logs._entries[MAIN].growth.unsynced == set()

    async def unsaid(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(2, b"3", "stderr")])
        passing.unlink()
        passing.symlink_to("/dev/null")  # which can't be synced
        with pytest.raises(Unavailable):
            await logs.take([], [MAIN])

    play(tmp_path, before)
    play(tmp_path, after)
    play(tmp_path, unsaid)


def test_a_bug_of_the_writer_is_told_to_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    async def act(logs: Logs) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(LogFiles, "sync", stumble)
            with pytest.raises(Unavailable, match="A bug"):
                await logs.write(MAIN, [chunk(0, b"abc")])
        assert logs._entries[MAIN].users == 0
        await logs.take([(MAIN, [chunk(0, b"abc")])], [MAIN])

    play(tmp_path, act)
    assert "this is a bug in dtask" in caplog.text


def test_logs_go_on_though_nobody_said_that_they_would(tmp_path: Path) -> None:
    async def before(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(0, b"abc")])

    async def after(logs: Logs) -> None:
        await logs.write(MAIN, [chunk(1, b"bcd")])

    play(tmp_path, before)
    play(tmp_path, after)
    assert files(tmp_path)["42/main#1.stdout"] == b"abcd"


def test_a_full_disk_is_told_and_the_same_chunk_fits_when_there_is_room(tmp_path: Path) -> None:
    full = tmp_path / "42" / "main#1.stdout"
    full.parent.mkdir()
    full.symlink_to("/dev/full")

    async def act(logs: Logs) -> None:
        with pytest.raises(Unavailable, match="the disk is full") as failure:
            await logs.write(MAIN, [chunk(0, b"abc")])
        assert failure.value.code == "store_failed"
        assert logs.standing(MAIN).sizes == (0, 0, 0)
        full.unlink()
        await logs.take([(MAIN, [chunk(0, b"abc")])], [MAIN])
        assert await logs.read(MAIN, "stdout", 0, 9) == b"abc"

    play(tmp_path, act)


def test_what_can_not_be_made_durable_is_not_taken_as_arrived(tmp_path: Path) -> None:
    passing = tmp_path / "42" / "main#1.stdout"
    passing.parent.mkdir()
    passing.symlink_to("/dev/null")  # it takes everything, and can't be synced

    async def act(logs: Logs) -> None:
        with pytest.raises(Unavailable):
            await logs.take([(MAIN, [chunk(0, b"abc")])], [MAIN])
        assert logs.standing(MAIN).sizes == (0, 0, 0)
        passing.unlink()
        await logs.take([(MAIN, [chunk(0, b"abc")])], [MAIN])

    play(tmp_path, act)
    assert files(tmp_path)["42/main#1.stdout"] == b"abc"


def test_many_attempts_that_end_together_are_made_durable_together(tmp_path: Path) -> None:
    names: list[Attempt] = [(42, "tile", index, 1) for index in range(50)]

    async def act(logs: Logs) -> None:
        await logs.take([(name, [chunk(0, b"x")]) for name in names], names)
        assert [logs._entries[name].growth.unsynced for name in names] == [set()] * 50
        for name in names:
            logs.finish(name)
        assert logs._entries == {}

    play(tmp_path, act)
    assert len(files(tmp_path)) == 50


def test_a_follower_is_woken_by_each_chunk_and_by_the_end(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        seen = b""

        async def follow() -> None:
            nonlocal seen
            while await logs.grown(MAIN, "stdout", len(seen)):
                seen += await logs.read(MAIN, "stdout", len(seen), 100)
                news.set()

        news = asyncio.Event()
        with logs.follow(MAIN):
            reader = asyncio.create_task(follow())
            for at, data in enumerate((b"a", b"b", b"c")):
                await logs.write(MAIN, [chunk(at, data)])
                await news.wait()
                news.clear()
            await logs.write(MAIN, [chunk(0, b"err", "stderr")])
            logs.finish(MAIN)
            await reader
        assert seen == b"abc"
        assert logs._entries == {}

    play(tmp_path, act)


def test_who_follows_does_not_miss_a_chunk_that_comes_while_sizes_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(logs: Logs) -> None:
        look, looked, written = logs.sizes, asyncio.Event(), asyncio.Event()

        async def slow(name: Attempt) -> Any:
            found = await look(name)
            looked.set()
            await written.wait()
            return found

        monkeypatch.setattr(logs, "sizes", slow)
        grown = asyncio.create_task(logs.grown(MAIN, "stdout", 0))
        await looked.wait()
        await logs.write(MAIN, [chunk(0, b"a")])
        written.set()
        assert await grown

    play(tmp_path, act)


def test_who_follows_does_not_miss_an_end_that_came_before_the_question(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        with logs.follow(MAIN):
            await logs.write(MAIN, [chunk(0, b"abc")])
            logs.finish(MAIN)
            assert await logs.grown(MAIN, "stdout", 0)
            assert not await logs.grown(MAIN, "stdout", 3)
            assert not await logs.grown(MAIN, "stderr", 0)

    play(tmp_path, act)


def test_a_follower_that_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        reader = asyncio.create_task(logs.grown(MAIN, "stdout", 0))
        await logs.write(MAIN, [chunk(0, b"err", "stderr")])
        await logs.sizes((0, "a", -1, 1))  # by now it waits
        assert logs._entries[MAIN].waiters
        reader.cancel()
        await asyncio.wait([reader])
        logs.finish(MAIN)
        assert logs._entries == {}
        assert logs._followers == 0

    play(tmp_path, act)


def test_followers_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "FOLLOWERS_MAX", 2)

    async def act(logs: Logs) -> None:
        with logs.follow(MAIN), logs.follow(MAIN):
            with pytest.raises(Busy, match="2 requests follow logs") as refusal:
                await logs.grown(MAIN, "stdout", 0)
            assert refusal.value.code == "too_many_waiters"
        with logs.follow(MAIN):
            pass

    play(tmp_path, act)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.QUEUED, State.PENDING, State.CANCELLED])
def test_followers_end_when_the_task_is_held_no_more(tmp_path: Path, state: State) -> None:
    async def act(logs: Logs) -> None:
        with logs.follow(MAIN):
            running = TaskChanged(42, "main", None, State.RUNNING, 0.0, "default", number=1)
            logs.perform(running)
            assert not logs._entries[MAIN].finished
            logs.perform(TaskChanged(42, "main", None, state, 0.0, "default", number=1))
            assert not await logs.grown(MAIN, "stdout", 0)

    play(tmp_path, act)


def test_only_logs_of_known_attempts_are_kept_beside_a_store_that_has_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = {1: {("a", WHOLE, 1), ("b.c", 1234, 2)}, 2: {("a", WHOLE, 1)}}
    stay = ("1/a#1.stdout", "1/a#1.stderr", "1/b.c/1/1234#2.result")
    go = ("1/a#2.stdout", "1/b.c/1/1234#1.stdout", "1/b.c/1/1235#2.stdout", "1/x#1.stdout")
    for name in (*stay, *go, "3/a#1.stdout", "3/b/0/1#1.stderr"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    logs = Logs(tmp_path)
    logs.keep(lambda job_id: known.get(job_id, set()))
    (line,) = caplog.messages
    assert line.startswith("logs of jobs that the store does not know were removed: ")
    caplog.clear()
    logs.keep(lambda job_id: known.get(job_id, set()))
    assert not caplog.messages
    logs.close()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*#*")}
    assert left == set(stay)
    assert not (tmp_path / "3").exists()


def test_a_forgotten_job_takes_its_logs_along(tmp_path: Path) -> None:
    async def act(logs: Logs) -> None:
        for job_id in (4, 42):
            for name in ((job_id, "main", -1, 1), (job_id, "tile", 5, 1)):
                await logs.take([(name, [chunk(0, b"x")])], [name])
                logs.finish(name)
        assert sorted(await logs.jobs()) == [4, 42]
        logs.perform(JobForgotten(42))
        logs.perform(JobForgotten(43))  # it had none
        logs._remover.shutdown()

    play(tmp_path, act)
    assert sorted(files(tmp_path)) == ["4/main#1.stdout", "4/tile/0/5#1.stdout"]
