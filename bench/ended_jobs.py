"""Do 100,000 ended jobs in the store slow a scheduler down, at its start or afterwards?

First the store alone, then two schedulers with a worker each. One of the two has no jobs, the
other as many as are kept, so that for each job that ends there an older one goes. They are asked
in turn.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import program

from dtask import Client
from dtask.bench import servers
from dtask.bench.figures import Figure
from dtask.bench.servers import Server
from dtask.core.jobs.rows import WHOLE, AttemptRow, Change, JobRow, TaskRow
from dtask.core.jobs.states import State
from dtask.credentials import find_token
from dtask.store.sqlite import SqliteStore

START_LIMIT_S = 5.0
#: Between two that would be equal on a machine without noise.
RATIO_LIMIT = 1.3
#: Jobs of a large commit; each has three rows.
BATCH = 334

_WORKER = "from dtask.cli.worker import main; main()"
_SPEC = '{"tasks":{"main":{"command":["python","train.py","--epochs","10"],"tags":["gpu"]}}}'


class Site(NamedTuple):
    """A scheduler, and a client of it."""

    server: Server
    client: Client


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    jobs, times = (1_000, 3) if small else (100_000, 200)
    with tempfile.TemporaryDirectory() as home:
        filled = Path(home) / "filled"
        fill(filled, jobs)
        yield from of_schedulers(filled, jobs, times)
        yield from of_stores(filled, Path(home) / "empty", jobs, times)


def of_schedulers(filled: Path, jobs: int, times: int) -> Iterator[Figure]:
    """What a start takes, and a job from its submit until its end is known."""
    with contextlib.ExitStack() as stack:
        started = time.perf_counter()
        one = stack.enter_context(site("--data", str(filled), "--keep-jobs", str(jobs)))
        assert one.client.job(jobs).state is State.SUCCEEDED
        filled_s = time.perf_counter() - started
        started = time.perf_counter()
        other = stack.enter_context(site())
        assert other.client.jobs() == []
        yield Figure(
            what=f"start with {jobs:,} ended jobs, until an answer about one",
            value=filled_s,
            unit="s",
            peer="with none, s",
            peer_value=time.perf_counter() - started,
            limit=START_LIMIT_S,
        )
        yield Figure(
            what=f"memory over that of the other, of each of {jobs:,} ended jobs",
            value=(one.server.memory_bytes() - other.server.memory_bytes()) / jobs,
            unit="bytes",
        )
        for place in (one, other):
            stack.enter_context(worker(place))
        yield from compared(
            f"/bin/true submitted and awaited with {jobs:,} ended jobs, median",
            lambda _: run(one.client),
            lambda _: run(other.client),
            times,
        )


def of_stores(filled: Path, empty: Path, jobs: int, times: int) -> Iterator[Figure]:
    """What a start takes of the store alone, and a commit."""
    started = time.perf_counter()
    one = SqliteStore(filled / "dtask.db")
    past = one.load().past
    yield Figure(
        what=f"store of {len(past):,} ended jobs opened and loaded",
        value=time.perf_counter() - started,
        unit="s",
        limit=START_LIMIT_S,
    )
    other = SqliteStore(empty / "dtask.db")
    first = jobs * 2
    for size in (1, BATCH):
        batches = [changes(first + i * size, size) for i in range(times + 1)]
        first += size * (times + 1)
        yield from compared(
            f"commit of {3 * size:,} rows beside {jobs:,} ended jobs, median",
            lambda i: one.commit(batches[i]),  # noqa: B023 (called before the next turn)
            lambda i: other.commit(batches[i]),  # noqa: B023
            times,
        )
    one.close()
    other.close()


def compared(
    what: str, one: Callable[[int], None], other: Callable[[int], None], times: int
) -> Iterator[Figure]:
    """The median time of one beside that of the other, done in turn; the first are not counted."""
    spent = [(timed(one, i), timed(other, i)) for i in range(times + 1)][1:]
    of_one, of_other = (statistics.median(column) * 1e3 for column in zip(*spent, strict=True))
    yield Figure(
        what=what,
        value=of_one,
        unit="ms",
        peer="with none, ms",
        peer_value=of_other,
        limit=of_other * RATIO_LIMIT,
    )


def timed(act: Callable[[int], None], i: int) -> float:
    """Seconds of one act."""
    started = time.perf_counter()
    act(i)
    return time.perf_counter() - started


def fill(directory: Path, jobs: int) -> None:
    """Make a store of jobs that have just ended."""
    store = SqliteStore(directory / "dtask.db")
    for first in range(1, jobs + 1, BATCH):
        store.commit(changes(first, min(BATCH, jobs + 1 - first)))
    store.close()


def changes(first: int, count: int) -> list[Change]:
    """Rows of jobs with these ids, each a task that ran once."""
    now = time.time()
    return [row for job_id in range(first, first + count) for row in ended(job_id, now)]


def ended(job_id: int, now: float) -> tuple[JobRow, TaskRow, AttemptRow]:
    """The rows of a job that has just ended."""
    state = State.SUCCEEDED
    job = JobRow(
        job_id=job_id,
        name="train",
        queue="default",
        priority=0,
        key=f"{job_id:032x}",
        digest=f"{job_id:064x}",
        state=state,
        submitted_at=now - 2,
        ended_at=now,
        cancelled=False,
        spec=_SPEC,
    )
    task = TaskRow(
        job_id, "main", WHOLE, state, None, None, number=1, queued_at=now, ended_at=now, exit_code=0
    )
    attempt = AttemptRow(
        job_id, "main", WHOLE, 1, job_id, "gpu-1", state, now, now, now, exit_code=0, cpu_s=0.5
    )
    return job, task, attempt


@contextlib.contextmanager
def site(*flags: str) -> Iterator[Site]:
    """A scheduler with these flags, and a client of it."""
    with servers.scheduler("--warm-up", "0", *flags) as server:
        token = find_token(f"{server.environment['XDG_STATE_HOME']}/dtask/token")
        with Client(server.url, token=token) as client:
            yield Site(server, client)


@contextlib.contextmanager
def worker(place: Site) -> Iterator[None]:
    """A worker that has run a job."""
    with tempfile.TemporaryDirectory() as spool:
        command = [sys.executable, "-c", _WORKER, "--addr", "127.0.0.1:0", "--spool", spool]
        process = subprocess.Popen(
            [*command, "--scheduler", place.server.url],
            env=place.server.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            run(place.client)
            yield
        finally:
            process.terminate()
            process.wait()


def run(client: Client) -> None:
    """One job, from its submit until its end is known."""
    job = client.submit(["true"])
    assert client.wait(job, timeout_s=60).state is State.SUCCEEDED


if __name__ == "__main__":
    program.run("ended_jobs", main)
