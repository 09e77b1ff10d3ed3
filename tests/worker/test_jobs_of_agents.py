"""The worker process and attempts of jobs: how it is killed, drained and told apart."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from dtask.wire.frames import StartFrame
from servers import (
    RunningScheduler,
    SchedulerProcess,
    bearer,
    running_scheduler,
    scheduler_process,
)
from worker.counterpart import TOKEN, Counterpart, Front, shell, start_frame
from worker.processes import duration, eventually, sleepers, soon
from worker.recording import Recorder
from workers import WorkerProcess, worker_process

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def scheduling() -> AsyncIterator[tuple[Counterpart, Recorder, str]]:
    """A scheduler at one address: its channels, its heartbeats and its URL."""
    async with (
        Counterpart() as channels,
        Recorder() as heartbeats,
        Front(heartbeats.port, channels.port) as front,
    ):
        yield channels, heartbeats, front.url


@asynccontextmanager
async def worker(url: str, path: Path, *arguments: str) -> AsyncIterator[WorkerProcess]:
    """A worker process that keeps its spool from one life to the next."""
    process = worker_process(
        *("--id", "w1", "--spool", str(path / "spool"), *arguments), scheduler=url, token=TOKEN
    )
    started = await asyncio.to_thread(process.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


async def exit_code(process: WorkerProcess) -> int:
    return await asyncio.to_thread(process.process.wait, 20)


def test_end_that_was_not_heard_survives_the_kill_of_the_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with scheduling() as (channels, _, url):
            channels.hears = False
            async with worker(url, tmp_path) as first:
                await channels.greeted()
                await channels.order(shell(1, "echo once; exit 4"))
                await channels.until(lambda: channels.told(1) == 1)
                first.process.kill()
                await exit_code(first)
            channels.hears = True
            async with worker(url, tmp_path):
                await channels.until(lambda: channels.told(1) == 2)
            assert channels.end(1).exit_code == 4
            assert channels.log(1) == b"once\n"
            assert channels.hellos[0].incarnation != channels.hellos[1].incarnation
            async with worker(url, tmp_path):
                await channels.greeted(3)
            assert channels.hellos[2].held == ()

    asyncio.run(main())


def test_attempt_of_a_killed_worker_is_gone_and_told_as_lost_with_its_log(tmp_path: Path) -> None:
    async def main() -> None:
        seconds = duration()
        async with scheduling() as (channels, _, url):
            async with worker(url, tmp_path) as first:
                await channels.greeted()
                await channels.order(shell(1, f"echo before; exec sleep {seconds}"))
                await channels.until(lambda: channels.log(1) == b"before\n")
                first.process.kill()
                await exit_code(first)
            async with worker(url, tmp_path):
                await channels.until(lambda: channels.told(1) == 1)
                assert sleepers(seconds) == []
            assert channels.end(1).cause == "lost"

    asyncio.run(main())


def test_drained_worker_waits_for_its_attempt_and_until_its_end_was_heard(tmp_path: Path) -> None:
    async def main() -> None:
        go = tmp_path / "go"
        async with scheduling() as (channels, heartbeats, url):
            async with worker(url, tmp_path) as process:
                await channels.greeted()
                await channels.order(shell(1, f"until [ -e {go} ]; do sleep 0.02; done; exit 6"))
                await channels.until(lambda: channels.started == [1])
                process.process.send_signal(signal.SIGTERM)
                await heartbeats.until(lambda: heartbeats.last["draining"])
                assert heartbeats.last["current_tasks"] == 0
                await channels.order(shell(2, "exit 0"))
                await channels.until(lambda: channels.told(2) == 1)
                channels.hears = False
                go.touch()
                await channels.until(lambda: channels.told(1) == 1)
                assert process.process.poll() is None
                await channels.hear()
                assert await exit_code(process) == 0
            assert channels.end(1).exit_code == 6
            assert (channels.end(2).cause, channels.started) == ("returned", [1])
            await heartbeats.until(lambda: heartbeats.last["leaving"])
            assert channels.connection is None

    asyncio.run(main())


def test_drained_worker_that_nobody_hears_leaves_the_end_to_its_next_life(tmp_path: Path) -> None:
    async def main() -> None:
        seconds = duration()
        async with scheduling() as (channels, _, url):
            async with worker(url, tmp_path, "--grace", "0") as process:
                await channels.greeted()
                channels.hears = False
                await channels.order(start_frame(1, "sleep", seconds))
                await channels.until(lambda: channels.started == [1])
                process.process.send_signal(signal.SIGTERM)
                await channels.until(lambda: channels.told(1) == 1)
                process.process.send_signal(signal.SIGTERM)  # or it would wait for seconds
                assert await exit_code(process) == 0
            channels.hears = True
            async with worker(url, tmp_path):
                await channels.until(lambda: channels.told(1) == 2)
            end = channels.end(1)
            assert (end.cause, end.error) == ("returned", "Its worker was shut down.")

    asyncio.run(main())


def test_worker_without_its_scheduler_goes_on_and_tells_everything_when_it_is_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        go, ended = tmp_path / "go", tmp_path / "ended"
        async with scheduling() as (channels, heartbeats, url), worker(url, tmp_path):
            await channels.greeted()
            wait = f"until [ -e {go} ]; do sleep 0.02; done"
            await channels.order(shell(1, f"{wait}; head -c 9M /dev/zero; touch {ended}"))
            await channels.until(lambda: channels.started == [1])
            channels.refusal = (503, b"")
            channels.cut()
            await heartbeats.until(lambda: heartbeats.last["current_tasks"] == 1)
            go.touch()
            await soon(ended.exists)
            channels.refusal = None
            await channels.until(lambda: channels.told(1) == 1)
            assert channels.log(1) == bytes(9 * 1024**2)

    asyncio.run(main())


# With the real scheduler


@contextmanager
def jobs(scheduler: RunningScheduler) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{scheduler.url}/api/v1", headers=bearer(scheduler.token), timeout=30
    ) as client:
        yield client


def submitted(client: httpx.Client, *command: str) -> str:
    answer = client.post("/jobs", json={"command": command})
    assert answer.status_code == 201, answer.text
    return f"/jobs/{answer.json()['job_id']}"


def state(client: httpx.Client, job: str) -> Any:
    return client.get(job).json()["state"]


def test_job_runs_on_a_worker_and_takes_one_slot_of_it() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", "--interval", "0.2", scheduler=scheduler.url) as process,
        jobs(scheduler) as client,
    ):
        go = process.log.with_name("go")
        line = f"echo hello; until [ -e {go} ]; do sleep 0.02; done; exit 3"
        job = submitted(client, "sh", "-c", line)
        eventually(lambda: state(client, job) == "running")
        eventually(lambda: client.get(f"{job}/tasks/main/log").text == "hello\n")
        seq = client.get("/workers").json()[0]["last_heartbeat"]
        eventually(lambda: client.get("/workers").json()[0]["last_heartbeat"] > seq)
        [row] = client.get("/workers").json()
        assert (row["current_tasks"], row["reported_tasks"]) == (1, 0)
        go.touch()
        eventually(lambda: state(client, job) == "failed")
        assert client.get(job).json()["tasks"]["main"]["exit_code"] == 3
        eventually(lambda: client.get("/workers").json()[0]["current_tasks"] == 0)


def test_files_of_a_task_are_fetched_from_its_scheduler() -> None:
    data = b"read me\n"
    digest = sha256(data).hexdigest()
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url),
        jobs(scheduler) as client,
    ):
        client.put(f"/blobs/{digest}", content=data).raise_for_status()
        body = {
            "command": ["sh", "-c", "cat in/file -"],
            "files": {"in/file": f"sha256:{digest}"},
            "stdin": f"sha256:{digest}",
        }
        answer = client.post("/jobs", json=body)
        assert answer.status_code == 201, answer.text
        job = f"/jobs/{answer.json()['job_id']}"
        eventually(lambda: state(client, job) in ("succeeded", "failed"))
        assert client.get(f"{job}/tasks/main/log").text == "read me\n" * 2


def test_jobs_go_on_when_the_worker_is_killed_and_started_again(tmp_path: Path) -> None:
    with running_scheduler() as scheduler, jobs(scheduler) as client:
        arguments = ("--id", "w1", "--spool", str(tmp_path))
        seconds = duration()
        with worker_process(*arguments, scheduler=scheduler.url) as first:
            job = submitted(client, "sh", "-c", f"[ $DTASK_NUMBER = 2 ] || exec sleep {seconds}")
            eventually(lambda: len(sleepers(seconds)) == 1)
            first.process.kill()
            first.process.wait()
            with worker_process(*arguments, scheduler=scheduler.url, addr=first.address):
                eventually(lambda: state(client, job) == "succeeded")
        assert sleepers(seconds) == []
        assert client.get(job).json()["tasks"]["main"]["number"] == 2


def test_killed_scheduler_that_comes_back_finds_what_runs_and_what_ended(tmp_path: Path) -> None:
    token = "a-token-for-tests-only"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def scheduler() -> AbstractContextManager[SchedulerProcess]:
        return scheduler_process(
            *("--data", str(tmp_path / "data"), "--port", str(port), "--warm-up", "0"),
            env={"DTASK_TOKEN": token},
        )

    def client(url: str) -> httpx.Client:
        return httpx.Client(base_url=f"{url}/api/v1", headers=bearer(token), timeout=30)

    go, runs = tmp_path / "go", tmp_path / "runs"
    line = f"echo $DTASK_TASK >> {runs}; until [ -e {go} ]; do sleep 0.02; done; echo done"
    with contextlib.ExitStack() as stack:
        with scheduler() as first, client(first.url) as http:
            stack.enter_context(worker_process("--id", "w1", scheduler=first.url, token=token))
            commands = {"short": line, "long": line.replace(str(go), f"{go}2")}
            tasks = {name: {"command": ["sh", "-c", each]} for name, each in commands.items()}
            job = f"/jobs/{http.post('/jobs', json={'tasks': tasks}).json()['job_id']}"
            eventually(lambda: runs.exists() and len(runs.read_text().split()) == 2)
            first.process.kill()
            first.process.wait()
        go.touch()
        with scheduler() as second, client(second.url) as http:
            eventually(lambda: http.get(job).json()["tasks"]["short"]["state"] == "succeeded")
            assert http.get(job).json()["tasks"]["long"]["state"] == "running"
            tmp_path.joinpath("go2").touch()
            eventually(lambda: state(http, job) == "succeeded")
            assert http.get(f"{job}/tasks/short/log").text == "done\n"
            assert http.get(f"{job}/tasks/long/log").text == "done\n"
            assert sorted(runs.read_text().split()) == ["long", "short"]
            stack.close()


def test_tasks_that_run_at_once_never_see_the_same_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks 1 and 2 hold a GPU each; task 3 gets the one that comes free, while 2 goes on."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")

    def task(fence: int) -> StartFrame:
        go = tmp_path / str(fence)
        return shell(fence, f"echo $CUDA_VISIBLE_DEVICES; until [ -e {go} ]; do sleep 0.02; done")

    async def main() -> None:
        async with (
            scheduling() as (channels, _, url),
            worker(url, tmp_path, "--gpus-per-task", "1", "--max-tasks", "2"),
        ):
            await channels.greeted()
            await channels.order(task(1), task(2))
            await channels.until(lambda: b"" not in (channels.log(1), channels.log(2)))
            assert {channels.log(1), channels.log(2)} == {b"GPU-a\n", b"GPU-b\n"}
            (tmp_path / "1").touch()
            await channels.until(lambda: channels.told(1) == 1)
            await channels.order(task(3))
            await channels.until(lambda: channels.log(3) != b"")
            assert channels.log(3) == channels.log(1)
            (tmp_path / "2").touch()
            (tmp_path / "3").touch()
            await channels.until(lambda: channels.told(2) == channels.told(3) == 1)

    asyncio.run(main())
