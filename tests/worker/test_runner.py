import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dtask.clock import ManualClock
from dtask.core import attempts
from dtask.core.attempts import Start
from dtask.errors import Conflict, Unavailable
from dtask.wire.tasks import TaskAnswer
from dtask.worker.runner import Runner
from worker.processes import agent, duration, eventually, guard_of, sleepers, soon


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[Runner]:
    runner = Runner(**{"worker_id": "w", "max_tasks": 4, "path": tmp_path / "spool"} | settings)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


def shell(line: str, task_id: str = "t", fence: int = 1, **fields: Any) -> Start:
    return Start(task_id, fence, ("sh", "-c", line), fields.pop("env", {}), **fields)


async def outcome(runner: Runner, task_id: str = "t", fence: int = 1) -> TaskAnswer:
    assert await runner.ended(task_id, fence, 20.0)
    return runner.answer(task_id, fence)


def log(runner: Runner, stream: Any = "stdout", task_id: str = "t", fence: int = 1) -> bytes:
    folder = runner.folder(task_id, fence)
    assert folder is not None
    return folder.read(stream, 0, 1_000_000)


def attempts_left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "spool" / "attempts").iterdir()]


def test_a_task_runs_and_its_end_is_told(tmp_path: Path) -> None:
    told: list[Any] = []

    async def main() -> None:
        async with running(
            tmp_path,
            on_held=lambda *name: told.append(("held", name)),
            on_ended=lambda *name: told.append(("ended", name)),
        ) as runner:
            begun = runner.begin(shell("echo out; echo err >&2; exit 3"))
            assert (begun.state, begun.worker_id, begun.ended_at) == ("running", "w", None)
            assert runner.held() == [("t", 1)]
            ended = await outcome(runner)
            assert (ended.state, ended.exit_code, ended.cause) == ("ended", 3, None)
            assert ended.ended_at is not None
            assert ended.started_at <= ended.ended_at
            assert (ended.stdout_bytes, ended.stderr_bytes) == (4, 4)
            assert (log(runner), log(runner, "stderr")) == (b"out\n", b"err\n")
            assert told == [("held", ("t", 1)), ("ended", ("t", 1))]
            assert runner.held() == []

    asyncio.run(main())


def test_each_attempt_has_a_working_directory_that_goes_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.begin(shell("pwd; mkdir deep; touch deep/file"))
            await outcome(runner)
            work = Path(log(runner).decode().strip())
            assert work.is_relative_to(tmp_path)
            await soon(lambda: not work.exists())
            assert work.parent.exists()

    asyncio.run(main())


def test_the_environment_holds_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTASK_TOKEN", "secret")
    monkeypatch.setenv("DTASK_TOKEN_FILE", "secret")

    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.begin(shell("env; cat /proc/$PPID/environ >&2", env={"MODE": "fast"}))
            await outcome(runner)
            names = {line.partition(b"=")[0] for line in log(runner).splitlines()}
            assert {b"MODE", b"DTASK_ATTEMPT", b"DTASK_TASK", b"DTASK_FENCE"} <= names
            assert b"secret" not in log(runner)

    asyncio.run(main())


def test_a_timeout_ends_the_tree_first_gently_then_for_good(tmp_path: Path) -> None:
    seconds = duration()

    async def main() -> None:
        async with running(tmp_path, grace_s=0.2) as runner:
            runner.begin(
                shell(f"trap 'echo asked' TERM; sleep {seconds} & wait; wait", timeout_s=0.2)
            )
            ended = await outcome(runner)
            assert ended.cause == "timeout"
            assert log(runner).startswith(b"asked\n")
            assert sleepers(seconds) == []

            stubborn = f"trap '' TERM; sleep {seconds} & wait; wait"
            runner.begin(shell(stubborn, fence=2, timeout_s=0.2))
            ended = await outcome(runner, fence=2)
            assert (ended.cause, ended.exit_code) == ("timeout", -signal.SIGKILL)
            assert sleepers(seconds) == []

    asyncio.run(main())


def test_a_deadline_holds_over_a_suspend_that_loop_timers_do_not_see(tmp_path: Path) -> None:
    clock = ManualClock()

    async def main() -> None:
        async with running(tmp_path, clock=clock) as runner:
            runner.begin(shell("sleep 600", timeout_s=3_000.0))
            clock.advance(3_000.0)
            assert (await outcome(runner)).cause == "timeout"

    asyncio.run(main())


def test_a_newer_fence_never_runs_beside_the_older(tmp_path: Path) -> None:
    """The older run takes its time to end, and holds a lock that the newer one must find free."""
    lock = tmp_path / "lock"
    line = f"mkdir {lock} || exit 9; trap 'sleep 0.1; rmdir {lock}; exit 0' TERM; echo up; "

    async def main() -> None:
        async with running(tmp_path, max_tasks=1) as runner:
            runner.begin(shell(line + "while :; do sleep 0.01; done"))
            await soon(lambda: log(runner) == b"up\n")
            assert runner.begin(shell(line + f"rmdir {lock}", fence=2)).state == "waiting"
            with pytest.raises(Conflict):
                runner.begin(shell("true", fence=1_0 - 9 - 1))
            assert runner.held() == [("t", 2)]
            assert (await outcome(runner, fence=2)).exit_code == 0
            assert runner.answer("t", 1).cause == "superseded"

    asyncio.run(main())


def test_logs_are_held_to_their_cap_while_the_task_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, log_bytes_max=20_000) as runner:
            runner.begin(shell("echo start; yes | head -c 500000; read x < fifo; exit 4"))
            folder = runner.folder("t", 1)
            assert folder is not None
            await soon(lambda: folder.truncated)
            assert (folder.path / "stdout").stat().st_size <= 500_006
            runner.end("t", 1)
            ended = await outcome(runner)
            assert ended.truncated
            assert ended.stdout_bytes == 10_000
            assert log(runner).startswith(b"start\ny\n")

    asyncio.run(main())


def test_a_spool_that_can_no_longer_be_written_fails_the_task_and_not_the_worker(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            attempts_path = tmp_path / "spool" / "attempts"
            attempts_path.rename(tmp_path / "away")
            failed = runner.begin(shell("true"))
            assert (failed.state, failed.cause) == ("ended", "start_failed")
            assert failed.error is not None
            assert f"spool {tmp_path}/spool can't be written" in failed.error
            (tmp_path / "away").rename(attempts_path)
            runner.begin(shell("true", fence=2))
            assert (await outcome(runner, fence=2)).exit_code == 0

    asyncio.run(main())


def test_what_is_forgotten_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "REMEMBERED_MAX", 2)

    async def main() -> None:
        async with running(tmp_path) as runner:
            for number in range(5):
                runner.begin(shell("echo some output", f"t{number}"))
                await outcome(runner, f"t{number}")
            assert [runner.knows(f"t{number}", 1) for number in range(5)] == [False] * 3 + [
                True
            ] * 2
            await soon(lambda: len(attempts_left(tmp_path)) == 2)

    asyncio.run(main())


def test_draining_ends_in_idleness(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            go = tmp_path / "go"
            runner.begin(shell(f"while ! test -e {go}; do sleep 0.01; done"))
            runner.drain()
            with pytest.raises(Unavailable):
                runner.begin(shell("true", "other"))
            idle = asyncio.create_task(runner.idle())
            await asyncio.sleep(0)
            assert not idle.done()
            go.touch()
            await idle
            assert runner.answer("t", 1).exit_code == 0

    asyncio.run(main())


def test_stop_leaves_nothing_and_may_come_twice_or_without_a_start(tmp_path: Path) -> None:
    seconds = duration()

    async def main() -> None:
        runner = Runner(worker_id="w", max_tasks=2, path=tmp_path / "spool")
        await runner.stop()
        await runner.start()
        await runner.start()
        guard = guard_of(os.getpid())
        runner.begin(shell(f"(setsid sleep {seconds} &); sleep {seconds}"))
        await soon(lambda: len(sleepers(seconds)) == 2)
        await runner.stop()
        await runner.stop()
        assert sleepers(seconds) == []
        assert not guard.is_running()
        assert attempts_left(tmp_path) == []

    asyncio.run(main())


def test_a_second_runner_with_the_same_spool_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path):
            with pytest.raises(Conflict, match="Another worker"):
                await Runner(worker_id="w", max_tasks=1, path=tmp_path / "spool").start()

    asyncio.run(main())


@pytest.mark.parametrize("groups", ["with", "without"])
def test_what_survived_agent_and_guard_is_killed_before_the_next_start_returns(
    groups: str, tmp_path: Path
) -> None:
    plain, detached = duration(), duration()
    line = f"(setsid sleep {detached} &); sleep {plain}"
    with agent(tmp_path / "spool", line, groups=groups) as process:
        eventually(lambda: bool(sleepers(plain)) and bool(sleepers(detached)))
        guard = guard_of(process.pid)
        for each in (psutil.Process(process.pid), guard):
            each.suspend()  # so that neither sees the other die
        guard.kill()
        process.kill()
        process.wait()
    assert sleepers(plain)
    assert sleepers(detached)

    async def main() -> None:
        async with running(tmp_path) as runner:
            assert sleepers(plain) == sleepers(detached) == []
            assert not runner.knows("t0", 1)
            assert attempts_left(tmp_path) == []

    asyncio.run(main())


def test_four_slots_stay_busy_with_short_tasks(tmp_path: Path) -> None:
    """40 tasks of 0.1 s take at least 1 s; twice that would mean idle slots."""

    async def one_after_another(runner: Runner, slot: int) -> None:
        for number in range(10):
            name = f"t{slot}-{number}"
            runner.begin(Start(name, 1, ("sleep", "0.1"), {}))
            await outcome(runner, name)

    async def main() -> None:
        async with running(tmp_path) as runner:
            began = time.monotonic()
            await asyncio.gather(*(one_after_another(runner, slot) for slot in range(4)))
            assert time.monotonic() - began < 2.0

    asyncio.run(main())


def test_many_tasks_leak_no_descriptors_and_warn_of_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.begin(shell("true", "warm"))
            await outcome(runner, "warm")
            before = psutil.Process().num_fds()
            for number in range(50):
                runner.begin(Start(f"t{number}", 1, ("true",), {}))
                assert (await outcome(runner, f"t{number}")).exit_code == 0
            assert psutil.Process().num_fds() <= before

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.records == []
