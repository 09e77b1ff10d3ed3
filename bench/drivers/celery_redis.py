"""Celery with Redis as broker and as result backend: two worker processes."""

import os
from collections.abc import Sequence
from typing import Any

import driving
from celery import Celery

PORT = int(os.environ.setdefault("REDIS_PORT", str(driving.free_port())))
_URL = f"redis://127.0.0.1:{PORT}/0"
app = Celery("celery_redis", broker=_URL, backend=_URL)
run = app.task(driving.run, name="run")


class Workers:
    """A worker with two processes beside a Redis."""

    def __init__(self, place: driving.Place) -> None:
        self._place = place
        self._redis = place.redis(PORT)
        place.start("celery", "-A", "celery_redis", "worker", "-c", "2")

    def submit(self, commands: Sequence[list[str]]) -> list[Any]:
        """Put them into the queue."""
        return [run.delay(command) for command in commands]

    def wait(self, submitted: list[Any]) -> None:
        """Fetch all results."""
        for result in submitted:
            result.get()

    def lose(self) -> None:
        """Kill Redis."""
        self._redis.kill()
        self._redis.wait()
        self._redis = self._place.redis(PORT)


if __name__ == "__main__":
    driving.drive(Workers)
