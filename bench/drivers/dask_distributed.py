"""Dask: a scheduler and two workers of one thread."""

from collections.abc import Sequence
from typing import Any

import driving
from distributed import Client, fire_and_forget


class Dask:
    """A scheduler, workers and a client."""

    def __init__(self, place: driving.Place) -> None:
        self._place = place
        self._port = driving.free_port()
        self._scheduler = self._start()
        address = f"tcp://127.0.0.1:{self._port}"
        place.start("dask", "worker", address, "--nworkers", "2", "--nthreads", "1")
        self._client = Client(address)
        self._client.wait_for_workers(2)

    def submit(self, commands: Sequence[list[str]]) -> list[Any]:
        """Submit them, and wait until the scheduler has taken them in."""
        futures: list[Any] = self._client.map(driving.run, commands, pure=False)
        fire_and_forget(futures)
        self._client.run_on_scheduler(int)
        return futures

    def wait(self, submitted: list[Any]) -> None:
        """Fetch all results."""
        self._client.gather(submitted)

    def lose(self) -> None:
        """Kill the scheduler."""
        self._scheduler.kill()
        self._scheduler.wait()
        self._scheduler = self._start()

    def _start(self) -> Any:  # noqa: ANN401 (a process)
        flags = ("--port", str(self._port), "--no-dashboard", "--host", "127.0.0.1")
        process = self._place.start("dask", "scheduler", *flags)
        driving.await_port(self._port)
        return process


if __name__ == "__main__":
    driving.drive(Dask)
