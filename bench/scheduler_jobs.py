"""How many tasks a second can the scheduler alone take, hand out, hear of and keep?

Its workers run nothing: they answer each start with its end at once, from a process of their own.
Everything else is as in production: SQLite with an fsync for each commit, events, the channel.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import program

from dtask import Client
from dtask.bench import servers
from dtask.bench.figures import Figure
from dtask.bench.servers import Server
from dtask.credentials import find_token

RATE_LIMIT = 5_000.0
CPU_US_LIMIT = 150.0
WORKERS, SLOTS = 4, 100

MILLION = 1_000_000
SUBMIT_LIMIT_S = 2.0
MEMORY_LIMIT_MIB = 150.0


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    with instant() as (server, client):
        run(client, 200)
        tasks = 2_000 if small else 50_000
        rounds = [timed(server, client, tasks) for _ in range(1 if small else 3)]
        rate, cpu_us = max(rounds)
        yield Figure(
            what=f"an array of {tasks:,} whose elements end at once, from submit to its end",
            value=rate,
            unit="tasks/s",
            limit=RATE_LIMIT,
            better="more",
        )
        yield Figure(
            what="the same, processor time of the scheduler a task",
            value=cpu_us,
            unit="us",
            limit=CPU_US_LIMIT,
        )
        jobs = 200 if small else 3_000
        started, before = time.perf_counter(), server.cpu_s()
        for job_id in [submit(client) for _ in range(jobs)]:
            client.wait(job_id)
        yield Figure(
            what=f"{jobs:,} jobs of one task, one submit after the other",
            value=jobs / (time.perf_counter() - started),
            unit="jobs/s",
        )
        yield Figure(
            what="the same, processor time of the scheduler a job",
            value=(server.cpu_s() - before) / jobs * 1e6,
            unit="us",
        )
    yield from of_a_million(MILLION // 100 if small else MILLION)


def of_a_million(elements: int) -> Iterator[Figure]:
    """What a huge array costs at its submit."""
    with servers.scheduler() as server, client_of(server) as client:
        client.submit(["true"], tags=["nobody"]).cancel()
        before = server.memory_bytes()
        started = time.perf_counter()
        job = client.submit(["true"], array=elements, tags=["nobody"])
        spent_s = time.perf_counter() - started
        yield Figure(
            what=f"submit of an array of {elements:,}, answered",
            value=spent_s,
            unit="s",
            limit=SUBMIT_LIMIT_S,
        )
        yield Figure(
            what="the same, memory of the scheduler above the idle one's",
            value=(server.memory_bytes() - before) / 2**20,
            unit="MiB",
            limit=MEMORY_LIMIT_MIB,
        )
        job.cancel()


def timed(server: Server, client: Client, tasks: int) -> tuple[float, float]:
    """Tasks a second, and us of the scheduler's processor time a task."""
    before = server.cpu_s()
    started = time.perf_counter()
    run(client, tasks)
    spent_s = time.perf_counter() - started
    return tasks / spent_s, (server.cpu_s() - before) / tasks * 1e6


def run(client: Client, tasks: int) -> None:
    """One array, to its end."""
    assert client.submit(["true"], array=tasks).wait().ok


def submit(client: Client) -> int:
    """One job of one task."""
    return client.submit(["true"]).id


@contextlib.contextmanager
def instant() -> Iterator[tuple[Server, Client]]:
    """A scheduler with workers that end everything at once."""
    with servers.scheduler() as server, client_of(server) as client:
        token = find_token(f"{server.environment['XDG_STATE_HOME']}/dtask/token")
        arguments = [server.url, token, str(WORKERS), str(SLOTS)]
        workers = subprocess.Popen([sys.executable, "-m", "dtask.bench.instant", *arguments])
        try:
            yield server, client
        finally:
            workers.kill()
            workers.wait()


@contextlib.contextmanager
def client_of(server: Server) -> Iterator[Client]:
    """A client with the token of this scheduler."""
    token_file = f"{server.environment['XDG_STATE_HOME']}/dtask/token"
    with Client(server.url, token=find_token(token_file)) as client:
        yield client


if __name__ == "__main__":
    program.run("scheduler_jobs", main)
