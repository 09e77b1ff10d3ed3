"""Measurements over HTTP: dtask and the bare server, alternating in one run.

Machines are noisy, so the two servers run at the same time and are asked in turn, and the median
of the rounds counts. What is compared is a ratio; the absolute figures say what this box can do.
"""

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

from dtask.bench import servers, traffic, workload
from dtask.bench.figures import Figure
from dtask.bench.servers import Server
from dtask.bench.traffic import Tally

CONNECTIONS = 16
ROUNDS = 5
WARM_S = 0.5

#: So that a fleet that heartbeats only once stays online while it is asked.
PATIENT = ("--suspect-after", "86400", "--offline-after", "86400", "--warm-up", "0")


@contextlib.contextmanager
def fleet(workers: int, *, full: bool = False, patient: bool = True) -> Iterator[Server]:
    """A scheduler that knows so many workers, a third of them loaded, or all full."""
    with servers.scheduler(*(PATIENT if patient else ("--warm-up", "0"))) as server:
        join(server, workers, full=full)
        yield server


def join(server: Server, workers: int, *, full: bool = False) -> None:
    """Let so many workers heartbeat once, a third of them loaded, or all full."""
    max_tasks = workload.slots(workers)
    beats = (
        workload.heartbeat(i, max_tasks=max_tasks, current_tasks=max_tasks if full else i % 10)
        for i in range(workers)
    )
    traffic.run(server.url, [workload.once(beats)])


def placements(workers: int, *, seconds: float, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Throughput of POST /schedule as a share of bare: 16 connections of 50 leases each."""
    with fleet(workers) as ours, servers.bare() as bare:

        def ask(url: str, name: str, seconds: float) -> float:
            running = traffic.until(seconds)
            tally = traffic.run(
                url,
                [workload.schedule_and_release(f"{name}-{i}", running) for i in range(CONNECTIONS)],
            )
            return tally.count("POST", workload.OK) / tally.seconds

        yield from _alternate(
            f"POST /schedule, {workers:,} workers", ours, bare, ask, seconds=seconds, rounds=rounds
        )


def refusals(workers: int, *, seconds: float, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Throughput of refusals of a full fleet as a share of bare."""
    with fleet(workers, full=True) as ours, servers.bare() as bare:

        def ask(url: str, name: str, seconds: float) -> float:
            running = traffic.until(seconds)
            path = "/api/v1/schedule" if url == ours.url else "/refuse"
            scripts = [workload.refusals(f"{name}-{i}", path, running) for i in range(CONNECTIONS)]
            tally = traffic.run(url, scripts)
            return tally.count("POST", workload.REFUSED) / tally.seconds

        yield from _alternate(
            f"refusals, {workers:,} full workers", ours, bare, ask, seconds=seconds, rounds=rounds
        )


def latencies(workers: int, *, seconds: float, rounds: int = ROUNDS) -> Iterator[Figure]:
    """One connection, while all workers heartbeat every 3 s: p50 and p99, ours and bare."""
    found: dict[str, list[Tally]] = {"ours": [], "bare": []}
    with (
        fleet(workers, patient=False) as ours,
        servers.bare() as bare,
        heartbeats(ours, workers),
        heartbeats(bare, workers),
    ):
        for number in range(rounds):
            for name, server in (("bare", bare), ("ours", ours)):
                script = workload.schedule_and_release(
                    f"l{number}", traffic.until(seconds / rounds)
                )
                found[name].append(traffic.run(server.url, [script], timed=True))
    p50 = {name: _percentile(tallies, 0.50) for name, tallies in found.items()}
    p99 = {name: _percentile(tallies, 0.99) for name, tallies in found.items()}
    what = f"one connection, {workers:,} workers heartbeating"
    yield Figure(
        what=f"p50 of POST /schedule, {what}",
        value=p50["ours"] * 1e3,
        unit="ms",
        peer="bare, ms",
        peer_value=p50["bare"] * 1e3,
    )
    yield Figure(
        what=f"p99 of POST /schedule, {what}",
        value=p99["ours"] * 1e3,
        unit="ms",
        peer="bare, ms",
        peer_value=p99["bare"] * 1e3,
    )
    yield Figure(
        what="p99 over the bare server's",
        value=p99["ours"] / p99["bare"],
        unit="x",
    )


def batches(workers: int, *, seconds: float, size: int = 100) -> Iterator[Figure]:
    """Placements a second when clients ask for many at once, for four seconds at the most.

    Leases have their usual 30 s; a longer run would meet the limit of a million.
    """
    with servers.scheduler(*PATIENT) as server:
        beats = (
            workload.heartbeat(i, max_tasks=100_000, current_tasks=i % 10) for i in range(workers)
        )
        traffic.run(server.url, [workload.once(beats)])
        running = traffic.until(min(seconds, 4.0))
        scripts = [workload.batches(f"b{i}", size, running) for i in range(4)]
        tally = traffic.run(server.url, scripts)
        yield Figure(
            what=f"placements in batches of {size}, {workers:,} workers",
            value=tally.count("POST", workload.OK) * size / tally.seconds,
            unit="/s",
            better="more",
        )


@contextlib.contextmanager
def heartbeats(server: Server, workers: int) -> Iterator[None]:
    """A process that heartbeats for so many workers, each every 3 s."""
    arguments = [sys.executable, "-m", "dtask.bench.beats", server.url, str(workers)]
    process = subprocess.Popen(arguments)  # noqa: S603 (our own interpreter and module)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _percentile(tallies: list[Tally], share: float) -> float:
    """The median over the rounds of this percentile of a round."""
    return statistics.median(
        sorted(tally.latencies)[int(share * len(tally.latencies))] for tally in tallies
    )


def _alternate(
    what: str,
    ours: Server,
    bare: Server,
    ask: Callable[[str, str, float], float],
    *,
    seconds: float,
    rounds: int,
) -> Iterator[Figure]:
    for server in (bare, ours):
        ask(server.url, "warm", WARM_S)
    rates: dict[str, list[float]] = {ours.url: [], bare.url: []}
    for number in range(rounds):
        for server in (bare, ours):
            rates[server.url].append(ask(server.url, f"r{number}", seconds / rounds / 2))
    mine = statistics.median(rates[ours.url])
    limit = statistics.median(rates[bare.url])
    yield Figure(
        what=f"{what}, 16 connections",
        value=mine,
        unit="/s",
        peer="bare server, /s",
        peer_value=limit,
        better="more",
    )
    yield Figure(
        what=f"{what}, share of the bare server",
        value=100 * mine / limit,
        unit="%",
        better="more",
    )
