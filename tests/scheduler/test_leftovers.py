"""What is removed because nobody will ask for it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from dtask.clock import SystemClock
from dtask.core.cluster import Cluster
from dtask.core.jobs.events import Submit
from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.scheduler.blobs import Blobs
from dtask.scheduler.leftovers import remove_blobs, remove_logs
from dtask.scheduler.logs import Logs
from dtask.scheduler.loop import Loop
from dtask.store.memory import MemoryStore


def play(act: Callable[[Loop], Awaitable[None]]) -> None:
    """Act with a loop that turns, over a store in memory."""

    async def main() -> None:
        clock = SystemClock()
        loop = Loop(Cluster(clock.now()), clock, MemoryStore())
        await loop.load()
        turning = asyncio.create_task(loop.run())
        try:
            await act(loop)
        finally:
            turning.cancel()
            await asyncio.wait([turning])
            loop.stop()

    asyncio.run(main())


async def submit(loop: Loop, task: TaskSpec) -> None:
    spec = JobSpec({"main": task})
    await loop.ask(Submit(spec, msgspec.json.encode(spec).decode(), digest=""))


def test_logs_of_jobs_that_nobody_knows_go(tmp_path: Path) -> None:
    for job_id in ("1", "2", "30"):
        (tmp_path / job_id).mkdir()
        (tmp_path / job_id / "main#1.stdout").write_text("text")

    async def act(loop: Loop) -> None:
        logs = Logs(tmp_path)
        await submit(loop, TaskSpec(("true",)))
        await remove_logs(loop, logs)
        logs._remover.shutdown()
        logs.close()

    play(act)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_blobs_that_no_job_names_go_when_they_are_old(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digests = {name: sha256(name.encode()).hexdigest() for name in ("file", "stdin", "old", "new")}
    for name, digest in digests.items():
        blobs.put(digest, name.encode())
        if name != "new":
            os.utime(blobs.path(digest), (0, 0))

    async def act(loop: Loop) -> None:
        await submit(loop, TaskSpec(("true",), files={"f": f"sha256:{digests['file']}"}))
        await submit(loop, TaskSpec(("true",), stdin=f"sha256:{digests['stdin']}"))
        for _ in range(250):  # more than one page of them
            await submit(loop, TaskSpec(("true",)))
        await remove_blobs(loop, blobs)

    play(act)
    left = {name for name, digest in digests.items() if blobs.path(digest).exists()}
    assert left == {"file", "stdin", "new"}
