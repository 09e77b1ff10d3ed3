"""Control groups (v2) for attempts, where the machine lets us make them.

No process leaves its group by setsid, by forking, or by clearing its environment, and one write
to `cgroup.kill` ends them all. A worker without the right to make groups does without: marks
(see `strays`) find everything that does not hide on purpose.

Only light modules are imported here: the guard uses this file too.
"""

import contextlib
import os
import time
from typing import Final

#: What is still in a group after this long lives.
REMOVE_S: Final = 1.0

#: The file system's name in /proc/self/mountinfo.
_KIND: Final = b"cgroup2"


class Group:
    """One group, a directory of the cgroup file system."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self) -> None:
        """Make it. Raises OSError."""
        os.mkdir(self.path)  # noqa: PTH102 (pathlib is too heavy here)

    def below(self, name: str) -> "Group":
        """The group `name` inside this one, not made yet."""
        return Group(f"{self.path}/{name}")

    def add(self, pid: int) -> None:
        """Move a process in; it takes along what it forks later. Raises OSError."""
        _write(f"{self.path}/cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """The processes in it, those of groups below not counted."""
        try:
            with open(f"{self.path}/cgroup.procs", "rb") as file:  # noqa: PTH123 (too heavy)
                return [int(pid) for pid in file.read().split()]
        except OSError:
            return []

    def cpu_s(self) -> float | None:
        """CPU seconds of all that ever were in it, as long as they were; None if it can't tell."""
        try:
            with open(f"{self.path}/cpu.stat", "rb") as file:  # noqa: PTH123 (too heavy)
                for line in file:
                    if line.startswith(b"usage_usec "):
                        return int(line.split()[1]) / 1e6
        except OSError:
            pass
        return None

    def kill(self) -> None:
        """SIGKILL to all in it and in the groups below; nothing happens if it is gone."""
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.kill", "1")

    def remove(self) -> bool:
        """Remove it and the groups below, as far as they are empty; whether it is gone.

        A process that has just ended may still be in it for a moment.
        """
        try:
            names = [entry.name for entry in os.scandir(self.path) if entry.is_dir()]
            for name in names:
                self.below(name).remove()
            os.rmdir(self.path)  # noqa: PTH106 (too heavy)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def remove_soon(self) -> None:
        """Remove it, waiting a little for what has just ended in it."""
        give_up_at = time.monotonic() + REMOVE_S
        while not self.remove() and time.monotonic() < give_up_at:
            time.sleep(REMOVE_S / 100)


def make_group(name: str) -> Group | None:
    """A new group below our own; None if this machine or user can't have one that can kill."""
    parent = own_path()
    if parent is None:
        return None
    group = Group(f"{parent}/{name}")
    try:
        group.create()
    except OSError:
        return None
    if not os.path.exists(f"{group.path}/cgroup.kill"):  # noqa: PTH110 (too heavy); before 5.14
        group.remove()
        return None
    return group


def own_path() -> str | None:
    """The directory of the group that this process is in."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 (too heavy)
            mounts = [line.split() for line in file]
        with open("/proc/self/cgroup", "rb") as file:  # noqa: PTH123 (same)
            lines = file.read().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith(b"0::")), None)
    for fields in mounts:
        # "... ROOT MOUNTPOINT options.. - KIND source .."
        if own is not None and fields[fields.index(b"-") + 1] == _KIND:
            root = fields[3].rstrip(b"/")
            if own.startswith(root):
                return os.fsdecode(fields[4] + own[len(root) :]).rstrip("/")
    return None


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
