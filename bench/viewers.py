"""What do 200 viewers of the live stream cost, and what do they do to placements?

A fleet heartbeats, and one connection places and releases, so that each message has something to
tell. It is measured in turn with viewers and without, on one scheduler.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import program

from dtask.bench import traffic, workload
from dtask.bench.figures import Figure
from dtask.bench.measure import fleet, heartbeats
from dtask.bench.servers import Server

ROUNDS = 5
VIEWERS = 200
CPU_LIMIT_PERCENT = 15.0
P99_LIMIT = 2.0

#: Placements of the connection that keeps the fleet busy, a second.
PACE = 100


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    workers, viewers, rounds, seconds = (50, 10, 1, 1.0) if small else (1_000, VIEWERS, ROUNDS, 6.0)
    cpu: dict[bool, list[float]] = {True: [], False: []}
    p99: dict[bool, list[float]] = {True: [], False: []}
    with fleet(workers, patient=False) as server, heartbeats(server, workers):
        for _ in range(rounds):
            for watched in (False, True):
                with watching(server, viewers) if watched else contextlib.nullcontext():
                    percent, latency_s = measure(server, seconds)
                cpu[watched].append(percent)
                p99[watched].append(latency_s)
    with_, without = (statistics.median(cpu[watched]) for watched in (True, False))
    yield Figure(
        what=f"processor of the scheduler for {viewers} viewers, {workers:,} workers",
        value=max(0.0, with_ - without),
        unit="% of a core",
        limit=CPU_LIMIT_PERCENT,
        peer="without viewers, % of a core",
        peer_value=without,
    )
    seen, unseen = (1e3 * statistics.median(p99[watched]) for watched in (True, False))
    yield Figure(
        what=f"p99 of POST /schedule, {viewers} viewers, {workers:,} workers heartbeating",
        value=seen,
        unit="ms",
        peer="without viewers, ms",
        peer_value=unseen,
    )
    yield Figure(
        what="p99 with viewers over without", value=seen / unseen, unit="x", limit=P99_LIMIT
    )


def measure(server: Server, seconds: float) -> tuple[float, float]:
    """Processor of the scheduler in percent of a core, and the p99 of placements in seconds."""
    cpu_s, started = server.cpu_s(), time.perf_counter()
    running = traffic.until(seconds)
    tally = traffic.run(server.url, [paced(running)], timed=True)
    percent = 100 * (server.cpu_s() - cpu_s) / (time.perf_counter() - started)
    return percent, sorted(tally.latencies)[int(0.99 * len(tally.latencies))]


def paced(running: Callable[[], bool]) -> traffic.Script:
    """Placements and releases, so many a second and no more: those who look on are measured."""
    script = workload.schedule_and_release(f"v{time.monotonic_ns()}", running)
    due = time.perf_counter()
    with contextlib.suppress(StopIteration):
        request = next(script)
        while True:
            due += 0.5 / PACE
            time.sleep(max(0.0, due - time.perf_counter()))  # the pace is part of the load
            answer = yield request
            request = script.send(answer)


@contextlib.contextmanager
def watching(server: Server, viewers: int) -> Iterator[None]:
    """A process that reads as many streams, once all have begun."""
    token = Path(server.environment["XDG_STATE_HOME"], "dtask", "token").read_text().strip()
    command = [sys.executable, "-m", "dtask.bench.viewers", server.url, token, str(viewers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 200 * viewers:
            pass
        try:
            yield
        finally:
            process.terminate()
            process.stdout.close()


if __name__ == "__main__":
    program.run("viewers", main)
