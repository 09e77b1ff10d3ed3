"""How long until a command has started and answered?"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import program

from dtask.bench import servers
from dtask.bench.figures import Figure

DTASK = str(Path(sys.executable).with_name("dtask"))
VERSION_LIMIT_S = 0.15
WORKERS_LIMIT_S = 0.4


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    times = 2 if small else 15
    bare = median_s([sys.executable, "-c", "pass"], times)
    yield Figure(
        what="dtask --version, median",
        value=median_s([DTASK, "--version"], times),
        unit="s",
        peer="python -c pass, s",
        peer_value=bare,
        limit=VERSION_LIMIT_S,
    )
    with servers.scheduler() as server:
        yield Figure(
            what="dtask workers, median",
            value=median_s(
                [DTASK, "workers", "--scheduler", server.url], times, server.environment
            ),
            unit="s",
            peer="python -c pass, s",
            peer_value=bare,
            limit=WORKERS_LIMIT_S,
        )


def median_s(command: list[str], times: int, environment: dict[str, str] | None = None) -> float:
    """Median seconds from start to exit."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


if __name__ == "__main__":
    program.run("start", main)
