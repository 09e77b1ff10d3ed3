"""A scheduler and a worker, each a process, for tests of jobs; the scheduler can be killed."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dtask import Client
from servers import LAUNCHER, PATIENCE_S, clean_environment
from workers import worker_process

TOKEN = "a-token-for-tests-only"


@dataclass
class Fleet:
    """Where it is, and how to end it."""

    url: str
    directory: Path
    options: tuple[str, ...]
    process: subprocess.Popen[str] | None = field(default=None)

    token = TOKEN

    def kill(self) -> None:
        """End the scheduler as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def start(self) -> None:
        """Start the scheduler, at the same address and with the same data."""
        port = self.url.rpartition(":")[2]
        with (self.directory / "log").open("a") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, LAUNCHER, "--port", port, *self.options],
                env=clean_environment(self.directory) | {"DTASK_TOKEN": TOKEN},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line + (self.directory / "log").read_text()


@contextmanager
def running_fleet(directory: Path, *options: str, workers: int = 1) -> Iterator[Fleet]:
    """A scheduler started with these options, and workers of four slots with the tag `cpu`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    fleet = Fleet(url, directory, options)
    fleet.start()
    with ExitStack() as stack:
        stack.callback(fleet.kill)
        for number in range(workers):
            arguments = ("--id", f"w{number}", "--tags", "cpu", "--max-tasks", "4")
            stack.enter_context(worker_process(*arguments, scheduler=url, token=TOKEN))
        with Client(url, token=TOKEN) as client:
            client.submit(["true"]).wait(PATIENCE_S)  # the first may wait for the worker
        yield fleet
