import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dtask.wire.frames import EndedFrame, StartFrame
from dtask.worker.run import Key
from dtask.worker.runner import Runner
from worker.processes import soon

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
