"""Processes of tests: sleepers that can be told apart, and an agent that can be killed."""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

#: Longest that anything here may take; reached only when it is broken.
PATIENCE_S = 20.0

_numbers = itertools.count(1)

AGENT = """
import asyncio, sys
from pathlib import Path
from dtask.core.attempts import Start
from dtask.worker import runner as module

async def main(path, groups, *lines):
    if groups == "without":
        module.make_group = lambda name: None
    runner = module.Runner(worker_id="w", max_tasks=8, path=Path(path))
    await runner.start()
    for number, line in enumerate(lines):
        runner.begin(Start(f"t{number}", 1, ("sh", "-c", line), {}))
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

ATTEMPTS_AGENT = """
import asyncio, sys
from pathlib import Path
from dtask.worker.runner import Runner
from worker.test_attempts_of_jobs import order

async def main(path, cluster_id, *lines):
    runner = Runner(worker_id="w", max_tasks=8, path=Path(path))
    await runner.start()
    for fence, line in enumerate(lines, 1):
        runner.attempt(cluster_id, order(line, fence, job_id=fence, memory_mb=500))
    while runner.attempt_end((cluster_id, 1)) is None:
        await asyncio.sleep(0.005)
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def duration() -> str:
    """Seconds that no other sleeper on this machine is told to sleep."""
    return f"{600 + next(_numbers)}.{os.getpid()}"


def sleepers(seconds: str) -> list[int]:
    """The living processes that are `sleep SECONDS`."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["cmdline"] == ["sleep", seconds]
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def eventually(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it never came true"
        time.sleep(0.005)


async def soon(condition: Callable[[], bool]) -> None:
    """The same, with the loop running."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it never came true"
        await asyncio.sleep(0.005)


@contextmanager
def agent(path: Path, *lines: str, groups: str = "with") -> Iterator[subprocess.Popen[str]]:
    """An agent that has started a task for each line of shell."""
    with _told(AGENT, str(path), groups, *lines) as process:
        yield process


@contextmanager
def attempts_agent(path: Path, cluster_id: str, *lines: str) -> Iterator[subprocess.Popen[str]]:
    """An agent that has started an attempt for each line of shell, and seen the first one end."""
    with _told(ATTEMPTS_AGENT, str(path), cluster_id, *lines) as process:
        yield process


@contextmanager
def _told(program: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A process that says when it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def guard_of(agent_pid: int) -> psutil.Process:
    """The guard of an agent."""
    found = [
        child
        for child in psutil.Process(agent_pid).children()
        if not is_gone(child) and "dtask.worker.guard" in child.cmdline()
    ]
    assert len(found) == 1
    return found[0]


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, fetched by its parent or not."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
