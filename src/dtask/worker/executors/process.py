"""Attempts as processes of this machine: starting them, and ending all that they became.

Nothing here waits: an exit is an event of the loop (a pidfd becomes readable), and what is left
of a tree is looked at by timers. No thread, task or pipe belongs to a child.

The agent is a *child subreaper*: a process that loses its parent becomes a child of the agent
instead of escaping to process 1. So whatever a task leaves behind is found below the agent, and
when the agent has no child that it does not know, which is one read of /proc, nothing was left.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from dtask.worker import strays
from dtask.worker.cgroup import Group
from dtask.worker.strays import Found, Process

_log = logging.getLogger(__name__)

#: Variables that an attempt gets from the agent: where programs, homes and temporary files are,
#: language and time zone, and which devices the operator has left to this worker.
INHERITED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
)

#: A tree that lives so long gets a control group. Entering one holds up every fork and exit of the
#: machine for milliseconds, which short tasks would feel; until then, marks must do.
GROUP_AFTER_S: Final = 1.0

#: A main process is measured this often. The kernel tells the largest size of one that ended, but
#: counts what it was before it became the task's program: as large as the agent.
MEASURE_S: Final = 1.0

#: A tree that is not gone so long after SIGKILL is worth a line in the log.
STUCK_S: Final = 10.0

#: So often at most the children are read in one look, while ones that were not there before come.
LOOKS_MAX: Final = 8

#: The kernel tells of children in pieces of at least so many bytes, the last one excepted.
_PIECE_BYTES: Final = 2_048

#: prctl's number for "orphans below me become my children".
_PR_SET_CHILD_SUBREAPER: Final = 36


class NotStarted(Exception):
    """The command could not be started; the sentence says why."""


class Job(NamedTuple):
    """What to start."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    directory: str
    #: Descriptors; still the caller's to close.
    stdout: int
    stderr: int
    #: None: there is nothing to read.
    stdin: int | None = None
    #: What is run first, and becomes the command; None: nothing.
    wrapped: tuple[str, ...] | None = None


class Usage(NamedTuple):
    """What a process tree used, as far as the kernel tells."""

    #: User and system, of all processes that were waited for or counted by a control group.
    cpu_s: float
    #: The largest resident size of one process; None if it was small and short.
    max_rss_bytes: int | None


class Child:
    """A process tree of ours: its main process, and what is known of its end."""

    def __init__(
        self,
        mark: str,
        popen: "subprocess.Popen[bytes]",
        process: Process,
        exits: int,
        since: float,
    ) -> None:
        self.mark = mark
        self.popen = popen
        self.process = process
        #: The pidfd of its main process; closed once that has ended.
        self.exits = exits
        self.usage = Usage(0.0, None)
        #: The largest resident size seen of its main process, and loop seconds of the last look.
        self.rss_bytes = 0
        self.measured = since
        #: Loop seconds of its start.
        self.since = since
        self.group: Group | None = None
        #: The main process has ended and its exit code was fetched.
        self.exited = False
        #: SIGKILL to all that is left, until nothing is.
        self.killing = False
        #: Loop seconds of the first SIGKILL.
        self.killing_since = 0.0
        #: It did not die, and the log says so.
        self.stuck = False
        self.timer: asyncio.TimerHandle | None = None
        self.pause_s = strays.PAUSE_S_MIN


class Offspring:
    """The children of this process, read from a file that stays open.

    Orphans come to the first thread, and the main processes of attempts are known anyway.
    """

    def __init__(self) -> None:
        pid = os.getpid()
        try:
            path = f"/proc/{pid}/task/{pid}/children"
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without the file
            self._handle = -1

    def close(self) -> None:
        """Let go of the file."""
        if self._handle != -1:
            os.close(self._handle)

    def pids(self) -> list[int]:
        """Those there are now, ended ones that were not waited for included."""
        if self._handle == -1:
            return strays.children(os.getpid())
        found = b""
        while piece := os.pread(self._handle, 65_536, len(found)):
            found += piece
            if len(piece) < _PIECE_BYTES:  # the kernel had room for more
                break
        return [int(pid) for pid in found.split()]


class ProcessExecutor:
    """Starts process trees, each known by its mark, and ends them.

    `on_exited(mark, exit_code)` is called when a main process ended; then the caller says `kill`,
    or leaves what is left to the `terminate` said before. `on_gone(mark, usage)` is called when
    nothing of the tree is left. Both are called from the loop, never from inside `launch`. `guard`
    tells the pid of a child that is none of a task's, for as long as nobody has fetched its exit.
    `close` it at the end.
    """

    def __init__(
        self,
        *,
        group: Group | None,
        on_exited: Callable[[str, int | None], None],
        on_gone: Callable[[str, Usage], None],
        guard: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._group = group
        self._guard = guard
        self._on_exited = on_exited
        self._on_gone = on_gone
        self._children: dict[str, Child] = {}
        #: Main processes whose exit code has not been fetched; only their own pidfd may do that.
        self._mains: set[int] = set()
        #: Their pidfds: one descriptor that the loop watches, instead of one for each.
        self._epoll = select.epoll()
        self._waiting: dict[int, Child] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_exits)
        self._offspring = Offspring()
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        #: Children that were there when no attempt was: they can't come from one.
        self._bystanders: set[tuple[int, int]] = set()
        #: Groups of trees that are gone, which could not be removed at once.
        self._emptying: list[Group] = []
        self._adopts = become_subreaper()
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            # Whoever started us left it so, and exit codes would be lost before we see them.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def close(self) -> None:
        """Watch nothing any more."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._offspring.close()
        os.close(self._nothing)

    def launch(self, mark: str, job: Job) -> Process:
        """Start the main process. Raises NotStarted."""
        if not self._children:
            self._bystanders = {(one.pid, one.start_time) for one in self._strangers()}
        try:
            if job.wrapped is not None:
                _check(job)  # for the wrapping fails without saying why
            popen = subprocess.Popen(  # noqa: S603 (running what we are told to is the purpose)
                job.wrapped or job.command,
                cwd=job.directory,
                env=job.env,
                stdin=job.stdin if job.stdin is not None else self._nothing,
                stdout=job.stdout,
                stderr=job.stderr,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise NotStarted(_explained(error, job)) from None
        try:
            exits = os.pidfd_open(popen.pid)
        except OSError as error:
            popen.kill()
            popen.wait()
            raise NotStarted(_explained(error, job)) from None
        process = strays.look(popen.pid)
        assert process is not None, "a child that was not waited for is always there"
        child = Child(mark, popen, process, exits, asyncio.get_running_loop().time())
        self._children[mark] = child
        self._mains.add(popen.pid)
        self._waiting[exits] = child
        self._epoll.register(exits, select.EPOLLIN)
        return process

    def terminate(self, mark: str) -> None:
        """SIGTERM to the whole tree."""
        for process in self._tree(self._children[mark]).processes:
            strays.send(process, signal.SIGTERM)
            strays.send(process, signal.SIGCONT)  # one that is stopped would never hear it

    def kill(self, mark: str) -> None:
        """SIGKILL to the whole tree until nothing is left; then `on_gone`."""
        child = self._children[mark]
        if not child.killing:
            child.killing = True
            child.killing_since = asyncio.get_running_loop().time()
            child.pause_s = strays.PAUSE_S_MIN
            self._sweep(child)

    def tend(self) -> None:
        """Fetch exits of orphans, measure trees that stay, give them groups, remove empty groups.

        To be called now and then.
        """
        self._orphans()
        self._emptying = [group for group in self._emptying if not group.remove()]
        now = asyncio.get_running_loop().time()
        for child in self._children.values():
            if child.exited:
                continue
            if child.group is None and now - child.since >= GROUP_AFTER_S:
                self._give_group(child)
            if now - child.measured >= MEASURE_S:
                child.measured = now
                child.rss_bytes = max(child.rss_bytes, strays.rss_bytes(child.process.pid))

    def _give_group(self, child: Child) -> None:
        """Make a control group for the child's tree and have it enter."""
        if self._group is None:
            return
        group = self._group.below(child.mark)
        try:
            with contextlib.suppress(FileExistsError):  # its limits may have made it
                group.create()
        except OSError as error:
            _log.warning("Control groups don't work here (%s): doing without.", error.strerror)
            self._group = None
            return
        child.group = group
        pids = [process.pid for process in self._tree(child).processes]
        asyncio.get_running_loop().run_in_executor(None, _enter, child, group, pids)

    def _on_exits(self) -> None:
        for exits, _ in self._epoll.poll(0):
            self._on_exit(self._waiting.pop(exits))

    def _on_exit(self, child: Child) -> None:
        """The main process ended: tell, and see what it left."""
        self._epoll.unregister(child.exits)
        os.close(child.exits)
        ended = _waited(child.process.pid)
        code = None
        if ended is not None:
            code, usage = ended
            child.usage = Usage(usage.cpu_s, usage.max_rss_bytes or child.rss_bytes or None)
        child.popen.returncode = code if code is not None else 0  # it must not wait itself
        child.exited = True
        self._mains.discard(child.process.pid)
        self._on_exited(child.mark, code)
        if not child.killing:
            self._sweep(child)

    def _sweep(self, child: Child) -> None:
        """One look at a tree that is to end, and a timer for the next unless it is gone."""
        if child.timer is not None:
            child.timer.cancel()
        if child.killing and child.group is not None:
            child.group.kill()  # before we look: a tree that grows while it is walked is gone
        left, certain = self._tree(child)
        if child.exited and not left and certain:
            self._forget(child)
            return
        if child.killing:
            for process in left:
                strays.send(process, signal.SIGKILL)
            self._complain(child, left)
        child.timer = asyncio.get_running_loop().call_later(child.pause_s, self._sweep, child)
        child.pause_s = min(2 * child.pause_s, strays.PAUSE_S_MAX)

    def _forget(self, child: Child) -> None:
        if child.group is not None:
            # Those that nobody waited for are counted here, but none from before it was entered.
            cpu_s = max(child.usage.cpu_s, child.group.cpu_s() or 0.0)
            child.usage = child.usage._replace(cpu_s=cpu_s)
            if not child.group.remove():
                self._emptying.append(child.group)
        del self._children[child.mark]
        self._on_gone(child.mark, child.usage)

    def _complain(self, child: Child, left: list[Process]) -> None:
        """Say once that a tree does not die; it keeps its slot until it does."""
        killing_s = asyncio.get_running_loop().time() - child.killing_since
        if left and killing_s >= STUCK_S and not child.stuck:
            child.stuck = True
            pids = ", ".join(str(process.pid) for process in left)
            _log.error("Processes %s of attempt %s do not die; still trying.", pids, child.mark)

    def _tree(self, child: Child) -> Found:
        """The living processes of the attempt."""
        certain = True
        nearby = [] if child.exited else strays.below(child.process.pid)
        if self._adopts:
            for orphan in self._orphans():
                nearby.extend(strays.below(orphan))
        else:
            nearby = strays.everyone()
        # Whose the orphans of an only child are is clear, whatever they did to hide.
        if len(self._children) > 1 or not self._adopts:
            roots = {child.process.pid: child.process.start_time}
            nearby, certain = strays.belonging(nearby, (child.mark,), roots)
        found = {process.pid: process for process in nearby}
        for pid in child.group.pids() if child.group is not None else ():
            if pid not in found and (process := strays.look(pid)) is not None:
                found[pid] = process
        return Found([process for process in found.values() if not process.zombie], certain)

    def _orphans(self) -> list[int]:
        """Living children of the agent that came to it from a task; the ended ones are reaped.

        One that ended while we looked has left its children to us: hence until none is new.
        """
        seen: set[int] = set()
        orphans = []
        for _ in range(LOOKS_MAX):
            before = len(seen)
            for one in self._strangers(seen):
                seen.add(one.pid)
                if (one.pid, one.start_time) not in self._bystanders and not (
                    one.zombie and self._reaped(one.pid)
                ):
                    orphans.append(one.pid)
            if len(seen) == before:
                break
        return orphans

    def _reaped(self, pid: int) -> bool:
        """Fetch the exit of an ended orphan; False if some of its threads still live."""
        ended = _waited(pid)
        if ended is not None and len(self._children) == 1:  # else nobody knows whose it was
            (child,) = self._children.values()
            child.usage = Usage(
                child.usage.cpu_s + ended[1].cpu_s,
                max(child.usage.max_rss_bytes or 0, ended[1].max_rss_bytes or 0) or None,
            )
        return ended is not None or strays.look(pid) is None

    def _strangers(self, seen: AbstractSet[int] = frozenset()) -> Iterator[Process]:
        """Children of the agent that are no main process and not in the agent's session.

        Those that were `seen` before are left out.

        Every task begins a session of its own, and what the agent starts for itself while tasks
        run stays in its session: so these are the orphans of tasks, and bystanders.
        """
        ours = {*self._mains, self._guard()}
        pids = [pid for pid in self._offspring.pids() if pid not in ours and pid not in seen]
        own_session = os.getsid(0) if pids else 0
        for pid in pids:
            process = strays.look(pid)
            if process is not None and process.session != own_session:
                yield process


def environment(
    own: Mapping[str, str],
    *,
    mark: str,
    fence: int,
    facts: Mapping[str, str],
    extra: Mapping[str, str],
) -> dict[str, str]:
    """The clean environment of an attempt.

    A few variables of our `own`, then `extra`, and last other `facts`, the fence, and the mark, to
    which the fence is added because attempts one after the other may have the same. Nothing in it
    is called as if it were a token.
    """
    return {
        "PATH": os.defpath,
        **{name: own[name] for name in INHERITED if name in own},
        **{name: value for name, value in extra.items() if not name.startswith("DTASK_TOKEN")},
        **facts,
        "DTASK_FENCE": str(fence),
        strays.MARK_VARIABLE: f"{mark}.{fence}",
    }


def become_subreaper() -> bool:
    """Have orphans of our descendants become our children; False, with a word, if we can't."""
    try:
        answer = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        answer = -1
    if answer != 0:
        _log.warning("This system has no child subreapers: strays are found by their mark only.")
    return bool(answer == 0)


def _explained(error: OSError | ValueError, job: Job) -> str:
    """Why the command could not be started, as a sentence."""
    name = job.command[0]
    if isinstance(error, OSError) and error.filename == job.directory:
        return (
            f"The working directory {job.directory!r} can't be entered on this worker "
            f"({error.strerror}): make it there, or leave `cwd` out."
        )
    if isinstance(error, FileNotFoundError) and "/" not in name:
        return (
            f"The command {name!r} is not on this worker's PATH ({job.env['PATH']}): install it "
            f"there, or give the path of the program."
        )
    if isinstance(error, FileNotFoundError):
        return (
            f"The program {name!r} is not on this worker, or the interpreter that its first line "
            f"names is not."
        )
    if isinstance(error, PermissionError):
        return f"The program {name!r} may not be run by this worker's user: see its permissions."
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"The command {name!r} can't be started: {reason}."


def _check(job: Job) -> None:
    """Raise OSError, as an attempt to start it would, if the directory or the program is bad."""
    os.stat(job.directory)  # noqa: PTH116 (a string)
    name = job.command[0]
    path = os.path.join(job.directory, name) if "/" in name else name  # noqa: PTH118 (same)
    if shutil.which(path, path=job.env["PATH"]) is None:
        kind = PermissionError if os.path.exists(path) else FileNotFoundError  # noqa: PTH110 (same)
        raise kind(0, "", name)


def _enter(child: Child, group: Group, pids: list[int]) -> None:
    for pid in pids:
        if not child.exited:
            with contextlib.suppress(OSError):  # it has just ended, and the group may be gone too
                group.add(pid)


def _waited(pid: int) -> tuple[int, Usage] | None:
    """How an ended child ended and what it used; None if it lives, or somebody else has asked.

    Its pid is its own until this has answered, so no other process can be meant.
    """
    try:
        found, status, used = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if found == 0:
        return None
    own_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rss_bytes = used.ru_maxrss * 1024 if used.ru_maxrss > own_kb else None
    return os.waitstatus_to_exitcode(status), Usage(used.ru_utime + used.ru_stime, rss_bytes)
