"""Limits of CPU and memory for attempts, held by the kernel where it lets us.

Control groups hold a whole process tree: those of version 1 by controller, or of version 2 where
its controllers are handed down to our own group. A process enters before it becomes the task's
program: a line of shell does that, so nothing is ever outside. Where no group can be had, memory
is held to its limit for each process alone (RLIMIT_AS, which counts address space), and CPUs are
not held at all; then the worker's log says so, and so does the end of the attempt.
"""

import contextlib
import errno
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from dtask.worker import strays
from dtask.worker.cgroup import Group, own_path

_log = logging.getLogger(__name__)

Controller = Literal["memory", "cpu"]

_MB: Final = 1024**2

#: Microseconds of a period, and the least of it that a group can be given.
_PERIOD_US: Final = 100_000
_QUOTA_US_MIN: Final = 1_000

_SHELL: Final = "/bin/sh"

#: The group below our own that we move to if we stand in our own way, and how often all that has
#: been forked meanwhile is moved after us.
_ASIDE: Final = "dtask-worker"
_ROUNDS: Final = 10

#: How far above our own group one of version 2 is looked for.
_STOREYS: Final = 3

#: What is not held without a control group of this controller.
_WITHOUT: Final[dict[Controller, str]] = {
    "memory": "memory is held to its limit for each process alone, by address space",
    "cpu": "CPUs are not limited",
}


class Bounds(NamedTuple):
    """How the limits of one attempt are held."""

    memory_mb: int | None = None
    #: Control groups that it enters, and the one of them that counts kills for too much memory.
    groups: tuple[Group, ...] = ()
    memory: Group | None = None
    #: Address space of each process.
    address_bytes: int | None = None
    #: What could not be had; None if all could.
    note: str | None = None

    def wrapped(self, command: tuple[str, ...]) -> tuple[str, ...] | None:
        """The command that takes on these limits and becomes `command`; None: no need."""
        steps = [f'echo 0 >"${number}"' for number in range(1, len(self.groups) + 1)]
        if self.address_bytes is not None:
            steps.append(f"ulimit -v {self.address_bytes // 1024}")
        if not steps:
            return None
        script = " && ".join([*steps, f"shift {len(self.groups)}", 'exec "$@"'])
        files = [f"{group.path}/cgroup.procs" for group in self.groups]
        return (_SHELL, "-c", script, "sh", *files, *command)

    def broken(self) -> str | None:
        """The sentence for an attempt that was killed by its memory limit; None if it was not."""
        if self.memory is None or not _kills(self.memory):
            return None
        return (
            f"It took more memory than its limit of {self.memory_mb} MB, and the kernel killed "
            f"what it took too much with."
        )


class Limits:
    """The limits of one worker's attempts, in groups called `name`. `close` it at the end."""

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        self._name = name
        self._root = root
        #: Where groups can be made, by controller; looked for when first needed.
        self._parents: dict[Controller, Group | None] = {}
        #: Groups of trees that are gone, which could not be removed at once.
        self._emptying: list[Group] = []

    def paths(self) -> tuple[str, ...]:
        """The directories that hold the groups, made or not."""
        places = (place for controller in _WITHOUT for place in _places(self._root, controller))
        return tuple(dict.fromkeys(f"{place}/{self._name}" for place in places))

    def bounds(self, mark: str, *, cpus: float | None, memory_mb: int | None) -> Bounds:
        """Make ready what holds the attempt with this mark."""
        if cpus is None and memory_mb is None:
            return Bounds()
        memory = cpu = None
        without: list[str] = []
        if memory_mb is not None:
            memory = self._group("memory", mark, memory_mb * _MB)
            if memory is None:
                without.append(_WITHOUT["memory"])
        if cpus is not None:
            cpu = self._group("cpu", mark, max(int(cpus * _PERIOD_US), _QUOTA_US_MIN))
            if cpu is None:
                without.append(_WITHOUT["cpu"])
        groups = {group.path: group for group in (memory, cpu) if group is not None}
        return Bounds(
            memory_mb,
            tuple(groups.values()),
            memory,
            memory_mb * _MB if memory_mb is not None and memory is None else None,
            f"This worker may not make control groups: {' and '.join(without)}."
            if without
            else None,
        )

    def release(self, bounds: Bounds) -> None:
        """The attempt's tree is gone."""
        self._emptying.extend(bounds.groups)
        self.tend()

    def tend(self) -> None:
        """Remove groups that were not empty yet. To be called now and then."""
        if self._emptying:
            self._emptying = [group for group in self._emptying if not group.remove()]

    def close(self) -> None:
        """Remove all groups, waiting a little for what has just ended in them."""
        for parent in self._parents.values():
            if parent is not None:
                parent.remove_soon()
        self._parents.clear()

    def _group(self, controller: Controller, mark: str, limit: int) -> Group | None:
        """A group for one attempt, with its limit; None, with a word, if none can be had."""
        try:
            if controller not in self._parents:
                self._parents[controller] = _parent(self._root, controller, self._name)
            parent = self._parents[controller]
            if parent is None:
                return None
            group = parent.below(mark)
            with contextlib.suppress(FileExistsError):
                group.create()
            _LIMIT[controller](group, limit)
        except OSError as error:
            _log.warning(
                "Control groups don't work here for limits of %s (%s): %s.",
                controller,
                error.strerror,
                _WITHOUT[controller],
            )
            self._parents[controller] = None
            return None
        return group


def _parent(root: Path, controller: Controller, name: str) -> Group:
    """Make the group `name` for `controller` where that can be. Raises OSError."""
    last: OSError = FileNotFoundError(errno.ENOENT, "not mounted")
    places = _places(root, controller)
    for place in places:
        try:
            return _made(place, controller, name)
        except OSError as error:
            last = error
    if places and _step_aside(places[0]):
        return _made(places[0], controller, name)
    raise last


def _step_aside(place: str) -> bool:
    """Leave our own group of version 2, with all that is ours; whether it is empty now.

    systemd hands a group over to a service (`Delegate=yes`) and starts the service right in it,
    where it stands in its own way. A group that holds processes of others is left as it is.
    """
    own = Group(place)
    if not Path(place, "cgroup.controllers").exists():
        return False
    aside = own.below(_ASIDE)
    with contextlib.suppress(FileExistsError):
        aside.create()
    for _ in range(_ROUNDS):
        pids = set(own.pids())
        if not pids:
            return True
        if not pids <= {process.pid for process in strays.below(os.getpid())}:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                aside.add(pid)
    aside.remove()
    return False


def _made(place: str, controller: Controller, name: str) -> Group:
    parent = Group(f"{place}/{name}")
    unified = Path(place, "cgroup.controllers").exists()
    if unified:
        _hand_down(place, controller)
    with contextlib.suppress(FileExistsError):
        parent.create()
    try:
        if unified:
            _hand_down(parent.path, controller)
        _try(parent.below("probe"))
    except OSError:
        parent.remove()
        raise
    return parent


def _hand_down(place: str, controller: Controller) -> None:
    """Let the groups below this one have the controller. Raises OSError."""
    path = f"{place}/cgroup.subtree_control"
    if controller not in Path(path).read_text().split():
        _write(path, f"+{controller}")  # fails while processes are in the group itself


def _try(group: Group) -> None:
    """See that a process may enter such a group. Raises OSError."""
    group.create()
    try:
        entering = Bounds(groups=(group,)).wrapped(("true",))
        assert entering is not None
        done = subprocess.run(entering, check=False, stderr=subprocess.DEVNULL)  # noqa: S603 (ours)
        if done.returncode:
            raise PermissionError(errno.EPERM, "no process may enter")
    finally:
        group.remove_soon()


def _places(root: Path, controller: Controller) -> list[str]:
    """Directories of `controller` below which groups may be made, the likeliest first.

    Of version 1 there is our own group. Of version 2, a group with processes in it can't hand
    down its controllers, and ours has at least this one: then it is one of those above.
    """
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        own = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    paths = [line.split(":", 2)[2] for line in own if controller in line.split(":")[1].split(",")]
    for fields in map(str.split, mounts):
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        if paths and kind == "cgroup" and controller in options.split(","):
            above = fields[3].rstrip("/")
            if paths[0].startswith(above):
                return [f"{fields[4]}{paths[0][len(above) :]}".rstrip("/")]
    unified = own_path()
    if unified is None:
        return []
    near = [Path(unified), *Path(unified).parents][:_STOREYS]
    return [str(place) for place in near if controller in _controllers(place)]


def _controllers(place: Path) -> list[str]:
    try:
        return (place / "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _limit_memory(group: Group, limit_bytes: int) -> None:
    if Path(group.path, "memory.max").exists():
        _write(f"{group.path}/memory.max", str(limit_bytes))
        swap, nothing = "memory.swap.max", "0"
    else:
        _write(f"{group.path}/memory.limit_in_bytes", str(limit_bytes))
        swap, nothing = "memory.memsw.limit_in_bytes", str(limit_bytes)
    with contextlib.suppress(OSError):  # not every kernel counts swap
        _write(f"{group.path}/{swap}", nothing)


def _limit_cpu(group: Group, quota_us: int) -> None:
    if Path(group.path, "cpu.max").exists():
        _write(f"{group.path}/cpu.max", f"{quota_us} {_PERIOD_US}")
    else:
        _write(f"{group.path}/cpu.cfs_period_us", str(_PERIOD_US))
        _write(f"{group.path}/cpu.cfs_quota_us", str(quota_us))


_LIMIT: Final[dict[Controller, Callable[[Group, int], None]]] = {
    "memory": _limit_memory,
    "cpu": _limit_cpu,
}


def _kills(group: Group) -> int:
    """How many processes of the group were killed for its memory."""
    for name in ("memory.events", "memory.oom_control"):  # of versions 2 and 1
        with contextlib.suppress(OSError):
            for words in map(str.split, Path(group.path, name).read_text().splitlines()):
                if words[0] == "oom_kill":
                    return int(words[1])
    return 0


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
