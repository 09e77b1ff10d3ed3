"""How busy do short tasks keep a worker through `run_on`?

One worker with four slots, tasks of 0.1 s: at best 40 tasks a second. Each is placed, started on
the worker by ticket, awaited, its log asked for if it has one, and its lease released.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import program

from dtask import Client
from dtask.bench import servers
from dtask.bench.figures import Figure
from dtask.credentials import find_token

SLOTS = 4
TASK_S = 0.1
SHARE_LIMIT = 80.0
_WORKER = "from dtask.cli.worker import main; main()"


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    tasks = 12 if small else 200
    with servers.scheduler("--warm-up", "0") as server, tempfile.TemporaryDirectory() as spool:
        command = [sys.executable, "-c", _WORKER, "--addr", "127.0.0.1:0", "--spool", spool]
        command += ["--max-tasks", str(SLOTS), "--scheduler", server.url, "--id", "short"]
        worker = subprocess.Popen(
            command,
            env=server.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        token_file = f"{server.environment['XDG_STATE_HOME']}/dtask/token"
        try:
            with Client(server.url, token=find_token(token_file)) as client:
                joined(client)
                client.run_on(["true"], timeout=30)
                started = time.perf_counter()
                with ThreadPoolExecutor(2 * SLOTS) as pool:
                    outcomes = list(pool.map(lambda _: run(client), range(tasks)))
                rate = tasks / (time.perf_counter() - started)
                assert all(outcomes)
                spent = [timed(client) for _ in range(3 if small else 50)]
        finally:
            worker.terminate()
            worker.wait()
    best = SLOTS / TASK_S
    yield Figure(
        what=f"tasks of {TASK_S} s on {SLOTS} slots, share of {best:.0f}/s",
        value=100 * rate / best,
        unit="%",
        limit=SHARE_LIMIT,
        better="more",
    )
    yield Figure(
        what="/bin/true placed, run and released on an idle worker, p50",
        value=sorted(spent)[len(spent) // 2] * 1e3,
        unit="ms",
    )


def joined(client: Client) -> None:
    """Wait until the worker is known: who asks before is told to come back in half a minute."""
    deadline = time.perf_counter() + 30
    while not client.workers():
        assert time.perf_counter() < deadline, "the worker did not join within half a minute"
        time.sleep(0.02)


def run(client: Client) -> bool:
    """One short task; waits for a slot when all are taken."""
    return client.run_on(["sleep", str(TASK_S)], timeout=60).ok


def timed(client: Client) -> float:
    """Seconds of one run of /bin/true."""
    started = time.perf_counter()
    assert client.run_on(["true"], timeout=30).ok
    return time.perf_counter() - started


if __name__ == "__main__":
    program.run("short_tasks", main)
