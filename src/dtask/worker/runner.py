"""Runs tasks on this machine: joins the machine that decides with what carries it out.

`Attempts` decides, `ProcessExecutor` starts and ends process trees, `Spool` keeps their files,
and the guard behind `Lifeline` ends them if this process can't.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dtask.clock import Clock, SystemClock
from dtask.core import attempts as core
from dtask.core.attempts import (
    GRACE_S,
    Attempts,
    Drain,
    Ended,
    Exited,
    Forget,
    Freed,
    Gone,
    Held,
    Kill,
    Launch,
    LaunchFailed,
    Name,
    Start,
    Stop,
    Terminate,
    Tick,
    unknown_task,
)
from dtask.wire.tasks import TaskAnswer
from dtask.worker import lifeline, spool
from dtask.worker.cgroup import Group, make_group
from dtask.worker.executors.process import Job, NotStarted, ProcessExecutor, environment
from dtask.worker.spool import LOG_BYTES_MAX, Folder, Record, Spool, spool_path

_log = logging.getLogger(__name__)

#: While tasks run, logs are held to their cap and process trees are tended this often.
TICK_S: Final = 0.2


class Run:
    """The shell's side of an attempt."""

    def __init__(self, mark: str, folder: Folder) -> None:
        self.mark = mark
        self.folder = folder
        self.ended = asyncio.Event()


class Runner:
    """Runs up to `max_tasks` tasks. `start` it before use, `stop` it at the end.

    Both may be called twice. `on_held` and `on_ended` are called from the loop with the name of a
    task, (task_id, fence), when it takes a slot and when no slot is held under that name any more:
    that is when it has ended, or when a newer run of the same task has taken its slot over.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        max_tasks: int,
        path: Path | None = None,
        clock: Clock | None = None,
        grace_s: float = GRACE_S,
        log_bytes_max: int = LOG_BYTES_MAX,
        on_held: Callable[[str, int], None] | None = None,
        on_ended: Callable[[str, int], None] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._on_held = on_held or _ignore
        self._on_ended = on_ended or _ignore
        self._clock = clock or SystemClock()
        self._attempts = Attempts(max_tasks, grace_s)
        self._spool = Spool(path or spool_path(worker_id), log_bytes_max)
        self._group: Group | None = None
        self._executor: ProcessExecutor | None = None
        self._lifeline: lifeline.Lifeline | None = None
        self._boot_id = ""
        self._runs: dict[Name, Run] = {}
        #: The attempt behind each mark whose tree is not gone.
        self._names: dict[str, Name] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        #: Effects still to be performed, in order.
        self._effects: deque[core.Effect] = deque()
        self._performing = False
        self._deadline: asyncio.TimerHandle | None = None
        self._ticks: asyncio.TimerHandle | None = None

    # Life

    async def start(self) -> None:
        """Take the spool, end what an earlier life left running, start the guard.

        When it returns, nothing of an earlier life runs any more. Raises Conflict if another
        agent uses the spool, Unavailable if the spool can't be used.
        """
        if self._executor is not None:
            return
        self._spool.open()
        try:
            await asyncio.to_thread(self._spool.clear)
        except BaseException:
            self._spool.close()
            raise
        self._boot_id = spool.boot_id()
        self._group = make_group(f"dtask-{secrets.token_hex(8)}")
        self._executor = ProcessExecutor(
            group=self._group, on_exited=self._exited, on_gone=self._gone
        )
        self._lifeline = lifeline.Lifeline(self._group)
        self._lifeline.start()

    async def stop(self) -> None:
        """Stop all tasks, wait until nothing is left of them, and leave nothing behind."""
        if self._executor is None or self._lifeline is None:
            return
        self.drain()
        self.stop_all()
        await self.idle()
        for timer in (self._deadline, self._ticks):
            if timer is not None:
                timer.cancel()
        guard, self._executor, self._lifeline = self._lifeline, None, None
        await guard.stop()
        if self._group is not None:
            await asyncio.to_thread(self._group.remove_soon)
        await asyncio.to_thread(self._spool.clear)
        self._spool.close()

    def drain(self) -> None:
        """Accept no task from now on."""
        self._handle(Drain())

    def stop_all(self) -> None:
        """Stop every task, each with its grace."""
        for name in self._attempts.held():
            self._handle(Stop(*name))

    async def idle(self) -> None:
        """Wait until no slot is taken."""
        await self._idle.wait()

    # Tasks

    def held(self) -> list[Name]:
        """(task_id, fence) of each taken slot."""
        return self._attempts.held()

    def knows(self, task_id: str, fence: int) -> bool:
        """Whether this attempt runs here or is remembered."""
        return self._attempts.find(task_id, fence) is not None

    def begin(self, start: Start) -> TaskAnswer:
        """Run a task; one that is known already is answered as it is.

        Raises Conflict for an old fence, Busy when all slots are taken, Unavailable when draining.
        A command that can't be started is no error: it has ended, and its answer says why.
        """
        self._handle(start)
        return self.answer(start.task_id, start.fence)

    def end(self, task_id: str, fence: int) -> TaskAnswer:
        """Stop a task; one that has not come yet will never start. Raises NotFound."""
        self._handle(Stop(task_id, fence))
        return self.answer(task_id, fence)

    def answer(self, task_id: str, fence: int) -> TaskAnswer:
        """How it stands with a task. Raises NotFound."""
        attempt = self._attempts.find(task_id, fence)
        if attempt is None:
            raise unknown_task(task_id, fence)
        folder = self.folder(task_id, fence)
        return TaskAnswer(
            task_id=task_id,
            fence=fence,
            worker_id=self.worker_id,
            state=attempt.state,
            started_at=attempt.started_at,
            ended_at=attempt.ended_at,
            exit_code=attempt.exit_code,
            cause=attempt.cause,
            error=attempt.error,
            stdout_bytes=folder.log_bytes("stdout") if folder is not None else 0,
            stderr_bytes=folder.log_bytes("stderr") if folder is not None else 0,
            truncated=folder.truncated if folder is not None else False,
        )

    def folder(self, task_id: str, fence: int) -> Folder | None:
        """Where the files of a task are; None if it has none."""
        run = self._runs.get((task_id, fence))
        return run.folder if run is not None else None

    async def ended(self, task_id: str, fence: int, wait_s: float) -> bool:
        """Wait until a task has ended, `wait_s` at most; whether it has (or is not known)."""
        run = self._runs.get((task_id, fence))
        if run is None or run.ended.is_set():
            return True
        if wait_s <= 0:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await run.ended.wait()
        return run.ended.is_set()

    # Events in, effects out

    def _handle(self, event: core.Event) -> None:
        """Let an event happen and perform what follows. Raises what refuses the event."""
        self._effects.extend(self._attempts.handle(event, self._clock.now()))
        if self._performing:
            return  # the performance that caused this event goes on with its effects
        self._performing = True
        try:
            while self._effects:
                self._perform(self._effects.popleft())
        finally:
            self._performing = False
        self._set_timers()

    def _perform(self, effect: core.Effect) -> None:
        match effect:
            case Held(task_id, fence):
                mark = secrets.token_hex(8)
                self._runs[task_id, fence] = Run(mark, self._spool.folder(mark))
                self._idle.clear()
                self._on_held(task_id, fence)
            case Launch(start):
                self._launch(start)
            case Terminate(task_id, fence):
                self._started.terminate(self._runs[task_id, fence].mark)
            case Kill(task_id, fence):
                self._started.kill(self._runs[task_id, fence].mark)
            case Ended(task_id, fence):
                if (run := self._runs.get((task_id, fence))) is not None:
                    run.folder.cut()
                    run.ended.set()
                    _remove_work(run.folder)
            case Freed(task_id, fence):
                if not self._attempts.held():
                    self._idle.set()
                self._on_ended(task_id, fence)
            case Forget(task_id, fence):
                if (run := self._runs.pop((task_id, fence), None)) is not None:
                    _in_background(run.folder.remove)

    @property
    def _started(self) -> ProcessExecutor:
        assert self._executor is not None, "the runner has not been started"
        return self._executor

    def _launch(self, start: Start) -> None:
        """Make the attempt's directory, warn the guard, start the process: in this order."""
        name = (start.task_id, start.fence)
        run = self._runs[name]
        assert self._lifeline is not None
        env = environment(os.environ, mark=run.mark, name=name, extra=start.env)
        self._lifeline.expect(run.mark)
        try:
            run.folder.create()
            with run.folder.logs() as (stdout, stderr):
                job = Job(start.command, env, run.folder.work, stdout, stderr)
                process = self._started.launch(run.mark, job)
        except OSError as error:
            self._not_launched(
                name, f"The worker's spool {self._spool.path} can't be written: {error.strerror}."
            )
        except NotStarted as reason:
            self._not_launched(name, str(reason))
        else:
            self._names[run.mark] = name
            self._lifeline.root(run.mark, process)
            group = self._group.path if self._group is not None else None
            run.folder.note(Record(*name, process.pid, process.start_time, self._boot_id, group))

    def _not_launched(self, name: Name, sentence: str) -> None:
        assert self._lifeline is not None
        self._lifeline.drop(self._runs[name].mark)
        self._handle(LaunchFailed(*name, sentence))

    def _exited(self, mark: str, exit_code: int | None) -> None:
        self._handle(Exited(*self._names[mark], exit_code))

    def _gone(self, mark: str) -> None:
        assert self._lifeline is not None
        self._lifeline.drop(mark)
        name = self._names.pop(mark)
        folder = self._runs[name].folder
        log_bytes = folder.log_bytes("stdout") + folder.log_bytes("stderr")
        self._handle(Gone(*name, log_bytes))

    # Time

    def _set_timers(self) -> None:
        loop = asyncio.get_running_loop()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        due = self._attempts.next_deadline()
        if due is not None:
            in_s = max(0.0, due - self._clock.now())
            self._deadline = loop.call_later(in_s, self._handle, Tick())
        if self._ticks is None and not self._idle.is_set():
            self._ticks = loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """What must be looked at now and then while tasks run."""
        self._ticks = None
        for name in self._names.values():
            self._runs[name].folder.cut()
        self._started.tend()
        self._handle(Tick())  # loop timers stand still while a machine sleeps, deadlines don't


def _remove_work(folder: Folder) -> None:
    if not folder.remove_work():
        _in_background(lambda: shutil.rmtree(folder.work, ignore_errors=True))


def _in_background(act: Callable[[], None]) -> None:
    """Do what may take long on a disk without holding up the loop."""
    asyncio.get_running_loop().run_in_executor(None, act)


def _ignore(task_id: str, fence: int) -> None:
    del task_id, fence
