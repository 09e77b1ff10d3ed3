"""The agent's end of the pipe to its guard: the guard acts when it breaks."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import dtask
from dtask.worker.cgroup import Group
from dtask.worker.strays import Process

#: The end of an attempt is told with the start of another, or after this; so many fit a write.
FLUSH_S: Final = 0.2
DROPPED_MAX: Final = 64

_log = logging.getLogger(__name__)

#: A guard that ended is replaced after this.
RESTART_S: Final = 1.0

#: A guard with nothing to do ends at once when the pipe does; it gets this long.
STOP_S: Final = 5.0


class Lifeline:
    """Starts the guard, keeps it alive, and tells it which attempts live."""

    def __init__(self, group: Group | None, limits: tuple[str, ...] = ()) -> None:
        self._group = group
        #: Directories of the groups that hold tasks to limits, made or not.
        self._limits = limits
        self._guard: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._exits = -1
        self._restart: asyncio.TimerHandle | None = None
        #: By mark, all that a new guard must be told.
        self._lines: dict[str, bytes] = {}
        #: Marks that it is still to be told the end of.
        self._dropped: list[str] = []
        self._flush: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The guard's process id; None while there is none."""
        return self._guard.pid if self._guard is not None else None

    def start(self) -> None:
        """Start the guard. Without one the agent still works, and the log says so."""
        self._restart = None
        try:
            self._spawn()
        except OSError as error:
            _log.warning("The guard can't be started (%s); trying again.", error.strerror)
            self._start_later()
            return
        self._dropped.clear()
        for line in self._lines.values():
            self._tell(line)

    async def stop(self) -> None:
        """Let the guard end. It kills what it was told of and not yet told the end of."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._flush is not None:
            self._flush.cancel()
            self._flush_ends()
        guard = self._release()
        if guard is None:
            return
        try:
            await asyncio.to_thread(guard.wait, STOP_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()

    def expect(self, mark: str) -> None:
        """An attempt is about to start."""
        self._lines[mark] = f"+ {mark}\n".encode()
        self._tell(self._ends() + self._lines[mark])

    def root(self, mark: str, process: Process) -> None:
        """The attempt's main process is this one."""
        self._lines[mark] = f"= {mark} {process.pid} {process.start_time}\n".encode()
        self._tell(self._lines[mark])

    def drop(self, mark: str) -> None:
        """Nothing is left of the attempt. The guard need not know at once."""
        if self._lines.pop(mark, None) is None:
            return
        self._dropped.append(mark)
        if len(self._dropped) >= DROPPED_MAX:
            self._tell(self._ends())
        elif self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_ends)

    def _flush_ends(self) -> None:
        self._flush = None
        if self._dropped:
            self._tell(self._ends())

    def _ends(self) -> bytes:
        """The lines that were put off."""
        dropped, self._dropped = self._dropped, []
        return b"".join(f"- {mark}\n".encode() for mark in dropped)

    def _spawn(self) -> None:
        command = [sys.executable, "-P", "-m", "dtask.worker.guard"]
        command += [self._group.path if self._group is not None else "", *self._limits]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DTASK_TOKEN")
        }
        environment["PYTHONPATH"] = str(Path(dtask.__file__).parent.parent)
        theirs, ours = os.pipe()
        try:
            # A process group of its own, so that Ctrl-C and `kill -9 -GROUP` reach the agent only;
            # not a session, for a child in another session is taken for an orphan of a task.
            guard = subprocess.Popen(  # noqa: S603 (our own module)
                command,
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                process_group=0,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._guard, self._pipe = guard, ours
        self._exits = os.pidfd_open(guard.pid)
        asyncio.get_running_loop().add_reader(self._exits, self._on_exit)

    def _tell(self, line: bytes) -> None:
        if self._pipe == -1:
            return  # the next guard is told
        try:
            os.write(self._pipe, line)  # shorter than PIPE_BUF: whole or not at all
        except BlockingIOError:
            _log.warning("The guard does not listen; it is replaced.")
            assert self._guard is not None
            self._guard.kill()
        except BrokenPipeError:
            pass  # it has ended: _on_exit comes

    def _on_exit(self) -> None:
        guard = self._release()
        assert guard is not None
        _log.warning("The guard ended (exit code %s); starting another.", guard.wait())
        self._start_later()

    def _start_later(self) -> None:
        self._restart = asyncio.get_running_loop().call_later(RESTART_S, self.start)

    def _release(self) -> subprocess.Popen[bytes] | None:
        """Let go of the pipe and of the guard."""
        guard, self._guard = self._guard, None
        if guard is not None:
            asyncio.get_running_loop().remove_reader(self._exits)
            os.close(self._exits)
            os.close(self._pipe)  # a guard that lives ends now
            self._pipe = self._exits = -1
        return guard
