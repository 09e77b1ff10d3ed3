"""The guard: a small process that outlives its agent by a moment, to end the agent's attempts.

It reads from the pipe that is its standard input, a line for each thing it must know:

    + MARK                  an attempt is about to start
    = MARK PID START_TIME   that is its main process
    - MARK                  nothing is left of it

The pipe ends when the agent does, however it died. Then the guard kills what is left and ends
too. It is told of an attempt before its process exists, so nothing can fall between.

A pipe keeps what was written when its writer is gone, so the guard needs not read every line at
once: while tasks come and go it looks ten times a second, and takes no CPU time from short ones.
"""

import os
import select
import signal
import sys
from typing import Final

from dtask.worker import strays
from dtask.worker.cgroup import Group

#: What can't be killed for so long is stuck in the kernel; the next agent tries again.
GIVE_UP_AFTER_S: Final = 30.0

#: Between two looks at the pipe. What is written meanwhile must fit it: 64 KiB.
PAUSE_S: Final = 0.1

_READ_BYTES: Final = 65_536


def main() -> None:
    """Follow the agent behind standard input.

    The first argument, if any, is its control group, and the others are those that hold its tasks
    to limits.
    """
    # Who ends the agent by a signal to all its processes must leave the guard to do its work.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    attempts = follow(sys.stdin.fileno())
    group = Group(sys.argv[1]) if sys.argv[1:2] not in ([], [""]) else None
    if group is not None:
        group.kill()
    if attempts:
        roots = {root[0]: root[1] for root in attempts.values() if root is not None}
        strays.kill_all(attempts, roots, GIVE_UP_AFTER_S)
    if group is not None:
        group.remove_soon()
    for path in sys.argv[2:]:
        Group(path).remove_soon()


def follow(pipe: int) -> dict[str, tuple[int, int] | None]:
    """Read `pipe` to its end; the attempts that live then: mark -> (pid, start time), if known."""
    attempts: dict[str, tuple[int, int] | None] = {}
    rest = b""
    hung_up = select.poll()
    hung_up.register(pipe, 0)  # that alone is told
    while data := os.read(pipe, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["+", mark]:
                    attempts[mark] = None
                case ["=", mark, pid, start_time]:
                    attempts[mark] = (int(pid), int(start_time))
                case ["-", mark]:
                    attempts.pop(mark, None)
        hung_up.poll(PAUSE_S * 1000)
    return attempts


if __name__ == "__main__":
    main()
