"""A scheduler and a worker as processes, for pages that show jobs which run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.site import Site
from e2e.site import TOKEN
from e2e.site import Site as Processes
from e2e.site import site as processes


@dataclass(frozen=True)
class Cluster:
    """Both as somebody with a browser meets them, and as processes."""

    site: Site
    processes: Processes
    #: Where tasks and a test can leave each other files.
    room: Path

    def submit(self, **body: Any) -> int:
        """Hand in a job, and get its number."""
        job_id: int = self.site.ask("POST", "/jobs", json=body).json()["job_id"]
        return job_id

    def gate(self, name: str) -> str:
        """A line of shell that waits until `open_gate` of the same name."""
        return f"until test -e {self.room}/{name}; do sleep 0.05; done"

    def open_gate(self, name: str) -> None:
        """Let those go on that wait at this gate."""
        (self.room / name).touch()

    def await_state(self, job_id: int, state: str, task: str = "main") -> None:
        """Until the task is in this state."""
        self.processes.await_state(job_id, state, task)


@contextmanager
def cluster(data: Path | None = None) -> Iterator[Cluster]:
    """A cluster whose scheduler has this data. All that it runs has to end."""
    with processes(workers=1, data=data) as running:
        room = running.home / "room"
        room.mkdir()
        yield Cluster(Site(running.url, TOKEN), running, room)
