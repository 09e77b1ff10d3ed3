"""Does one core carry 10,000 workers that heartbeat every 3 s?

Each worker has a connection of its own, from raw sockets of another process.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import program

from dtask.bench import servers
from dtask.bench.figures import Figure
from dtask.bench.servers import Server

CPU_LIMIT_PERCENT = 60.0


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    workers, seconds = (200, 4.0) if small else (10_000, 30.0)
    with servers.scheduler() as server:
        command = [
            sys.executable,
            "-m",
            "dtask.bench.beats",
            server.url,
            str(workers),
            str(workers),
        ]
        load = subprocess.Popen(command)
        try:
            wait_for(server, workers)
            cpu_s, started = server.cpu_s(), time.perf_counter()
            lowest = workers
            while time.perf_counter() - started < seconds:
                time.sleep(1.0)  # the measurement's length, not a wait for something
                lowest = min(lowest, count(server, "online"))
            percent = 100 * (server.cpu_s() - cpu_s) / (time.perf_counter() - started)
        finally:
            load.terminate()
            load.wait()
    yield Figure(
        what=f"processor of the scheduler, {workers:,} workers heartbeating every 3 s",
        value=percent,
        unit="% of a core",
        limit=CPU_LIMIT_PERCENT,
    )
    yield Figure(
        what=f"fewest workers online of {workers:,}, seen every second",
        value=lowest,
        unit="workers",
        limit=workers,
        better="more",
    )


def wait_for(server: Server, workers: int) -> None:
    """Wait until so many workers are online."""
    deadline = time.perf_counter() + 60
    while count(server, "online") < workers:
        assert time.perf_counter() < deadline, "the fleet did not join within a minute"
        time.sleep(0.2)


def count(server: Server, status: str) -> int:
    """Workers of this status. One listing a second is part of the load."""
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"{server.url}/api/v1/workers", params={"status": status}, timeout=30)
        return len(answer.json())


if __name__ == "__main__":
    program.run("heartbeats", main)
