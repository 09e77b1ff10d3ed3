"""What every peer is asked, over the standard input and output of its driver.

A driver runs in the environment that its peer is installed in, and so imports nothing of dtask. It
answers each line with one line:

    rate COUNT      seconds that so many `/bin/true` took, from the first submit to the last end
    one COUNT       seconds that one took on the idle cluster, the median of so many
    loss COUNT      of so many that were acknowledged, how many never ran though the server was
                    killed in their middle and started again
"""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

TRUE: Final = ["/bin/true"]

#: Its own number into the ledger, then a little work.
SCRIPT: Final = 'echo "$1" >> "$0"; sleep 0.02'

#: After so long without a task that runs, no more come.
QUIET_S: Final = 8.0
PATIENCE_S: Final = 60.0


class Peer(Protocol):
    """A cluster of two cores that runs commands."""

    def submit(self, commands: Sequence[list[str]]) -> Any:  # noqa: ANN401 (the peer's own)
        """Submit them; return when all are acknowledged."""

    def wait(self, submitted: Any) -> None:  # noqa: ANN401 (same)
        """Wait until all have ended."""

    def lose(self) -> None:
        """Kill the server or broker by SIGKILL, and start it again in the same place."""


class Place:
    """A directory, and processes that are killed at the end."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.home = Path(self._directory.name)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **env: str) -> "subprocess.Popen[bytes]":
        """Start a program of the peer's environment, or of the system."""
        beside = Path(sys.prefix, "bin", command[0])
        with (self.home / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(beside) if beside.exists() else command[0], *command[1:]],
                cwd=Path(__file__).parent,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def redis(self, port: int) -> "subprocess.Popen[bytes]":
        """A Redis as Debian installs it, but for its port and directory."""
        process = self.start("redis-server", "--port", str(port), "--dir", str(self.home))
        await_port(port)
        return process

    def close(self) -> None:
        """End all of them."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._directory.cleanup()


def drive(make: Callable[[Place], Peer]) -> None:
    """Be a driver."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    place = Place()
    try:
        peer = make(place)
        peer.wait(peer.submit([TRUE] * 20))
        answer("ready")
        for line in sys.stdin:
            kind, count = line.split()
            answer(_ACTS[kind](peer, place, int(count)))
    finally:
        place.close()


def run(command: list[str]) -> int:
    """The task of those peers that run functions."""
    return subprocess.check_call(command)


def answer(what: object) -> None:
    """Write a line."""
    print(what, flush=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _rate(peer: Peer, _place: Place, count: int) -> float:
    started = time.perf_counter()
    peer.wait(peer.submit([TRUE] * count))
    return time.perf_counter() - started


def _one(peer: Peer, place: Place, count: int) -> float:
    return statistics.median(_rate(peer, place, 1) for _ in range(count))


def _loss(peer: Peer, place: Place, count: int) -> int:
    ledger = place.home / "ledger"
    ledger.touch()
    peer.submit([["sh", "-c", SCRIPT, str(ledger), str(number)] for number in range(count)])
    while _ran(ledger) < count // 5:
        time.sleep(0.01)
    peer.lose()
    ran, since = _ran(ledger), time.monotonic()
    while ran < count and time.monotonic() < since + QUIET_S:
        time.sleep(0.1)
        if (now := _ran(ledger)) > ran:
            ran, since = now, time.monotonic()
    return count - ran


def _ran(ledger: Path) -> int:
    return len(set(ledger.read_text().split()))


_ACTS: Final = {"rate": _rate, "one": _one, "loss": _loss}
