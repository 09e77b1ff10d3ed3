"""GNU parallel: no server, and so nothing that could be lost."""

import shlex
import subprocess
from collections.abc import Sequence

import driving


class Parallel:
    """A process for each submit."""

    def __init__(self, _place: driving.Place) -> None:
        pass

    def submit(self, commands: Sequence[list[str]]) -> "subprocess.Popen[str]":
        """Start it with a line for each command."""
        process = subprocess.Popen(
            ["parallel", "-j2"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None
        process.stdin.writelines(f"{shlex.join(command)}\n" for command in commands)
        process.stdin.close()
        return process

    def wait(self, submitted: "subprocess.Popen[str]") -> None:
        """Wait for its end."""
        submitted.wait()

    def lose(self) -> None:
        """Nothing."""
        raise NotImplementedError


if __name__ == "__main__":
    driving.drive(Parallel)
