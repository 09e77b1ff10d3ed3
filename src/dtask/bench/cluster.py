"""A scheduler with workers, all real processes with default settings, and a client of theirs."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import psutil

from dtask import Client
from dtask.bench import servers
from dtask.bench.servers import Server
from dtask.credentials import find_token

_WORKER: Final = "from dtask.cli.worker import main; main()"
_GUARD: Final = "dtask.worker.guard"

#: The first heartbeat of each worker is answered so soon.
JOINED_S: Final = 30.0


class Usage(NamedTuple):
    """Processor seconds used so far."""

    scheduler_s: float
    agents_s: float
    guards_s: float
    #: Of all tasks.
    tasks_s: float


class Cluster:
    """Its processes, and a client that has the token."""

    def __init__(self, scheduler: Server, workers: list[Server], client: Client) -> None:
        self.scheduler = scheduler
        self.workers = workers
        self.client = client
        self._guards = [
            child
            for worker in workers
            for child in psutil.Process(worker.pid).children()
            if _GUARD in child.cmdline()
        ]

    def run(self, command: list[str], count: int) -> float:
        """An array of so many, from before its submit until its end is known; seconds."""
        started = time.perf_counter()
        result = self.client.submit(command, array=count).wait()
        assert result.ok, result.state
        return time.perf_counter() - started

    def run_one(self, command: list[str]) -> float:
        """One task, from before its submit until its end is known; seconds."""
        started = time.perf_counter()
        result = self.client.submit(command).wait()
        spent_s = time.perf_counter() - started
        assert result.ok, result.state
        return spent_s

    def usage(self) -> Usage:
        """What its processes have used."""
        guards = (guard.cpu_times() for guard in self._guards)
        return Usage(
            self.scheduler.cpu_s(),
            sum(worker.cpu_s() for worker in self.workers),
            sum(times.user + times.system for times in guards),
            sum(worker.children_cpu_s() for worker in self.workers),
        )


@contextlib.contextmanager
def cluster(*, workers: int, slots: int) -> Iterator[Cluster]:
    """So many workers of so many slots, all known to the scheduler when the block begins."""
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(servers.scheduler("--warm-up", "0"))
        flags = ["--addr", "127.0.0.1:0", "--scheduler", scheduler.url, "--max-tasks", str(slots)]
        agents = []
        for number in range(workers):
            arguments = ["-c", _WORKER, *flags, "--id", f"w{number}"]
            agents.append(Server(arguments, scheduler.environment))
            stack.callback(agents[-1].stop)
        token = find_token(f"{scheduler.environment['XDG_STATE_HOME']}/dtask/token")
        client = stack.enter_context(Client(scheduler.url, token=token))
        _await_workers(client, workers)
        yield Cluster(scheduler, agents, client)


def _await_workers(client: Client, count: int) -> None:
    deadline = time.monotonic() + JOINED_S
    while len(client.workers()) < count:
        assert time.monotonic() < deadline, "the workers did not join"
        time.sleep(0.02)
