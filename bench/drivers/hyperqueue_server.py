"""HyperQueue: a server and a worker of two CPUs in one process, without a journal.

Its package has no `hq` command, and its Python client asks once a second whether a job has ended:
what one task takes is that second, and says nothing of the server.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import driving
from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


class HyperQueue:
    """A client, and the process that `serve` is."""

    def __init__(self, place: driving.Place) -> None:
        self._place = place
        self._directory = place.home / "server"
        self._directory.mkdir()
        self._server = self._start()
        self._client = Client(self._directory)

    def submit(self, commands: Sequence[list[str]]) -> Any:  # noqa: ANN401 (a job)
        """One job with a task for each."""
        job = Job(default_workdir=self._place.home)
        for command in commands:
            job.program(command)
        return self._client.submit(job)

    def wait(self, submitted: Any) -> None:  # noqa: ANN401 (same)
        """Wait for the job."""
        self._client.wait_for_jobs([submitted])

    def lose(self) -> None:
        """Kill the process."""
        self._server.kill()
        self._server.wait()
        self._server = self._start()

    def _start(self) -> Any:  # noqa: ANN401 (a process)
        process = self._place.start("python", __file__, str(self._directory))
        while not (self._directory / "ready").exists():
            time.sleep(0.05)
        (self._directory / "ready").unlink()
        return process


def serve(directory: Path) -> None:
    """Be the cluster until the end of the process."""
    cluster = LocalCluster(str(directory), WorkerConfig(cores=2))
    (directory / "ready").touch()
    while cluster:
        time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(Path(sys.argv[1]))
    else:
        driving.drive(HyperQueue)
