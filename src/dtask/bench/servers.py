"""Server processes to be measured."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import psutil

_SCHEDULER = "from dtask.cli.scheduler import main; main()"


class Server:
    """A child process that listens on `url`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        #: For programs that speak to this server.
        self.environment = os.environ | environment
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a line for each worker that joins
            env=self.environment,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _, found, url = line.partition("listening on ")
            if found:
                self.url = url.split()[0]
                break
        else:
            self._process.wait()
            raise RuntimeError(f"{arguments} ended before it listened")
        self.pid = self._process.pid
        self._usage = psutil.Process(self.pid)

    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def children_cpu_s(self) -> float:
        """Processor seconds of its children that have ended and were waited for."""
        times = self._usage.cpu_times()
        return float(times.children_user + times.children_system)

    def memory_bytes(self) -> int:
        """Resident memory."""
        return int(self._usage.memory_info().rss)

    def stop(self) -> None:
        """End the process and wait for it."""
        self._process.terminate()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def scheduler(*flags: str) -> Iterator[Server]:
    """A scheduler with default settings and these flags, state in a directory of its own."""
    with tempfile.TemporaryDirectory() as home:
        arguments = ["-c", _SCHEDULER, "--port", "0", *flags]
        server = Server(arguments, {"XDG_STATE_HOME": home})
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def bare() -> Iterator[Server]:
    """The bare server."""
    server = Server(["-m", "dtask.bench.bare"], {})
    try:
        yield server
    finally:
        server.stop()
