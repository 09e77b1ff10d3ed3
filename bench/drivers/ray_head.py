"""Ray: one node of two CPUs. What a raylet that is killed loses is not counted: we end with it."""

from collections.abc import Sequence
from typing import Any

import driving
import ray


class Ray:
    """One node, whose processes belong to this one."""

    def __init__(self, _place: driving.Place) -> None:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        self._run = ray.remote(driving.run)

    def submit(self, commands: Sequence[list[str]]) -> list[Any]:
        """Ask for all of them."""
        return [self._run.remote(command) for command in commands]

    def wait(self, submitted: list[Any]) -> None:
        """Fetch all results."""
        ray.get(submitted)

    def lose(self) -> None:
        """Not counted."""
        raise NotImplementedError


if __name__ == "__main__":
    driving.drive(Ray)
