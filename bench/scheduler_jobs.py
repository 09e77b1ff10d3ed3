"""How many tasks a second can the scheduler alone take, hand out, hear of and keep?

Its workers run nothing: they answer each start with its end at once, from a process of their own.
Everything else is as in production: SQLite with an fsync for each commit, events, the channel. The
floor is the store alone: the same rows, in as many commits as the scheduler made of them.
"""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import program

from dtask import Client
from dtask.bench import servers, traffic
from dtask.bench.figures import Figure
from dtask.bench.servers import Server
from dtask.core.jobs.rows import AttemptRow, Change, JobRow, TaskRow
from dtask.core.jobs.states import State
from dtask.credentials import find_token
from dtask.store.sqlite import SqliteStore

RATE_LIMIT = 5_000.0
CPU_US_LIMIT = 150.0
WORKERS, SLOTS = 4, 100

#: Tasks of a submit, and connections that submit.
BATCH, CONNECTIONS = 100, 16

COMMITS = "dtask_store_commit_seconds_count "

MILLION = 1_000_000
SUBMIT_LIMIT_S = 2.0
MEMORY_LIMIT_MIB = 150.0


class Place(NamedTuple):
    """A scheduler, a client of it, and what opens it."""

    server: Server
    client: Client
    token: str


class Spent(NamedTuple):
    """Seconds, and those of the scheduler's processor time."""

    seconds: float
    cpu_s: float


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    with instant() as place:
        run(place.client, 200)
        yield from of_batches(place, 20 if small else 500, 1 if small else 5)
        yield from of_an_array(place, 2_000 if small else 50_000, 1 if small else 3)
        yield from of_single_jobs(place, 200 if small else 3_000)
    yield from of_a_million(MILLION // 100 if small else MILLION)


def of_batches(place: Place, jobs: int, rounds: int) -> Iterator[Figure]:
    """Many submits at once, each durable before it is answered, beside what their rows cost."""
    tasks = jobs * BATCH
    spent: list[Spent] = []
    floors: list[float] = []
    loads: list[float] = []
    for _ in range(rounds):
        before = commits(place.server)
        spent.append(timed(place.server, lambda: submit_batches(place, jobs)))
        floors.append(tasks / store_alone(jobs, commits(place.server) - before))
        loads.append(os.getloadavg()[0])
    load = f"load of the machine {statistics.median(loads):.1f}"
    what = f"{jobs:,} submits of {BATCH} tasks, {CONNECTIONS} at a time, to the end of all"
    yield Figure(
        what=f"{what} ({load})",
        value=tasks / statistics.median(one.seconds for one in spent),
        unit="tasks/s",
        peer="the store alone, their rows in as many commits",
        peer_value=statistics.median(floors),
        limit=RATE_LIMIT,
        better="more",
    )
    yield processor(spent, tasks)


def of_an_array(place: Place, tasks: int, rounds: int) -> Iterator[Figure]:
    """One submit of many tasks."""
    spent = [timed(place.server, lambda: run(place.client, tasks)) for _ in range(rounds)]
    yield Figure(
        what=f"an array of {tasks:,} whose elements end at once, from submit to its end",
        value=tasks / statistics.median(one.seconds for one in spent),
        unit="tasks/s",
        limit=RATE_LIMIT,
        better="more",
    )
    yield processor(spent, tasks)


def processor(spent: Sequence[Spent], tasks: int) -> Figure:
    """What one task took of it."""
    return Figure(
        what="the same, processor time of the scheduler a task",
        value=statistics.median(one.cpu_s for one in spent) / tasks * 1e6,
        unit="us",
        limit=CPU_US_LIMIT,
    )


def of_single_jobs(place: Place, jobs: int) -> Iterator[Figure]:
    """One submit after the other, of one task each."""
    spent = timed(place.server, lambda: submit_singles(place.client, jobs))
    yield Figure(
        what=f"{jobs:,} jobs of one task, one submit after the other",
        value=jobs / spent.seconds,
        unit="jobs/s",
    )
    yield Figure(
        what="the same, processor time of the scheduler a job",
        value=spent.cpu_s / jobs * 1e6,
        unit="us",
    )


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


def timed(server: Server, act: Callable[[], None]) -> Spent:
    """What this took."""
    before = server.cpu_s()
    started = time.perf_counter()
    act()
    return Spent(time.perf_counter() - started, server.cpu_s() - before)


def run(client: Client, tasks: int) -> None:
    """One array, to its end."""
    assert client.submit(["true"], array=tasks).wait().ok


def submit_singles(client: Client, jobs: int) -> None:
    """Jobs of one task, to their ends."""
    for job_id in [client.submit(["true"]).id for _ in range(jobs)]:
        client.wait(job_id)


def submit_batches(place: Place, jobs: int) -> None:
    """Jobs of `BATCH` tasks over several connections, to the end of all."""
    before = place.client.stats().ended["succeeded"]
    shares = [len(range(first, jobs, CONNECTIONS)) for first in range(CONNECTIONS)]
    traffic.run(place.server.url, [submits(place.token, share) for share in shares])
    while any(place.client.stats().tasks.values()):
        time.sleep(0.01)
    assert place.client.stats().ended["succeeded"] - before == jobs * BATCH


def submits(token: str, jobs: int) -> traffic.Script:
    """What one connection asks, one after the other."""
    body = json.dumps({"command": ["true"], "array": BATCH}).encode()
    for _ in range(jobs):
        status, answer = yield traffic.request("POST", "/api/v1/jobs", body, token=token)
        assert status == 201, answer


def commits(server: Server) -> int:
    """How often the scheduler has committed."""
    lines = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
    (count,) = (line.split()[1] for line in lines if line.startswith(COMMITS))
    return int(float(count))


def store_alone(jobs: int, groups: int) -> float:
    """Seconds to commit the rows of so many jobs of `BATCH` tasks, in so many groups."""
    changes = [row for job_id in range(1, jobs + 1) for row in rows(job_id)]
    size = math.ceil(len(changes) / groups)
    with tempfile.TemporaryDirectory() as home:
        store = SqliteStore(Path(home) / "dtask.db")
        started = time.perf_counter()
        for first in range(0, len(changes), size):
            store.commit(changes[first : first + size])
        spent_s = time.perf_counter() - started
        store.close()
    return spent_s


def rows(job_id: int) -> Iterator[Change]:
    """A job, and each of its tasks when it is given to a worker, and when that says how it went."""
    now = time.time()
    yield JobRow(
        job_id=job_id,
        name="",
        queue="default",
        priority=0,
        key=None,
        digest="0" * 64,
        state=State.QUEUED,
        submitted_at=now,
        ended_at=None,
        cancelled=False,
        spec=json.dumps({"tasks": {"main": {"command": ["true"], "array": BATCH}}}),
    )
    for state in (State.SCHEDULED, State.RUNNING, State.SUCCEEDED):
        for index in range(BATCH):
            fence = job_id * BATCH + index
            yield AttemptRow(job_id, "main", index, 1, fence, "instant-1", state, now, now)
            if state is not State.RUNNING:  # start and end are told at once: one row of the task
                yield TaskRow(job_id, "main", index, state, None, None, number=1, queued_at=now)


@contextlib.contextmanager
def instant() -> Iterator[Place]:
    """A scheduler with workers that end everything at once."""
    with servers.scheduler() as server, client_of(server) as client:
        token = token_of(server)
        arguments = [server.url, token, str(WORKERS), str(SLOTS)]
        workers = subprocess.Popen([sys.executable, "-m", "dtask.bench.instant", *arguments])
        try:
            yield Place(server, client, token)
        finally:
            workers.kill()
            workers.wait()


@contextlib.contextmanager
def client_of(server: Server) -> Iterator[Client]:
    """A client with the token of this scheduler."""
    with Client(server.url, token=token_of(server)) as client:
        yield client


def token_of(server: Server) -> str:
    """The token of this scheduler."""
    return find_token(f"{server.environment['XDG_STATE_HOME']}/dtask/token")


if __name__ == "__main__":
    program.run("scheduler_jobs", main)
