"""Hundreds of acknowledged tasks, and processes that are killed, stopped and cut off meanwhile.

Each task appends its name and the number of its attempt to a file, so that afterwards every run
can be counted, and held against the attempts that the scheduler knows of.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from dtask import Client
from dtask.bench.relay import Relay

_SCHEDULER: Final = "from dtask.cli.scheduler import main; main()"
_WORKER: Final = "from dtask.cli.worker import main; main()"

#: Thresholds of a worker's silence, shorter than in production so that losses take seconds.
SUSPECT_S: Final = 2.0
OFFLINE_S: Final = 4.0

#: The scheduler must listen so soon after its start.
START_S: Final = 30.0

#: All tasks must have ended so long after the last fault.
ENDED_S: Final = 90.0

#: Its name, which of its attempts this is, and then some work.
SCRIPT: Final = 'echo "$DTASK_INDEX $DTASK_NUMBER" >> "$LEDGER"; sleep "$TASK_S"'

Fault = Literal["scheduler", "workers", "both", "stop", "cut"]


class Toll(Struct, frozen=True):
    """What became of the tasks."""

    tasks: int
    faults: int
    #: Tasks that ended well, and acknowledged ones that did not run.
    succeeded: int
    lost: int
    #: Runs beyond the first of each task, and attempts that ended as lost or returned.
    extra_runs: int
    accounted: int
    seconds: float


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
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.relay = Relay(self._port)
        self.scheduler = self._start_scheduler()
        _await_listener(self._port)
        self.workers = [self._start_worker(i) for i in range(2)]

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

    def ended_for_no_fault_of_theirs(self) -> int:
        """Attempts that were lost, returned or stopped, as the store remembers them."""
        database = self.home / "state/dtask/scheduler/dtask.db"
        with contextlib.closing(sqlite3.connect(database)) as store:
            query = "SELECT count(*) FROM attempt WHERE cause IN ('lost', 'returned', 'stopped')"
            return int(store.execute(query).fetchone()[0])

    def stop(self) -> None:
        """End everything."""
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.relay.close()

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


def torture(
    fault: Fault, *, tasks: int = 500, faults: int = 10, task_s: float = 0.05, seed: int = 0
) -> Toll:
    """Submit an array, let `faults` faults of this kind happen while it runs, and count.

    Raises AssertionError with what was found if an acknowledged task is lost, or a run can't be
    accounted for.
    """
    with tempfile.TemporaryDirectory() as home:
        site = Site(Path(home))
        try:
            return _torture(site, fault, tasks=tasks, faults=faults, task_s=task_s, seed=seed)
        except AssertionError as error:
            error.add_note(_logs(Path(home)))
            raise
        finally:
            site.stop()


def _torture(
    site: Site, fault: Fault, *, tasks: int, faults: int, task_s: float, seed: int
) -> Toll:
    rng = random.Random(seed)  # noqa: S311 (a draw of faults that can be repeated)
    started = time.monotonic()
    with Client(site.url, token=site.token, patience_s=60.0) as client:
        job = client.submit(
            ["sh", "-c", SCRIPT],
            array=tasks,
            env={"LEDGER": str(site.ledger), "TASK_S": str(task_s)},
        )
        for done in range(faults):
            _await_runs(site, int((done + rng.random()) * 0.9 * tasks / faults) + 1)
            _ACTS[fault](site, rng)
        result = job.wait(timeout_s=ENDED_S)
        runs = Counter(line.split()[0] for line in site.ledger.read_text().splitlines())
        accounted = site.ended_for_no_fault_of_theirs()
    extra = sum(runs.values()) - len(runs)
    lost = [index for index in range(tasks) if str(index) not in runs]
    assert not lost, f"{len(lost)} acknowledged tasks never ran: {lost[:10]}"
    assert result.ok, f"the job is {result.state}"
    assert extra <= accounted, f"{extra} extra runs, and {accounted} attempts that explain them"
    if fault == "scheduler":
        assert extra == 0, f"{extra} tasks were run again though only the scheduler was killed"
    return Toll(
        tasks=tasks,
        faults=faults,
        succeeded=len(runs),
        lost=len(lost),
        extra_runs=extra,
        accounted=accounted,
        seconds=time.monotonic() - started,
    )


def _await_runs(site: Site, count: int) -> None:
    """Wait until so many runs have begun, so that faults meet tasks that run."""
    deadline = time.monotonic() + ENDED_S
    while site.ledger.read_text().count("\n") < count:
        assert time.monotonic() < deadline, f"{count} runs have not begun within {ENDED_S:g} s"
        time.sleep(0.01)


def _kill_worker(site: Site, rng: random.Random) -> None:
    site.restart_worker(rng.randrange(2))


def _kill_some(site: Site, rng: random.Random) -> None:
    if rng.random() < 0.5:  # noqa: PLR2004 (either)
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_listener(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
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
