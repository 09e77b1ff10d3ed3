"""Process trees: finding all that belongs to an attempt, and ending it.

A process leaves its process group and session with setsid, and its parent by forking twice. What
it keeps, unless it takes care not to, is its environment, and there each attempt has its *mark*.
A process belongs to an attempt if it carries the mark, is in the session of the attempt's main
process (its *root*), or descends from one that does.

Only the standard library's lightest modules are imported here: the guard lives by this file.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

#: The variable that carries an attempt's mark.
MARK_VARIABLE: Final = "DTASK_ATTEMPT"

_MARK: Final = MARK_VARIABLE.encode() + b"="

#: The kernel's own threads have this flag; they have no environment and are nobody's.
_PF_KTHREAD: Final = 0x0020_0000

#: First and longest pause between two looks at what is left of a killed tree, seconds.
PAUSE_S_MIN: Final = 0.001
PAUSE_S_MAX: Final = 0.1


class Process(NamedTuple):
    """A process as it was when it was looked at."""

    pid: int
    parent: int
    session: int
    #: Clock ticks from boot to its start: with the pid and the boot it names one process for ever.
    start_time: int
    #: It has ended and waits for its parent to ask how.
    zombie: bool


class Found(NamedTuple):
    """What a look at the processes of an attempt has shown."""

    processes: list[Process]
    #: False: it could not be told of some process whether it belongs to them, so look again before
    #: you call an attempt gone.
    certain: bool


def look(pid: int) -> Process | None:
    """The process `pid`, or None if there is none."""
    fields = _stat(pid)
    if fields is None:
        return None
    return Process(
        pid, int(fields[1]), int(fields[3]), int(fields[19]), zombie=fields[0] in (b"Z", b"X")
    )


def rss_bytes(pid: int) -> int:
    """The largest resident size that the process `pid` has had; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 (pathlib is too heavy here)
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def everyone() -> list[Process]:
    """All processes that can be seen."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (too heavy)
    return [process for pid in pids if (process := look(pid)) is not None]


def children(pid: int) -> list[int]:
    """The pids of the children of `pid`."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 (too heavy)
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 (same)
                found.extend(map(int, file.read().split()))
    except FileNotFoundError:
        if os.path.exists(f"/proc/{pid}/task"):  # noqa: PTH110 (same); a kernel without the file
            return [process.pid for process in everyone() if process.parent == pid]
    except OSError:  # it ended while we looked
        pass
    return found


def below(pid: int) -> list[Process]:
    """The process `pid` and all that descend from it, parents first."""
    queue = [pid]
    found = []
    for one in queue:  # it grows while it is walked
        if (process := look(one)) is not None:
            found.append(process)
            queue.extend(children(one))
    return found


class Changing(Exception):
    """The process is on its way from one program to another, and shows no environment meanwhile."""


def mark_of(pid: int) -> str | None:
    """The mark in the environment of `pid`; None if there is none, or it can't be read.

    What follows the mark after a dot tells attempts of one directory apart, for themselves.
    Raises Changing.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (too heavy here)
            environment = file.read()
    except OSError:
        return None
    if not environment and _is_changing(pid):
        raise Changing
    for variable in environment.split(b"\0"):
        if variable.startswith(_MARK):
            return variable[len(_MARK) :].partition(b".")[0].decode(errors="replace")
    return None


def belonging(
    processes: Iterable[Process], marks: Iterable[str], roots: Mapping[int, int]
) -> Found:
    """Those of `processes` that belong to one of `marks` or to one of `roots`.

    `roots` maps the pid of a main process to its start time.
    """
    marks = set(marks)
    known = {process.pid: process for process in processes}
    offspring: dict[int, list[Process]] = {}
    for process in known.values():
        offspring.setdefault(process.parent, []).append(process)
    sessions = {
        pid
        for pid, start_time in roots.items()
        # A pid that is another process by now names another session too.
        if pid not in known or known[pid].start_time == start_time
    }
    certain = True
    queue = []
    for process in known.values():
        try:
            if process.session in sessions or mark_of(process.pid) in marks:
                queue.append(process)
        except Changing:
            certain = False
    found = {process.pid: process for process in queue}
    for process in queue:  # it grows while it is walked
        for child in offspring.get(process.pid, ()):
            if child.pid not in found:
                found[child.pid] = child
                queue.append(child)
    return Found(list(found.values()), certain)


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; nothing happens if it is gone or not ours."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        now = look(process.pid)
        if now is not None and now.start_time == process.start_time:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)


def kill_all(
    marks: Iterable[str], roots: Mapping[int, int], give_up_after_s: float
) -> list[Process]:
    """Kill all that belongs to these marks and roots, and wait until it is gone.

    Returns what is left after `give_up_after_s`: processes of another user, or stuck in the
    kernel.
    """
    marks = set(marks)
    give_up_at = time.monotonic() + give_up_after_s
    pause_s = PAUSE_S_MIN
    clean_looks = 0
    # A process that forks and ends while we look can hide its child from one look, not from two.
    while clean_looks < 2:  # noqa: PLR2004 (see above)
        found = belonging(everyone(), marks, roots)
        left = [process for process in found.processes if not process.zombie]
        if not left and found.certain:
            clean_looks += 1
            continue
        clean_looks = 0
        if time.monotonic() >= give_up_at:
            return left
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
    return []


def _stat(pid: int) -> list[bytes] | None:
    """The kernel's fields on `pid`, from the third one on; None if there is no such process."""
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(handle, 4096)
    except OSError:
        return None
    finally:
        os.close(handle)
    # The second field is the name in parentheses, and it may hold anything.
    return stat[stat.rindex(b")") + 2 :].split()


def _is_changing(pid: int) -> bool:
    """Whether `pid` showed no environment because it is between two programs.

    The kernel tells where a program's code and its environment begin and end. It fills them in
    while it changes programs, the code last; an environment that is empty begins where it ends.
    """
    fields = _stat(pid)
    if fields is None or fields[0] in (b"Z", b"X") or int(fields[6]) & _PF_KTHREAD:
        return False
    code, begin, end = fields[23], fields[47], fields[48]
    return code == b"0" or begin != end
