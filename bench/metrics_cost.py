"""What do metrics cost placements, with a scrape every second, and how long does a scrape take?

One scheduler counts and does not count in turn, in short rounds (`uncounted.py`): two processes of
one program differ by some percent, so they would tell of nothing smaller. A round of one and the
next one of the other are a pair, and the median of the pairs counts: a machine that is shared is
slow for seconds, and then for both of a pair.
"""

import contextlib
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import program

from dtask.bench import measure, traffic, workload
from dtask.bench.figures import Figure
from dtask.bench.servers import Server
from dtask.bench.traffic import Script

PAIRS = 60
ROUND_S = 1.0
CONNECTIONS = 16
SCRAPE_EVERY_S = 1.0
SCRAPES = 20

COST_LIMIT_PERCENT = 5.0
SCRAPE_LIMIT_MS = 20.0

_UNCOUNTED = str(Path(__file__).parent / "uncounted.py")


class Round(NamedTuple):
    """What came of one round of one server."""

    placements: int
    rate: float
    cpu_s: float


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    yield from throughput(500, *((1, 0.5) if small else (PAIRS, ROUND_S)))
    for workers in [500] if small else [500, 50_000]:
        with measure.fleet(workers) as server:
            yield Figure(
                what=f"GET /metrics, {workers:,} workers",
                value=1e3 * statistics.median(scrapes_s(server)),
                unit="ms",
                limit=SCRAPE_LIMIT_MS,
            )


def throughput(workers: int, pairs: int, seconds: float) -> Iterator[Figure]:
    """Placements a second, and the processor time of one, with metrics and without."""
    rounds: dict[bool, list[Round]] = {True: [], False: []}
    for counted, one in in_turn(workers, pairs, seconds):
        rounds[counted].append(one)
    shares = [mine.rate / other.rate for mine, other in zip(*rounds.values(), strict=True)]
    what = f"{workers:,} workers, counted and scraped every second"
    yield Figure(
        what=f"POST /schedule, {what}",
        value=statistics.median(one.rate for one in rounds[True]),
        unit="/s",
        peer="not counted, not scraped, /s",
        peer_value=statistics.median(one.rate for one in rounds[False]),
        better="more",
    )
    yield Figure(
        what=f"processor of the scheduler for a placement and its end, {what}",
        value=1e6 * cpu_s(rounds[True]),
        unit="us",
        peer="not counted, not scraped, us",
        peer_value=1e6 * cpu_s(rounds[False]),
    )
    yield Figure(
        what="throughput that metrics cost",
        value=max(0.0, 100 * (1 - statistics.median(shares))),
        unit="%",
        limit=COST_LIMIT_PERCENT,
    )


def in_turn(workers: int, pairs: int, seconds: float) -> Iterator[tuple[bool, Round]]:
    """Rounds of one process while it counts, and while it does not."""
    with switched(workers) as server:
        placements(server, "warm", measure.WARM_S, counted=True)
        for number in range(pairs):
            for counted in (True, False) if number % 2 else (False, True):
                yield counted, placements(server, f"r{number}", seconds, counted=counted)


def cpu_s(rounds: list[Round]) -> float:
    """Processor seconds of one placement."""
    return sum(one.cpu_s for one in rounds) / sum(one.placements for one in rounds)


@contextlib.contextmanager
def switched(workers: int) -> Iterator[Server]:
    """As `measure.fleet`, of a scheduler that can do without its counters."""
    with tempfile.TemporaryDirectory() as home:
        arguments = [_UNCOUNTED, "--port", "0", *measure.PATIENT]
        server = Server(arguments, {"XDG_STATE_HOME": home})
        try:
            measure.join(server, workers)
            yield server
        finally:
            server.stop()


def placements(server: Server, name: str, seconds: float, *, counted: bool) -> Round:
    """Placements over 16 connections, one of which scrapes now and then if they are counted."""
    os.kill(server.pid, signal.SIGUSR2 if counted else signal.SIGUSR1)
    running = traffic.until(seconds)
    scripts = [workload.schedule_and_release(f"{name}-{i}", running) for i in range(CONNECTIONS)]
    if counted:
        scripts[0] = scraping(scripts[0])
    before_s = server.cpu_s()
    tally = traffic.run(server.url, scripts)
    placed = tally.count("POST", workload.OK)
    return Round(placed, placed / tally.seconds, server.cpu_s() - before_s)


def scraping(script: Script) -> Script:
    """The same script with a scrape in between, every second."""
    due = 0.0
    request = next(script)
    with contextlib.suppress(StopIteration):
        while True:
            if time.perf_counter() >= due:
                due = time.perf_counter() + SCRAPE_EVERY_S
                status, body = yield traffic.request("GET", "/metrics")
                assert status == workload.OK, body
            request = script.send((yield request))


def scrapes_s(server: Server) -> Iterator[float]:
    """Seconds of each of some scrapes over one connection, as Prometheus makes them."""
    with httpx.Client(trust_env=False) as client:
        for _ in range(SCRAPES):
            began = time.perf_counter()
            client.get(f"{server.url}/metrics").raise_for_status()
            yield time.perf_counter() - began


if __name__ == "__main__":
    program.run("metrics_cost", main)
