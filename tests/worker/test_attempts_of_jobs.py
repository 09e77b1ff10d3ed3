import asyncio
import json
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from dtask.errors import Unavailable
from dtask.wire.frames import EndedFrame, StartFrame
from dtask.worker import limits, spool
from dtask.worker.executors import process
from dtask.worker.run import Key
from dtask.worker.runner import Runner
from worker.processes import (
    attempts_agent,
    duration,
    eventually,
    guard_of,
    sleepers,
    soon,
)

CLUSTER = "c1"


def order(line: str, fence: int = 1, **fields: Any) -> StartFrame:
    """A frame that starts a line of shell."""
    given = {
        "fence": fence,
        "job_id": 42,
        "task": "main",
        "index": None,
        "number": 1,
        "command": ("sh", "-c", line),
        "env": {},
        "timeout_s": None,
        "grace_s": 5.0,
        "files": {},
        "stdin": None,
        "cwd": None,
        "cpus": None,
        "memory_mb": None,
    }
    return StartFrame(**(given | fields))


class Ears:
    """What a runner tells, as the channel hears it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Key]] = []
        self.beats: list[Any] = []

    def started(self, key: Key, started_at: float) -> None:
        assert started_at > 0
        self.told.append(("started", key))

    def ended(self, key: Key) -> None:
        self.told.append(("ended", key))

    def beat(self, *name: Any) -> None:
        self.beats.append(name)


@asynccontextmanager
async def running(path: Path, ears: Ears | None = None, **settings: Any) -> AsyncIterator[Runner]:
    ears = ears or Ears()
    given = {
        "worker_id": "w",
        "max_tasks": 4,
        "path": path / "spool",
        "on_held": ears.beat,
        "on_ended": ears.beat,
        "on_attempt_started": ears.started,
        "on_attempt_ended": ears.ended,
    }
    runner = Runner(**(given | settings))
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def end_of(runner: Runner, fence: int = 1) -> EndedFrame:
    key = (CLUSTER, fence)
    await soon(lambda: runner.attempt_end(key) is not None)
    end = runner.attempt_end(key)
    assert end is not None
    return end


def stream(runner: Runner, name: Any = "stdout", fence: int = 1) -> bytes:
    folder = runner.attempt_log((CLUSTER, fence))
    assert folder is not None
    return folder.read(name, 0, 10_000_000)


def test_an_attempt_runs_and_its_end_is_kept_until_it_is_heard(tmp_path: Path) -> None:
    ears = Ears()
    key = (CLUSTER, 1)

    async def main() -> None:
        async with running(tmp_path, ears) as runner:
            runner.attempt(
                CLUSTER, order("echo out; echo err >&2; echo res > $DTASK_RESULT; exit 3")
            )
            assert runner.attempts(CLUSTER) == [(1, True)]
            assert runner.clusters() == {CLUSTER}
            end = await end_of(runner)
            assert (end.exit_code, end.cause, end.error) == (3, None, None)
            assert (end.stdout_bytes, end.stderr_bytes, end.result_bytes) == (4, 4, 4)
            assert end.started_at is not None
            assert end.started_at <= end.ended_at
            assert [stream(runner, name) for name in ("stdout", "stderr", "result")] == [
                b"out\n",
                b"err\n",
                b"res\n",
            ]
            assert ears.told == [("started", key), ("ended", key)]
            assert ears.beats == []
            runner.attempt(CLUSTER, order("exit 9"))
            assert (await end_of(runner)).exit_code == 3
            runner.forget_attempt(key)
            assert runner.attempt_end(key) is runner.attempt_log(key) is None
            assert runner.attempts(CLUSTER) == []
            assert runner.clusters() == set()
            left = [path for path in (tmp_path / "spool" / "attempts").rglob("*") if path.is_file()]
            assert sum(path.stat().st_size for path in left) == 0

    asyncio.run(main())


def test_an_attempt_knows_what_it_is_and_holds_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTASK_TOKEN", "secret")
    given = {"MODE": "fast", "DTASK_INDEX": "7", "DTASK_ITEM": "a.tif", "DTASK_TOKEN_X": "secret"}

    async def main() -> None:
        async with running(tmp_path) as runner:
            command = order("env; pwd", 5, task="tile", index=7, number=3, env=given)
            runner.attempt(CLUSTER, command)
            await end_of(runner, 5)
            *lines, work = stream(runner, fence=5).decode().splitlines()
            seen = dict(line.split("=", 1) for line in lines)
            told = {name: value for name, value in seen.items() if name.startswith("DTASK_")}
            mark = told.pop("DTASK_ATTEMPT")
            assert len(mark) >= 16
            assert told == {
                "DTASK_JOB": "42",
                "DTASK_TASK": "tile",
                "DTASK_INDEX": "7",
                "DTASK_ITEM": "a.tif",
                "DTASK_NUMBER": "3",
                "DTASK_FENCE": "5",
                "DTASK_RESULT": str(Path(work).parent / "result"),
                "DTASK_DIR": work,
            }
            assert seen["MODE"] == "fast"
            assert "secret" not in stream(runner, fence=5).decode()

    asyncio.run(main())


def test_each_attempt_has_a_mark_of_its_own_in_a_directory_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            marks = set()
            directories = set()
            for fence in (1, 2, 3):
                runner.attempt(CLUSTER, order("echo $DTASK_ATTEMPT; pwd; ls -A", fence))
                await end_of(runner, fence)
                mark, directory, *others = stream(runner, fence=fence).decode().splitlines()
                assert others == []
                marks.add(mark)
                directories.add(directory)
                runner.forget_attempt((CLUSTER, fence))
            assert (len(marks), len(directories)) == (3, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"command": ("no-such-program",)}, "'no-such-program' is not on this worker's PATH"),
        ({"cwd": "/no/such/place"}, "The working directory '/no/such/place' can't be entered"),
        ({"command": ("no-such-program",), "memory_mb": 64}, "is not on this worker's PATH"),
        ({"command": ("./none",), "memory_mb": 64}, "program './none' is not on this worker"),
        ({"command": ("/",), "cpus": 1.0}, "may not be run by this worker's user"),
        ({"cwd": "/no/such/place", "cpus": 1.0}, "'/no/such/place' can't be entered"),
        ({"files": {"../x": "sha256:" + "0" * 64}}, "a relative name without `..`"),
    ],
)
def test_what_cannot_be_started_is_an_end_that_says_why(
    fields: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    ears = Ears()

    async def main() -> None:
        async with running(tmp_path, ears) as runner:
            runner.attempt(CLUSTER, order("true", **fields))
            end = await end_of(runner)
            assert (end.cause, end.exit_code, end.started_at) == ("start_failed", None, None)
            assert end.error is not None
            assert sentence in end.error
            assert runner.attempts(CLUSTER) == [(1, False)]
            assert ears.told == [("ended", (CLUSTER, 1))]

    asyncio.run(main())


def test_a_spool_that_cannot_be_written_is_the_fault_of_the_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            attempts = tmp_path / "spool" / "attempts"
            attempts.rename(tmp_path / "away")
            runner.attempt(CLUSTER, order("true"))
            end = await end_of(runner)
            assert end.cause == "worker_failed"
            assert f"spool {tmp_path}/spool can't be written" in (end.error or "")
            (tmp_path / "away").rename(attempts)
            runner.attempt(CLUSTER, order("true", 2))
            assert (await end_of(runner, 2)).exit_code == 0

    asyncio.run(main())


def test_a_full_disk_is_the_fault_of_the_worker_and_told_of_what_ran_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            go = tmp_path / "go"
            runner.attempt(CLUSTER, order(f"until [ -e {go} ]; do sleep 0.01; done; exit 1"))
            assert runner.has_room()
            monkeypatch.setattr(spool, "ROOM_BYTES_MIN", 2**60)
            assert not runner.has_room()
            runner.attempt(CLUSTER, order("true", 2, job_id=2))
            refused = await end_of(runner, 2)
            assert (refused.cause, refused.started_at) == ("worker_failed", None)
            assert refused.error == (
                f"The worker's spool {tmp_path}/spool can't be written: No space left on device."
            )
            go.touch()
            ended = await end_of(runner)
            assert (ended.cause, ended.exit_code) == (None, 1)
            assert ended.error == (
                f"The worker's spool {tmp_path}/spool was full: what this wrote may be missing."
            )

    asyncio.run(main())


def test_what_is_refused_ends_as_returned(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, max_tasks=1) as runner:
            runner.attempt(CLUSTER, order("sleep 600", 5))
            runner.attempt(CLUSTER, order("true", 6, job_id=43))
            full = await end_of(runner, 6)
            assert (full.cause, full.started_at) == ("returned", None)
            assert "All 1 slots" in (full.error or "")
            runner.attempt(CLUSTER, order("true", 4))
            assert "fence 5" in ((await end_of(runner, 4)).error or "")
            runner.drain()
            runner.attempt(CLUSTER, order("true", 7, job_id=44))
            assert "draining" in ((await end_of(runner, 7)).error or "")
            assert dict(runner.attempts(CLUSTER)) == {5: True, 6: False, 4: False, 7: False}

    asyncio.run(main())


def test_a_retry_waits_until_nothing_is_left_of_the_attempt_before(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    line = f"mkdir {lock} || exit 9; trap 'sleep 0.1; rmdir {lock}; exit 0' TERM; echo up; "

    async def main() -> None:
        async with running(tmp_path, max_tasks=1) as runner:
            runner.attempt(CLUSTER, order(line + "while :; do sleep 0.01; done", 1))
            await soon(lambda: stream(runner) == b"up\n")
            runner.attempt(CLUSTER, order(line + f"rmdir {lock}", 2, number=2))
            assert runner.attempts(CLUSTER) == [(1, True), (2, False)]
            assert (await end_of(runner, 2)).exit_code == 0
            assert (await end_of(runner, 1)).cause == "stopped"

    asyncio.run(main())


def test_a_stop_leaves_nothing_of_shells_in_shells_and_setsid(tmp_path: Path) -> None:
    seconds = duration()
    line = f"sh -c 'sh -c \"setsid sleep {seconds} & wait\" & wait' & wait"

    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order(line))
            await soon(lambda: bool(sleepers(seconds)))
            runner.stop_attempt((CLUSTER, 1), 5.0)
            end = await end_of(runner)
            assert (end.cause, end.exit_code) == ("stopped", -signal.SIGTERM)
            assert sleepers(seconds) == []

    asyncio.run(main())


def test_the_grace_of_a_stop_is_its_own_and_may_be_cut_short(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            line = "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done"
            runner.attempt(CLUSTER, order(line, grace_s=600.0))
            await soon(lambda: stream(runner) == b"up\n")
            runner.stop_attempt((CLUSTER, 1), 600.0)
            await soon(lambda: stream(runner) == b"up\nasked\n")
            runner.stop_attempt((CLUSTER, 1), 0.0)
            assert (await end_of(runner)).exit_code == -signal.SIGKILL

    asyncio.run(main())


def test_a_dropped_attempt_is_stopped_and_forgotten_without_a_word(tmp_path: Path) -> None:
    ears, seconds = Ears(), duration()

    async def main() -> None:
        async with running(tmp_path, ears) as runner:
            runner.attempt(CLUSTER, order(f"sleep {seconds} & wait"))
            runner.attempt("other", order("true"))
            await soon(
                lambda: bool(sleepers(seconds)) and runner.attempt_end(("other", 1)) is not None
            )
            assert runner.clusters() == {CLUSTER, "other"}
            for cluster_id in (CLUSTER, "other"):
                runner.drop_attempt((cluster_id, 1))
            await soon(lambda: runner.clusters() == set())
            await runner.idle()
            assert sleepers(seconds) == []
            assert ("ended", (CLUSTER, 1)) not in ears.told

    asyncio.run(main())


def test_a_result_over_its_limit_fails_the_attempt_that_would_have_succeeded(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            whole = "head -c 1048576 /dev/zero > $DTASK_RESULT"
            runner.attempt(CLUSTER, order(whole, 1))
            runner.attempt(CLUSTER, order(f"{whole}; echo >> $DTASK_RESULT", 2, job_id=43))
            runner.attempt(CLUSTER, order("mkfifo $DTASK_RESULT", 3, job_id=44))
            fits = await end_of(runner, 1)
            assert (fits.cause, fits.result_bytes) == (None, 1_048_576)
            assert len(stream(runner, "result", 1)) == 1_048_576
            large = await end_of(runner, 2)
            assert (large.cause, large.exit_code, large.result_bytes) == ("result_too_large", 0, 0)
            assert "1,048,576 bytes" in (large.error or "")
            assert stream(runner, "result", 2) == b""
            assert (await end_of(runner, 3)).result_bytes == 0

    asyncio.run(main())


def test_nothing_of_a_result_can_be_read_while_it_may_still_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order("echo draft > $DTASK_RESULT; echo up; sleep 600"))
            await soon(lambda: stream(runner) == b"up\n")
            folder = runner.attempt_log((CLUSTER, 1))
            assert folder is not None
            assert folder.log_bytes("result") == 0
            assert folder.read("result", 0, 10) == b""
            runner.stop_attempt((CLUSTER, 1), 5.0)
            assert (await end_of(runner)).result_bytes == 6

    asyncio.run(main())


def test_usage_counts_what_was_waited_for_and_none_of_the_agent_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MEASURE_S", 0.0)
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"

    # The kernel counts what the child had of ours before it became another program.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    megabytes = 300 + own // 1_000_000

    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order(f"sh -c '{busy}'; {hungry(megabytes)} > /dev/null", 1))
            runner.attempt(CLUSTER, order("true", 2, job_id=43))
            runner.attempt(CLUSTER, order("sleep 0.5", 3, job_id=44))
            large, small, long = [await end_of(runner, fence) for fence in (1, 2, 3)]
            assert large.cpu_s is not None
            assert small.cpu_s is not None
            assert large.cpu_s > 0.05 > small.cpu_s > 0
            assert large.max_rss_bytes is not None
            assert large.max_rss_bytes > 0.95e6 * megabytes
            assert small.max_rss_bytes is None
            assert long.max_rss_bytes is not None
            assert long.max_rss_bytes < 5_000_000

    asyncio.run(main())


def blob(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


class Store:
    """Blobs as a scheduler gives them out."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {sha256(data).hexdigest(): data for data in blobs}
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, cluster_id: str, digest: str) -> bytes:
        assert cluster_id == CLUSTER
        self.asked.append(digest)
        await self.open.wait()
        if digest not in self.blobs:
            raise Unavailable("The scheduler did not answer.", code="unreachable")
        return self.blobs[digest]


def test_files_and_standard_input_are_there_at_the_start(tmp_path: Path) -> None:
    tile, words = b"#!/bin/sh\necho tile $1\n", b"some words\n"

    async def main() -> None:
        store = Store(tile, words)
        async with running(tmp_path, fetch=store.fetch) as runner:
            files = {"tile.sh": blob(tile), "deep/er/words": blob(words)}
            line = "./tile.sh 7; cat deep/er/words; cat; echo spoilt > deep/er/words"
            for fence in (1, 2):  # the second gets what the first one got, not what it made of it
                runner.attempt(CLUSTER, order(line, fence, files=files, stdin=blob(words)))
                assert (await end_of(runner, fence)).exit_code == 0
                assert stream(runner, fence=fence) == b"tile 7\nsome words\nsome words\n"
            assert len(store.asked) == 2

    asyncio.run(main())


def test_an_attempt_is_held_and_not_started_while_its_files_are_fetched(tmp_path: Path) -> None:
    ears = Ears()

    async def main() -> None:
        store = Store(b"data")
        store.open.clear()
        async with running(tmp_path, ears, max_tasks=1, fetch=store.fetch) as runner:
            frame = order("cat x", files={"x": blob(b"data")}, timeout_s=0.001)
            runner.attempt(CLUSTER, frame)
            await soon(lambda: bool(store.asked))
            assert runner.attempts(CLUSTER) == [(1, False)]
            assert ears.told == []
            runner.stop_attempt((CLUSTER, 1), 5.0)
            end = await end_of(runner)
            assert (end.cause, end.started_at) == ("stopped", None)
            runner.attempt(CLUSTER, order("cat x", 2, files={"x": blob(b"data")}))
            store.open.set()
            await end_of(runner, 2)
            assert stream(runner, fence=2) == b"data"

    asyncio.run(main())


def test_files_that_cannot_be_fetched_are_the_fault_of_the_worker(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store()
        wrong = sha256(b"right").hexdigest()
        store.blobs[wrong] = b"wrong"
        async with running(tmp_path, fetch=store.fetch) as runner:
            runner.attempt(CLUSTER, order("true", 1, files={"x": blob(b"none")}))
            missing = await end_of(runner, 1)
            assert missing.cause == "worker_failed"
            assert "could not be fetched: The scheduler did not answer." in (missing.error or "")
            runner.attempt(CLUSTER, order("true", 2, stdin=f"sha256:{wrong}"))
            assert "another hash" in ((await end_of(runner, 2)).error or "")

    asyncio.run(main())


def hungry(megabytes: int) -> str:
    """A line that has so much memory in one process for a moment."""
    return f"head -c {megabytes}000000 /dev/zero | tail"


@pytest.fixture(params=["with", "without"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Limits with control groups and without."""
    if request.param == "without":
        monkeypatch.setattr(limits, "_places", lambda *_: [])
    else:
        probe = limits.Limits("dtask-probe")
        made = probe.bounds("m", cpus=None, memory_mb=64).groups
        probe.close()
        if not made:
            pytest.skip("this machine gives us no control groups for limits")
    return str(request.param)


def test_an_attempt_is_held_to_its_memory(
    groups: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order(f"{hungry(200)} > /dev/null && echo had", memory_mb=100))
            end = await end_of(runner)
            assert end.exit_code not in (0, None)
            assert stream(runner) == b""
            assert end.error is not None
            if groups == "with":
                assert "more memory than its limit of 100 MB" in end.error
            else:
                assert "memory is held to its limit for each process alone" in end.error
            runner.attempt(CLUSTER, order(f"{hungry(50)} | wc -c", 2, memory_mb=100))
            assert (await end_of(runner, 2)).exit_code == 0
            assert stream(runner, fence=2) == b"50000000\n"

    asyncio.run(main())
    told = [line for line in caplog.messages if "limits of memory" in line]
    if groups == "with":
        assert not told
    else:
        (line,) = told
        assert line.endswith(
            "memory is held to its limit for each process alone, by address space."
        )


def test_an_attempt_is_held_to_its_cpus(groups: str, tmp_path: Path) -> None:
    """Of one second it may use a fifth."""
    line = "timeout 1 sh -c 'while :; do :; done'; exit 0"

    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order(line, cpus=0.2))
            end = await end_of(runner)
            assert end.cpu_s is not None
            if groups == "with":
                assert end.cpu_s < 0.5
                assert end.error is None
            else:
                assert "CPUs are not limited" in (end.error or "")

    asyncio.run(main())


def test_limits_leave_no_groups_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            paths = [Path(path) for path in runner._limits.paths()]
            runner.attempt(CLUSTER, order("sleep 600", cpus=1.0, memory_mb=100))
            await soon(lambda: runner.attempts(CLUSTER) == [(1, True)])
            made = [path for path in paths if path.exists()]
            runner.drop_attempt((CLUSTER, 1))
            await runner.idle()
            await soon(lambda: not any(entry.is_dir() for path in made for entry in path.iterdir()))
        assert not any(path.exists() for path in paths)

    asyncio.run(main())


def test_each_running_task_has_gpus_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(
            tmp_path, max_tasks=2, gpus_per_task=2, devices=["0", "1", "2", "3", "4"]
        ) as runner:
            line = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER; sleep 600"
            theirs = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4"}
            for fence in (1, 2):
                runner.attempt(CLUSTER, order(line, fence, job_id=fence, env=theirs))
                await soon(lambda fence=fence: stream(runner, fence=fence) != b"")
            assert [stream(runner, fence=fence) for fence in (1, 2)] == [
                b"0,1 PCI_BUS_ID\n",
                b"2,3 PCI_BUS_ID\n",
            ]
            runner.stop_attempt((CLUSTER, 1), 5.0)
            await end_of(runner, 1)
            runner.attempt(CLUSTER, order("echo $CUDA_VISIBLE_DEVICES", 3))
            await end_of(runner, 3)
            assert stream(runner, fence=3) == b"4,0\n"

    asyncio.run(main())


def test_kill_9_of_the_agent_loses_no_end_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = duration()
    lines = ("echo ended; exit 3", f"echo running; sleep {seconds} & wait")
    with attempts_agent(tmp_path / "spool", CLUSTER, *lines) as agent:
        eventually(lambda: bool(sleepers(seconds)))
        guard = guard_of(agent.pid)
        for each in (psutil.Process(agent.pid), guard):
            each.suspend()  # so that the next agent finds what the guard would have killed
        guard.kill()
        agent.kill()
        agent.wait()
    assert sleepers(seconds)
    held_by = limit_groups(tmp_path)
    ears = Ears()

    async def main() -> None:
        for _ in range(2):  # as often as agents come and go
            caplog.clear()
            async with running(tmp_path, ears) as runner:
                (line,) = caplog.messages
                assert "died while it ran 1 attempt of jobs: what was left of it was" in line
                assert sleepers(seconds) == []
                assert not any(path.exists() for path in held_by)
                assert sorted(runner.attempts(CLUSTER)) == [(1, True), (2, True)]
                ended, lost = await end_of(runner, 1), await end_of(runner, 2)
                assert (ended.exit_code, ended.cause) == (3, None)
                assert (lost.exit_code, lost.cause) == (None, "lost")
                assert lost.error is not None
                assert lost.started_at is not None
                assert (ended.stdout_bytes, lost.stdout_bytes) == (6, 8)
                assert stream(runner, fence=1) == b"ended\n"
                assert stream(runner, fence=2) == b"running\n"
                assert ears.told == []
        async with running(tmp_path) as runner:
            for fence in (1, 2):
                runner.forget_attempt((CLUSTER, fence))
        async with running(tmp_path) as runner:
            assert runner.attempts(CLUSTER) == []
            assert list((tmp_path / "spool" / "attempts").iterdir()) == []

    asyncio.run(main())


def test_the_guard_ends_what_is_held_to_limits_and_removes_its_groups(tmp_path: Path) -> None:
    seconds = duration()
    with attempts_agent(tmp_path / "spool", CLUSTER, "true", f"sleep {seconds} & wait") as agent:
        eventually(lambda: bool(sleepers(seconds)))
        held_by = limit_groups(tmp_path)
        agent.kill()
        agent.wait()
        eventually(lambda: not sleepers(seconds) and not any(path.exists() for path in held_by))


def limit_groups(tmp_path: Path) -> set[Path]:
    """The groups that attempts of a spool were held by, as far as there are such."""
    lines = (tmp_path / "spool" / "journal").read_bytes().splitlines()
    return {Path(path) for line in lines for path in json.loads(line).get("limits", ())}


def test_ends_nobody_has_heard_of_wait_for_the_next_life(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as runner:
            runner.attempt(CLUSTER, order("echo out; sleep 600"))
            await soon(lambda: stream(runner) == b"out\n")
        async with running(tmp_path) as runner:
            assert (await end_of(runner)).cause == "returned"
            assert stream(runner) == b"out\n"

    asyncio.run(main())


def test_many_ends_are_kept_until_they_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtask.core.attempts.REMEMBERED_MAX", 2)

    async def main() -> None:
        async with running(tmp_path) as runner:
            for fence in range(20):
                runner.attempt(CLUSTER, order("true", fence, command=("true",)))
                await end_of(runner, fence)
            assert len(runner.attempts(CLUSTER)) == 20
            descriptors = psutil.Process().num_fds()
            for fence in range(20):
                runner.forget_attempt((CLUSTER, fence))
            assert psutil.Process().num_fds() <= descriptors

    asyncio.run(main())
