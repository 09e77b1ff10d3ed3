"""The least that a durable task costs: start it, wait for it, and have the disk hold a line of it.

No order, no output kept, nothing stopped, nobody told. A process of its own, one for each core:
`python -m dtask.bench.floor FILE COUNT COMMAND..`.
"""

import os
import subprocess
import sys


def main(path: str, count: int, command: list[str]) -> None:
    """Run the command so often, one after the other."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in range(count):
        code = subprocess.Popen(command, start_new_session=True).wait()  # noqa: S603 (of ours)
        os.write(file, b"%d %d\n" % (number, code))
        os.fsync(file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
