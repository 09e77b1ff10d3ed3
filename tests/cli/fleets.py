"""A scheduler and a worker for commands that run jobs, and a shell beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dtask import Client
from servers import PATIENCE_S, scheduler_process
from terminal import Shell, shell_of
from workers import worker_process


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Four slots on one worker, `w1`, with the tag `cpu`."""

    url: str
    token: str
    shell: Shell
    #: The scheduler's data directory.
    data: Path

    def client(self) -> Client:
        return Client(self.url, token=self.token)

    def job(self, *words: str) -> int:
        """Submit a command; its job's number."""
        return int(self.shell.run("submit", "--scratch", "--", *words).out)


@contextmanager
def a_fleet() -> Iterator[Fleet]:
    with scheduler_process("--warm-up", "0") as scheduler:
        arguments = ("--id", "w1", "--tags", "cpu", "--max-tasks", "4", "--interval", "0.5")
        with worker_process(*arguments, scheduler=scheduler.url, token=scheduler.token):
            shell = shell_of(DTASK_SCHEDULER=scheduler.url, DTASK_TOKEN=scheduler.token)
            data = scheduler.state_home / "dtask" / "scheduler"
            fleet = Fleet(url=scheduler.url, token=scheduler.token, shell=shell, data=data)
            with fleet.client() as client:
                client.submit(["true"]).wait(PATIENCE_S).check()
            yield fleet


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()
