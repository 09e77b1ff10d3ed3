"""What do promises cost a task that does nothing?

`/bin/true` through two workers with everything on: durable at submit and at its end, output kept,
its tree stopped with it, a guard over its agent. Beside it `xargs -P2 -n1 /bin/true`, which
promises nothing, and bare loops that start, wait and sync a line to the disk. They take turns, and
the median of the rounds counts. Where other programs run meanwhile, the one of most processes gets
the most of the machine: so processor time is compared too. Then one task at a time on the idle
cluster.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import program

from dtask.bench import floor
from dtask.bench.cluster import Cluster, Usage, cluster
from dtask.bench.figures import Figure

WORKERS = 2
#: Slots of each worker; the limit is for as many as a worker has by default on two cores.
SLOTS = (1, 2, 4)
SLOTS_LIMITED = 2
SHARE_LIMIT = 50.0
P50_LIMIT_MS = 5.0
TRUE = ["/bin/true"]


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    tasks, rounds, times = (20, 1, 5) if small else (2_000, 5, 300)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clusters = {
            slots: stack.enter_context(cluster(workers=WORKERS, slots=slots))
            for slots in ((SLOTS_LIMITED,) if small else SLOTS)
        }
        yield from rates(home, clusters, tasks, rounds)
        yield from latency(home, clusters[SLOTS_LIMITED], times)


def rates(home: Path, clusters: dict[int, Cluster], tasks: int, rounds: int) -> Iterator[Figure]:
    """Tasks a second of all, in turn, and what they take of the processors."""
    for one in clusters.values():
        one.run(TRUE, min(tasks, 500))
    before = {slots: one.usage() for slots, one in clusters.items()}
    found: dict[str, list[float]] = {"xargs": [], "bare": []}
    found |= {ours(slots): [] for slots in clusters}
    cpu_us: dict[str, list[float]] = {"xargs": [], "bare": []}
    loads = []
    for _ in range(rounds):
        for name, act in (("xargs", xargs), ("bare", partial(bare, home))):
            seconds, cpu_s = timed(act, tasks)
            found[name].append(tasks / seconds)
            cpu_us[name].append(cpu_s / tasks * 1e6)
        for slots, one in clusters.items():
            found[ours(slots)].append(tasks / one.run(TRUE, tasks))
        loads.append(os.getloadavg()[0])
    rate = {name: statistics.median(rates) for name, rates in found.items()}
    load = f"load of the machine {statistics.median(loads):.1f}"
    yield Figure(
        what=f"xargs -P{WORKERS} -n1 /bin/true ({load})",
        value=rate["xargs"],
        unit="tasks/s",
        better="more",
    )
    yield share(f"{WORKERS} bare loops that start, wait and fsync", rate["bare"], rate["xargs"])
    for slots in clusters:
        limit = SHARE_LIMIT if slots == SLOTS_LIMITED else None
        yield share(ours(slots), rate[ours(slots)], rate["xargs"], limit=limit)
    least_us = statistics.median(cpu_us["xargs"])
    yield taken("the bare loops", statistics.median(cpu_us["bare"]), least_us)
    for slots, one in clusters.items():
        spent = Usage(*(a - b for a, b in zip(one.usage(), before[slots], strict=True)))
        yield from shares_of(slots, spent, tasks * rounds, least_us)


def shares_of(slots: int, spent: Usage, tasks: int, least_us: float) -> Iterator[Figure]:
    """What one cluster took of the processors for each task, and which part of it did."""
    yield taken(f"{ours(slots)}, all of it", sum(spent) / tasks * 1e6, least_us)
    for who, seconds in zip(("scheduler", "agents", "guards", "tasks"), spent, strict=True):
        yield Figure(what=f"of which the {who}", value=seconds / tasks * 1e6, unit="us")


def ours(slots: int) -> str:
    """What a cluster is called."""
    return f"{WORKERS} workers of {slots} slots"


def share(what: str, rate: float, most: float, *, limit: float | None = None) -> Figure:
    """A rate as a share of that of xargs."""
    return Figure(
        what=f"{what}, share of xargs",
        value=100 * rate / most,
        unit="%",
        peer="tasks/s",
        peer_value=rate,
        limit=limit,
        better="more",
    )


def taken(what: str, cpu_us: float, least_us: float) -> Figure:
    """Processor time beside that of xargs."""
    return Figure(
        what=f"processor time a task, {what}",
        value=cpu_us,
        unit="us",
        peer="xargs, us",
        peer_value=least_us,
    )


def latency(home: Path, one: Cluster, times: int) -> Iterator[Figure]:
    """One task at a time: what it takes until its end is known, and what the disk takes of it."""
    spent, synced = [], []
    with (home / "synced").open("ab", buffering=0) as file:
        for _ in range(times):
            spent.append(one.run_one(TRUE))
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file)
            synced.append(time.perf_counter() - started)
    yield Figure(
        what="one /bin/true on the idle cluster, from submit until its end is known, p50",
        value=statistics.median(spent) * 1e3,
        unit="ms",
        peer="two fdatasync of 4 KiB, ms",
        peer_value=2 * statistics.median(synced) * 1e3,
        limit=P50_LIMIT_MS,
    )
    for percent in (10, 99):
        value = sorted(spent)[percent * times // 100]
        yield Figure(what=f"the same, p{percent}", value=value * 1e3, unit="ms")


def timed(act: Callable[[int], None], tasks: int) -> tuple[float, float]:
    """Seconds of so many tasks, and processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    act(tasks)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def xargs(tasks: int) -> None:
    """Run so many by xargs."""
    names = "\n".join(map(str, range(tasks)))
    command = ["xargs", f"-P{WORKERS}", "-n1", *TRUE]
    subprocess.run(command, input=names.encode(), check=True)


def bare(home: Path, tasks: int) -> None:
    """Run so many by bare loops, with a file each."""
    loops = [
        subprocess.Popen(
            [
                *(sys.executable, "-S", floor.__file__),
                *(str(home / f"loop-{number}"), str(tasks // WORKERS), *TRUE),
            ]
        )
        for number in range(WORKERS)
    ]
    for loop in loops:
        assert loop.wait() == 0


if __name__ == "__main__":
    program.run("true_tasks", main)
