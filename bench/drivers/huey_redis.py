"""Huey with Redis: two worker processes."""

import os
from collections.abc import Sequence
from typing import Any

import driving
from huey import RedisHuey

PORT = int(os.environ.setdefault("REDIS_PORT", str(driving.free_port())))
queue = RedisHuey(port=PORT)
run = queue.task()(driving.run)

#: Its clients poll for results; no oftener than this.
POLL_S = 0.0005


class Huey:
    """A consumer beside a Redis."""

    def __init__(self, place: driving.Place) -> None:
        self._place = place
        self._redis = place.redis(PORT)
        place.start("huey_consumer", "huey_redis.queue", "-w", "2", "-k", "process")

    def submit(self, commands: Sequence[list[str]]) -> list[Any]:
        """Put them into the queue."""
        return [run(command) for command in commands]

    def wait(self, submitted: list[Any]) -> None:
        """Fetch all results."""
        for result in submitted:
            result.get(blocking=True, max_delay=POLL_S)

    def lose(self) -> None:
        """Kill Redis."""
        self._redis.kill()
        self._redis.wait()
        self._redis = self._place.redis(PORT)


if __name__ == "__main__":
    driving.drive(Huey)
