"""What would a person pick instead, and what do those do with the same tasks?

`/bin/true` on two cores, in turn with dtask: tasks a second as a share of `xargs -P2 -n1`, and one
task on the idle cluster. And how many of 500 acknowledged tasks never run when the server or the
broker is killed by SIGKILL in their middle and started again: each peer as it is installed.

Each is installed from its package into an environment of its own below `.peers/`, and left
out, with a word, if it can't be. The small size runs none of them.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import program

from dtask import Client
from dtask.bench.cluster import cluster
from dtask.bench.figures import Figure
from dtask.bench.torture import Site

HERE = Path(__file__).parent
TRUE = ["/bin/true"]
SCRIPT = 'echo "$DTASK_INDEX" >> "$LEDGER"; sleep 0.02'

#: Seconds for an installation, for a start, and for one answer of a driver.
INSTALL_S = 300
ANSWER_S = 180


class Peer(NamedTuple):
    """Where it comes from, and the driver that speaks to it."""

    name: str
    driver: str
    packages: tuple[str, ...] = ()
    #: What Debian has to have installed.
    program: str | None = None
    #: It has a server or a broker that can be killed.
    loses: bool = True


PEERS = (
    Peer("Huey and Redis", "huey_redis", ("huey", "redis"), "redis-server"),
    Peer("Celery and Redis", "celery_redis", ("celery[redis]",), "redis-server"),
    Peer("Dask", "dask_distributed", ("distributed",)),
    Peer("HyperQueue", "hyperqueue_server", ("hyperqueue",)),
    Peer("Ray", "ray_head", ("ray",), loses=False),
    Peer("GNU parallel", "gnu_parallel", (), "parallel", loses=False),
)


class Missing(Exception):
    """This peer can't be measured here; the sentence says why."""


class Asked(NamedTuple):
    """The same questions for all: seconds of so many, seconds of one, and how many were lost."""

    name: str
    rate: Callable[[int], float]
    one: Callable[[int], float]
    loss: Callable[[int], int] | None


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    tasks, rounds, times, lost = (20, 1, 3, 20) if small else (500, 5, 50, 500)
    with dtask() as ours:
        for peer in () if small else PEERS:
            try:
                with opened(peer) as asked:
                    yield from compared(asked, ours, tasks, rounds, times)
                    if asked.loss is not None:
                        yield loss(asked.name, asked.loss(lost), lost)
            except Missing as reason:
                print(f"LEFT OUT: {reason}", file=sys.stderr, flush=True)
        yield from compared(ours, ours, tasks, rounds, times)
    yield loss("dtask", lost_of_ours(lost), lost)


def compared(asked: Asked, ours: Asked, tasks: int, rounds: int, times: int) -> Iterator[Figure]:
    """What one of them does, beside what dtask does, in turn."""
    shares: dict[Asked, list[float]] = {asked: [], ours: []}
    ones: dict[Asked, list[float]] = {asked: [], ours: []}
    for _ in range(rounds):
        least_s = xargs(tasks)
        for one, found in shares.items():
            found.append(100 * least_s / one.rate(tasks))
            ones[one].append(1e3 * one.one(times // rounds))
    for what, unit, both in (("share of xargs", "%", shares), ("one, p50", "ms", ones)):
        yield Figure(
            what=f"{asked.name}: {what}",
            value=statistics.median(both[asked]),
            unit=unit,
            peer="" if asked is ours else f"dtask, {unit}",
            peer_value=None if asked is ours else statistics.median(both[ours]),
            better="more" if unit == "%" else "less",
        )


def loss(name: str, lost: int, of: int) -> Figure:
    """How many never ran; of ours that may be none."""
    return Figure(
        what=f"{name}: lost of {of} at a kill -9",
        value=lost,
        unit="tasks",
        limit=0 if name == "dtask" else None,
    )


def xargs(tasks: int) -> float:
    """Seconds of xargs."""
    started = time.perf_counter()
    names = "\n".join(map(str, range(tasks)))
    subprocess.run(["xargs", "-P2", "-n1", *TRUE], input=names.encode(), check=True)
    return time.perf_counter() - started


@contextmanager
def dtask() -> Iterator[Asked]:
    """Ours: two workers of two slots."""
    with cluster(workers=2, slots=2) as ours:
        ours.run(TRUE, 20)

        def one(times: int) -> float:
            return statistics.median(ours.run_one(TRUE) for _ in range(times))

        yield Asked("dtask", lambda count: ours.run(TRUE, count), one, None)


def lost_of_ours(count: int) -> int:
    """Kill the scheduler once in the middle of so many tasks."""
    with tempfile.TemporaryDirectory() as home:
        site = Site(Path(home), slots=2)
        try:
            site.start_workers()
            with Client(site.url, token=site.token, patience_s=60.0) as client:
                job = client.submit(
                    ["sh", "-c", SCRIPT], array=count, env={"LEDGER": str(site.ledger)}
                )
                while len(site.ledger.read_text().split()) < count // 5:
                    time.sleep(0.01)
                site.restart_scheduler()
                job.wait(timeout_s=ANSWER_S)
            return count - len(set(site.ledger.read_text().split()))
        finally:
            site.stop()


@contextmanager
def opened(peer: Peer) -> Iterator[Asked]:
    """One peer, started. Raises Missing."""
    driver = subprocess.Popen(
        [str(installed(peer)), str(HERE / "drivers" / f"{peer.driver}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ask(kind: str, count: int) -> float:
        return float(answer(driver, peer, f"{kind} {count}"))

    try:
        answer(driver, peer, None)
        yield Asked(
            peer.name,
            partial(ask, "rate"),
            partial(ask, "one"),
            (lambda count: int(ask("loss", count))) if peer.loses else None,
        )
    finally:
        driver.terminate()
        driver.wait()


def answer(driver: "subprocess.Popen[str]", peer: Peer, question: str | None) -> str:
    """The driver's answer, or that it is ready. Raises Missing if it gives none."""
    assert driver.stdin is not None
    assert driver.stdout is not None
    if question is not None:
        driver.stdin.write(f"{question}\n")
        driver.stdin.flush()
    watch = threading.Timer(ANSWER_S, driver.terminate)
    watch.start()
    try:
        line = driver.stdout.readline()
    finally:
        watch.cancel()
    if not line:
        raise Missing(f"{peer.name} did not answer {question or 'when it was started'}.")
    return line


def installed(peer: Peer) -> Path:
    """The interpreter that has its packages. Raises Missing."""
    if peer.program is not None and shutil.which(peer.program) is None:
        raise Missing(f"{peer.name}: apt-get install {peer.program}")
    if not peer.packages:
        return Path(sys.executable)
    place = HERE.parent / ".peers" / peer.driver
    done = place / "installed"
    if not done.exists():
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(place / "bin/pip"), "install", "--quiet", *peer.packages],
        )
        for command in commands:
            try:
                subprocess.run(
                    command, check=True, timeout=INSTALL_S, capture_output=True, text=True
                )
            except subprocess.SubprocessError as error:
                raise Missing(f"{peer.name} can't be installed: {error}") from None
        done.touch()
    return place / "bin/python"


if __name__ == "__main__":
    program.run("peers", main)
