"""A scheduler and workers as processes that can be killed, stopped and started again.

When a test is done with its site, nothing may be left: no job that has not ended, nothing that is
counted anywhere, no attempt in a spool, no process of a task, no process that does not end well.
"""

import contextlib
import random
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from dtask import Client
from dtask.client.job_results import JobSummary
from servers import PATIENCE_S, SchedulerProcess, scheduler_process
from terminal import Shell, shell_of
from workers import WorkerProcess, worker_process

T = TypeVar("T")

TOKEN = "a-token-for-tests-only"

#: Flags with which a lost worker is found out in seconds.
BRISK = ("--suspect-after", "1.5", "--offline-after", "3")

LIVE = ("pending", "queued", "scheduled", "running")


class Site:
    """Its files are in `home`; `url` stays the same over restarts."""

    def __init__(self, home: Path, stack: ExitStack, flags: tuple[str, ...], data: Path) -> None:
        self.home = home
        self.data = data
        self.url = f"http://127.0.0.1:{free_port()}"
        self.flags = flags
        self.scheduler: SchedulerProcess
        #: Those that run, by id.
        self.workers: dict[str, WorkerProcess] = {}
        #: Where the spools of some of them are; those of the others are in `home`.
        self.spools: dict[str, Path] = {}
        self.client = stack.enter_context(Client(self.url, token=TOKEN, patience_s=PATIENCE_S))
        self.shell: Shell = shell_of(DTASK_SCHEDULER=self.url, DTASK_TOKEN=TOKEN)
        self._stack = stack

    # Processes

    def start_scheduler(self, *flags: str) -> SchedulerProcess:
        """One on this site's data, at its address."""
        port = self.url.rpartition(":")[2]
        arguments = ("--data", str(self.data), "--port", port, "--warm-up", "0")
        process = scheduler_process(*arguments, *self.flags, *flags, env={"DTASK_TOKEN": TOKEN})
        self.scheduler = self._stack.enter_context(process)
        return self.scheduler

    def kill_scheduler(self) -> None:
        self.scheduler.stop(signal.SIGKILL)

    def start_worker(
        self, worker_id: str = "w1", *flags: str, url: str | None = None
    ) -> WorkerProcess:
        """One whose spool outlives it. It reports to `url`, if that is not the scheduler's."""
        arguments = ("--id", worker_id, "--spool", str(self.spool(worker_id)), "--interval", "0.4")
        process: AbstractContextManager[WorkerProcess] = worker_process(
            *arguments, *("--max-tasks", "4", *flags), scheduler=url or self.url, token=TOKEN
        )
        self.workers[worker_id] = self._stack.enter_context(process)
        return self.workers[worker_id]

    def kill_worker(self, worker_id: str = "w1") -> None:
        self.workers.pop(worker_id).stop(signal.SIGKILL)

    def spool(self, worker_id: str) -> Path:
        return self.spools.get(worker_id, self.home / "spool" / worker_id)

    # What there is to see

    def await_workers(self, count: int) -> None:
        """Until so many take jobs."""
        eventually(lambda: self.client.stats().attached == count)

    def state(self, job_id: int, task: str = "main") -> str:
        return self.client.job(job_id).tasks[task].state.value

    def await_state(self, job_id: int, state: str, task: str = "main") -> None:
        eventually(lambda: self.state(job_id, task) == state)

    def causes(self, name: str) -> list[str | None]:
        """How the attempts of a task ended, the first one first."""
        return [attempt.cause for attempt in reversed(self.client.attempts(name))]

    # The end

    def settle(self) -> None:
        """End everything that runs, and see that nothing is left."""
        stats = eventually_equal(self._counted, ({}, 0))
        assert stats == ({}, 0), self._live()
        eventually(lambda: not any(row.current_tasks for row in self.client.workers()))
        for worker_id, worker in self.workers.items():
            assert worker.stop() == 0, worker.log.read_text()
            assert list((self.spool(worker_id) / "attempts").iterdir()) == []
        assert self.scheduler.stop() == 0, self.scheduler.log.read_text()
        assert strays(self.home) == []
        for log in (self.scheduler.log, *(worker.log for worker in self.workers.values())):
            assert "Traceback" not in log.read_text()
            assert "a bug in dtask" not in log.read_text()

    def _counted(self) -> tuple[dict[str, int], int]:
        stats = self.client.stats()
        return {state: count for state, count in stats.tasks.items() if count}, stats.jobs

    def _live(self) -> list[JobSummary]:
        return self.client.jobs(state=LIVE)


@contextmanager
def site(*flags: str, workers: int = 0, data: Path | None = None) -> Iterator[Site]:
    """A site whose scheduler has these flags and this data, and `w1`, `w2`, .. that take jobs."""
    with tempfile.TemporaryDirectory(prefix="dtask-site-") as home, ExitStack() as stack:
        place = Site(Path(home), stack, flags, data or Path(home, "data"))
        place.start_scheduler()
        for number in range(1, workers + 1):
            place.start_worker(f"w{number}")
        place.await_workers(workers)
        yield place
        place.settle()


def eventually(look: Callable[[], T], *, within_s: float = PATIENCE_S) -> T:
    """The first answer of `look` that is not falsy."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


def eventually_equal(look: Callable[[], T], wanted: T) -> T:
    """What `look` answers once it is `wanted`, or in the end."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: look() == wanted)
    return look()


def strays(home: Path) -> list[str]:
    """The processes of tasks whose worker has its spool in this directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        told: dict[str, Any] = process.info
        result = (told["environ"] or {}).get("DTASK_RESULT", "")
        if result.startswith(str(home)) and told["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"{process.pid} {' '.join(told['cmdline'] or [])}")
    return found


def free_port() -> int:
    """A port that no connection is given of itself, even while nobody listens on it."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20_000, low - 1_000), low)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
