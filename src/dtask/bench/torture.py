"""Hundreds of acknowledged tasks, and processes that are killed, stopped and cut off meanwhile.

They are submitted as many jobs, single tasks and arrays, all the while faults happen, so that these
meet submits as well: what was acknowledged must end, and end well.

Each task appends its name and the number of its attempt to a file when it begins, and again when
it is done, so that afterwards every run can be held against the attempts that the scheduler knows
of: each is one of them, each but the last of a task was lost or stopped, and where no worker was
stopped or cut off, none was still running when the next one began.
"""

import contextlib
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, NamedTuple

import psutil
from msgspec import Struct

from dtask import Client
from dtask.bench.relay import Relay
from dtask.errors import NotFound

_SCHEDULER: Final = "from dtask.cli.scheduler import main; main()"
_WORKER: Final = "from dtask.cli.worker import main; main()"

#: Thresholds of a worker's silence, shorter than in production so that losses take seconds.
SUSPECT_S: Final = 2.0
OFFLINE_S: Final = 4.0

#: The scheduler must listen so soon after its start.
START_S: Final = 30.0

#: All tasks must have ended so long after the last fault.
ENDED_S: Final = 90.0

#: After that, workers must be back and nothing counted anywhere so soon.
IDLE_S: Final = 30.0

#: Everything must end so soon after SIGTERM.
STOP_S: Final = 20.0

#: Its job and index, which of its attempts this is, then some work, and that it is done.
SCRIPT: Final = (
    'run="$DTASK_JOB ${DTASK_INDEX:--1} $DTASK_NUMBER"; echo "$run begins" >> "$LEDGER"; '
    'sleep "$TASK_S"; echo "$run ends" >> "$LEDGER"'
)

#: The index of a task that is no array, as in the store.
_NONE: Final = -1

#: Elements of the largest array, and tasks that are acknowledged and have not begun: if there are
#: so many, the next submit waits, so that submits go on to the last fault.
ARRAY_MAX: Final = 15
AHEAD_MAX: Final = 40

#: How an attempt can have ended that is followed by another one: its agent died with it, its worker
#: was silent for too long, it was stopped, or its agent was lost before it told that it had begun.
EXPLAINED: Final = frozenset({"lost", "stopped", "returned"})

#: Faults after which a run may still go on beside its heir, on another worker, until its own one
#: is heard of again.
APART: Final = frozenset({"stop", "cut"})

Fault = Literal["scheduler", "workers", "both", "stop", "cut"]


class Toll(Struct, frozen=True):
    """What became of the tasks."""

    #: Acknowledged, in so many submits.
    tasks: int
    submits: int
    faults: int
    #: Tasks that ran and succeeded once, and all others.
    succeeded: int
    lost: int
    #: Runs beyond the first of each task, and attempts that explain them.
    extra_runs: int
    accounted: int
    seconds: float


class Task(NamedTuple):
    """A plain task, or an element of an array."""

    job_id: int
    element: int


class Run(NamedTuple):
    """One run of a task, as the task itself told."""

    task: Task
    number: int


class Account(NamedTuple):
    """What the ledger and the store say together."""

    succeeded: int
    extra_runs: int


class Site:
    """A scheduler and two workers as real processes, and a relay for the workers' channels."""

    def __init__(self, home: Path, *, slots: int = 4) -> None:
        self.home = home
        self.ledger = home / "ledger"
        self.ledger.touch()
        self._slots = slots
        #: What opens the scheduler.
        self.token = secrets.token_hex(16)
        state = {"XDG_STATE_HOME": str(home / "state"), "DTASK_TOKEN": self.token}
        self._environment = os.environ | state
        self._port = _free_port(random.Random())  # noqa: S311 (any will do)
        self.url = f"http://127.0.0.1:{self._port}"
        self.relay = Relay(self._port)
        self.scheduler = self._start_scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_workers(self) -> None:
        """Two of them, once the scheduler listens."""
        _await_listener(self._port, self.scheduler)
        self.workers += [self._start_worker(i) for i in range(2)]

    def restart_scheduler(self) -> None:
        """Kill it, as by kill -9, and start another one on the same data."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = self._start_scheduler()

    def restart_worker(self, i: int) -> None:
        """Kill the agent, as by kill -9, and start another one with the same spool."""
        self.workers[i].kill()
        self.workers[i].wait()
        self.workers[i] = self._start_worker(i)

    def restart_both(self, i: int) -> None:
        """Kill the agent and the scheduler at one moment, and start both again."""
        for process in (self.scheduler, self.workers[i]):
            process.kill()
        for process in (self.scheduler, self.workers[i]):
            process.wait()
        self.scheduler = self._start_scheduler()
        self.workers[i] = self._start_worker(i)

    def attempts(self) -> dict[Run, tuple[str, str | None]]:
        """State and cause of each attempt, as the store remembers them."""
        database = self.home / "state/dtask/scheduler/dtask.db"
        with contextlib.closing(sqlite3.connect(database)) as store:
            rows = store.execute("SELECT job_id, idx, number, state, cause FROM attempt")
            return {
                Run(Task(job_id, index), number): (state, cause)
                for job_id, index, number, state, cause in rows
            }

    def stop(self) -> None:
        """End everything."""
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.relay.close()

    def check_gone(self) -> None:
        """After `stop`: assert that all ended well, and that nothing is left of any task."""
        codes = [process.returncode for process in (*self.workers, self.scheduler)]
        assert codes == [0, 0, 0], f"workers and scheduler ended with {codes}"
        kept = sorted(self.home.glob("state/dtask/worker/*/attempts/*"))
        assert not kept, f"spools still hold {kept}"
        left = processes_of(self.home)
        assert not left, f"still running: {left}"

    def _start_scheduler(self) -> "subprocess.Popen[bytes]":
        flags = ["--suspect-after", str(SUSPECT_S), "--offline-after", str(OFFLINE_S)]
        return self._start("scheduler", _SCHEDULER, "--port", str(self._port), *flags)

    def _start_worker(self, i: int) -> "subprocess.Popen[bytes]":
        command = ["--id", f"w{i}", "--max-tasks", str(self._slots), "--addr", "127.0.0.1:0"]
        command += ["--scheduler", self.relay.url, "--interval", "0.5"]
        return self._start(f"worker {i}", _WORKER, *command)

    def _start(self, name: str, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
                [sys.executable, "-c", program, *arguments],
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )


def torture(fault: Fault, *, tasks: int, faults: int, seed: int, task_s: float = 0.2) -> Toll:
    """Submit so many tasks, let `faults` faults of this kind happen while they run, and count.

    Raises AssertionError with what was found if a job does not end, or a run can't be accounted
    for.
    """
    with tempfile.TemporaryDirectory() as home:
        site = Site(Path(home))
        try:
            site.start_workers()
            toll = _torture(site, fault, tasks=tasks, faults=faults, task_s=task_s, seed=seed)
            site.stop()
            site.check_gone()
        except BaseException as error:
            error.add_note(_logs(Path(home)))
            raise
        else:
            return toll
        finally:
            site.stop()


def _torture(
    site: Site, fault: Fault, *, tasks: int, faults: int, task_s: float, seed: int
) -> Toll:
    rng = random.Random(seed)  # noqa: S311 (a draw of faults that can be repeated)
    started = time.monotonic()
    with (
        Client(site.url, token=site.token, patience_s=60.0) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        sizes = _sizes(random.Random(seed), tasks)  # noqa: S311 (as above)
        submitting = thread.submit(_submit, site, client, sizes, task_s=task_s)
        for done in range(faults):
            _await_runs(site, int((done + rng.random()) * 0.9 * tasks / faults) + 1)
            _ACTS[fault](site, rng)
        jobs = submitting.result()
        for job_id in jobs:
            with contextlib.suppress(NotFound):  # then its tasks count as lost
                client.wait(job_id, timeout_s=ENDED_S)
        _await_idle(client)
    acknowledged = [task for job_id, size in jobs.items() for task in _tasks(job_id, size)]
    attempts = site.attempts()
    found = account(fault, site.ledger.read_text().splitlines(), attempts, acknowledged)
    return Toll(
        tasks=len(acknowledged),
        submits=len(jobs),
        faults=faults,
        succeeded=found.succeeded,
        lost=len(acknowledged) - found.succeeded,
        extra_runs=found.extra_runs,
        accounted=sum(cause in EXPLAINED for _, cause in attempts.values()),
        seconds=time.monotonic() - started,
    )


def _sizes(rng: random.Random, tasks: int) -> list[int]:
    """Tasks of each submit: half of these are of one task, half are arrays."""
    sizes: list[int] = []
    while (left := tasks - sum(sizes)) > 0:
        size = 1 if rng.random() < 0.5 else rng.randint(2, ARRAY_MAX)  # noqa: PLR2004 (half)
        sizes.append(min(size, left))
    return sizes


def _submit(site: Site, client: Client, sizes: list[int], *, task_s: float) -> dict[int, int]:
    """Submit one after the other, and again what was not answered; the size of each by job."""
    env = {"LEDGER": str(site.ledger), "TASK_S": str(task_s)}
    jobs: dict[int, int] = {}
    for size in sizes:
        _await_runs(site, sum(jobs.values()) - AHEAD_MAX)
        array = size if size > 1 else None
        jobs[client.submit(["sh", "-c", SCRIPT], array=array, env=env).id] = size
    return jobs


def _tasks(job_id: int, size: int) -> list[Task]:
    return [Task(job_id, index) for index in (range(size) if size > 1 else (_NONE,))]


def account(
    fault: Fault,
    lines: list[str],
    attempts: Mapping[Run, tuple[str, str | None]],
    acknowledged: Collection[Task],
) -> Account:
    """How many of the acknowledged tasks ran and succeeded once, and how many runs were one more.

    `lines` are the ledger's. Raises AssertionError if a run can't be explained by `attempts`, the
    store's, as state and cause.
    """
    begun: dict[Task, Run] = {}
    seen: set[Run] = set()
    for line in lines:
        job_id, element, number, what = line.split()
        run = Run(Task(int(job_id), int(element)), int(number))
        last = begun.get(run.task)
        if what == "begins":
            assert run in attempts, f"{run} is no attempt that the store knows"
            assert run not in seen, f"{run} began twice"
            seen.add(run)
            assert last is None or last.number < run.number or fault in APART, (run, last)
            begun[run.task] = max(run, last or run)
        else:
            assert last == run or fault in APART, f"{run} still ran when {last} had begun"
    strange = begun.keys() - set(acknowledged)
    assert not strange, f"nobody was told that these were accepted: {strange}"
    results = Counter(run.task for run, (state, _) in attempts.items() if state == "succeeded")
    for task, last in begun.items():
        done = attempts[last][0] == "succeeded"
        assert done or not results[task] or fault in APART, (last, attempts[last])
        for before in range(1, last.number):
            state, cause = attempts[Run(task, before)]
            assert cause in EXPLAINED, (task, before, state, cause)
    extra = len(seen) - len(begun)
    if fault == "scheduler":
        assert extra == 0, f"{extra} tasks were run again though only the scheduler was killed"
    return Account(sum(task in begun and results[task] == 1 for task in acknowledged), extra)


def _await_idle(client: Client) -> None:
    """Wait until all workers are back, and nothing is counted anywhere."""
    deadline = time.monotonic() + IDLE_S
    while True:
        stats, workers = client.stats(), client.workers()
        if (
            stats.attached == len(workers)
            and not any(stats.tasks.values())
            and not any(worker.current_tasks or worker.reported_tasks for worker in workers)
        ):
            return
        assert time.monotonic() < deadline, f"not idle: {stats}, {workers}"
        time.sleep(0.05)


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes in whose environment this directory stands."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        told = process.info
        if told["status"] != psutil.STATUS_ZOMBIE and any(
            str(home) in value for value in (told["environ"] or {}).values()
        ):
            found.append(f"{process.pid} {' '.join(told['cmdline'] or [])}")
    return found


def _await_runs(site: Site, count: int) -> None:
    """Wait until so many runs have begun."""
    deadline = time.monotonic() + ENDED_S
    while site.ledger.read_text().count("begins") < count:
        assert time.monotonic() < deadline, f"{count} runs have not begun within {ENDED_S:g} s"
        time.sleep(0.01)


def _kill_worker(site: Site, rng: random.Random) -> None:
    site.restart_worker(rng.randrange(2))


def _kill_some(site: Site, rng: random.Random) -> None:
    chance = rng.random()
    if chance < 0.4:  # noqa: PLR2004 (shares of what it does)
        site.restart_both(rng.randrange(2))
    elif chance < 0.7:  # noqa: PLR2004
        _kill_worker(site, rng)
    else:
        site.restart_scheduler()


def _stop_some(site: Site, rng: random.Random) -> None:
    """SIGSTOP a worker's agent, or the scheduler, now and then for longer than offline."""
    process = rng.choice([site.scheduler, *site.workers])
    process.send_signal(signal.SIGSTOP)
    seconds = rng.choice((0.3, 1.5 * OFFLINE_S))
    threading.Timer(seconds, lambda: process.send_signal(signal.SIGCONT)).start()
    time.sleep(0.5 * seconds)


def _cut(site: Site, rng: random.Random) -> None:
    """Break the workers' connections, or let nothing pass for a while."""
    if rng.random() < 0.5:  # noqa: PLR2004 (either)
        site.relay.reset()
    else:
        site.relay.hold(rng.choice((0.2, 1.5 * OFFLINE_S)))
        time.sleep(0.3)


_ACTS: Final[dict[str, Callable[[Site, random.Random], None]]] = {
    "scheduler": lambda site, _rng: site.restart_scheduler(),
    "workers": _kill_worker,
    "both": _kill_some,
    "stop": _stop_some,
    "cut": _cut,
}


def _free_port(rng: random.Random) -> int:
    """A free port that no connection is given of itself, even while nobody listens on it."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = rng.randrange(min(20_000, low - 1_000), low)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _await_listener(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, "the scheduler has ended"
            assert time.monotonic() < deadline, "the scheduler does not listen"
            time.sleep(0.05)
        else:
            return


def _logs(home: Path) -> str:
    """The last lines of every process."""
    parts: Iterator[str] = (
        f"{path.name}:\n" + "\n".join(path.read_text().splitlines()[-25:])
        for path in sorted(home.glob("*.log"))
    )
    return "\n".join(parts)
