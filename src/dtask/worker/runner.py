"""Runs tasks on this machine: joins the machine that decides with what carries it out.

Tasks by ticket and attempts of jobs are run alike. They differ in who hears of them: heartbeats
tell of the former, by `on_held` and `on_ended`; the channel tells of the latter, by
`on_attempt_started` and `on_attempt_ended`, and the end of one is kept until `forget_attempt`.

`Attempts` decides, `ProcessExecutor` starts and ends process trees, `Spool` keeps their files,
and the guard behind `Lifeline` ends them if this process can't.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from dtask.clock import Clock, SystemClock
from dtask.core import attempts as core
from dtask.core.attempts import (
    GRACE_S,
    Attempts,
    Drain,
    Drop,
    Ended,
    Exited,
    Failure,
    Forget,
    Freed,
    Gone,
    Heard,
    Held,
    Kill,
    Launch,
    LaunchFailed,
    Name,
    Prepare,
    Prepared,
    Restore,
    Start,
    Stop,
    StopAll,
    Terminate,
    Tick,
    unknown_task,
)
from dtask.wire.frames import EndedFrame, StartFrame
from dtask.wire.tasks import TaskAnswer
from dtask.worker import lifeline, spool
from dtask.worker.cgroup import Group, make_group
from dtask.worker.devices import Devices
from dtask.worker.executors.process import Job, NotStarted, ProcessExecutor, Usage, environment
from dtask.worker.files import Fetch, Files, NotPut
from dtask.worker.journal import Launched
from dtask.worker.limits import Limits
from dtask.worker.run import Key, Run, ended_frame, name_of, of_a_job, shown_name
from dtask.worker.spool import (
    LOG_BYTES_MAX,
    RESULT_BYTES_MAX,
    Folder,
    Kept,
    Spool,
    Stream,
    spool_path,
)
from dtask.worker.strays import Process
from dtask.worker.tallies import Tallies

_log = logging.getLogger(__name__)

#: While tasks run, logs are held to their cap and process trees are tended this often.
TICK_S: Final = 0.2

#: What the end of an attempt says that an agent held when it died.
LOST: Final = "The worker's process died while this ran, and what was left of it was killed."
TOO_LARGE: Final = (
    f"The result in DTASK_RESULT is over its limit of {RESULT_BYTES_MAX:,} bytes: keep large "
    f"results elsewhere, and let this one say where."
)


class Runner:
    """Runs up to `max_tasks` tasks. `start` it before use, `stop` it at the end.

    Both may be called twice. `fetch` gets the blobs of attempts of jobs. With `gpus_per_task`,
    each task has so many of the GPUs in `devices` for itself.

    `on_held` and `on_ended` are called from the loop with the name of a task by ticket, (task_id,
    fence), when it takes a slot and when no slot is held under that name any more: that is when it
    has ended, or when a newer run of the same task has taken its slot over.

    Attempts of jobs are named by their key, (cluster_id, fence). `on_attempt_started` is called
    with it and the epoch second when its process runs, `on_attempt_ended` when nothing is left of
    it; it has been written down then, and `attempt_end` tells.
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
        on_attempt_started: Callable[[Key, float], None] | None = None,
        on_attempt_ended: Callable[[Key], None] | None = None,
        fetch: Fetch | None = None,
        gpus_per_task: int = 0,
        devices: Sequence[str] = (),
    ) -> None:
        self.worker_id = worker_id
        self.max_tasks = max_tasks
        self.tallies = Tallies()
        self._on_held = on_held or _ignore
        self._on_ended = on_ended or _ignore
        self._on_attempt_started = on_attempt_started or _ignore
        self._on_attempt_ended = on_attempt_ended or _ignore
        self._clock = clock or SystemClock()
        self._attempts = Attempts(max_tasks, grace_s)
        self._spool = Spool(path or spool_path(worker_id), log_bytes_max)
        self._files = Files(self._spool.blobs, fetch)
        #: What attempts inherit is chosen from this.
        self._environ = dict(os.environ)
        self._devices = Devices(
            devices, per_task=gpus_per_task, max_tasks=max_tasks, environ=self._environ
        )
        name = f"dtask-{secrets.token_hex(8)}"
        self._limits = Limits(name)
        self._group_name = name
        self._group: Group | None = None
        self._executor: ProcessExecutor | None = None
        self._lifeline: lifeline.Lifeline | None = None
        self._boot_id = ""
        self._runs: dict[Name, Run] = {}
        #: Attempts of jobs.
        self._keys: dict[Key, Name] = {}
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

        When it returns, nothing of an earlier life runs any more, and its attempts of jobs have
        ended: as it wrote down, or `lost`. Raises Conflict if another agent uses the spool,
        Unavailable if the spool can't be used.
        """
        if self._executor is not None:
            return
        self._spool.open()
        try:
            kept = await asyncio.to_thread(self._spool.clear)
            await asyncio.to_thread(self._files.open)
        except BaseException:
            self._spool.close()
            raise
        if lost := sum(one.end is None for one in kept):
            _log.warning(
                "An earlier life of this worker died while it ran %s of jobs: what was left of %s "
                "was killed.",
                *(("1 attempt", "it") if lost == 1 else (f"{lost} attempts", "them")),
            )
        for one in kept:
            self._restore(one)
        self._boot_id = spool.boot_id()
        self._group = make_group(self._group_name)
        self._executor = ProcessExecutor(
            group=self._group,
            on_exited=self._exited,
            on_gone=self._gone,
            guard=lambda: self._lifeline.pid if self._lifeline is not None else None,
        )
        self._lifeline = lifeline.Lifeline(self._group, self._limits.paths())
        self._lifeline.start()

    async def stop(self) -> None:
        """Stop all tasks, wait until nothing is left of them, and leave nothing behind.

        But ends of attempts of jobs that nobody has heard of wait in the spool for the next life.
        """
        if self._executor is None or self._lifeline is None:
            return
        self.drain()
        self.stop_all()
        await self.idle()
        for timer in (self._deadline, self._ticks):
            if timer is not None:
                timer.cancel()
        self._executor.close()
        guard, self._executor, self._lifeline = self._lifeline, None, None
        await self._files.close()
        preparing = [run.preparing for run in self._runs.values() if run.preparing is not None]
        await asyncio.gather(*preparing, return_exceptions=True)
        await guard.stop()
        await asyncio.to_thread(self._limits.close)
        if self._group is not None:
            await asyncio.to_thread(self._group.remove_soon)
        await asyncio.to_thread(self._spool.clear)
        self._spool.close()

    def drain(self) -> None:
        """Accept no task from now on."""
        self._handle(Drain())

    def stop_all(self) -> None:
        """Stop every task, each with its grace."""
        self._handle(StopAll())

    async def idle(self) -> None:
        """Wait until no slot is taken."""
        await self._idle.wait()

    def has_room(self) -> bool:
        """Whether the disk has room for what another task writes."""
        return self._spool.has_room()

    def spool_bytes(self) -> int:
        """What is kept of tasks and for them, their working directories left out."""
        folders = [run.folder for run in self._runs.values() if run.folder.made]
        streams: tuple[Stream, ...] = ("stdout", "stderr", "result")
        written = sum(folder.log_bytes(stream) for folder in folders for stream in streams)
        return written + self._files.kept_bytes

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

    # Attempts of jobs

    def attempt(self, cluster_id: str, frame: StartFrame) -> None:
        """Run an attempt of a job; one that is known is not started again.

        What can't be started has ended, and its end says why; one that is refused, because all
        slots are taken, the worker drains or the fence is old, ends as `returned`.
        """
        key = (cluster_id, frame.fence)
        if key in self._keys:
            return
        name = name_of(cluster_id, frame)
        self._keys[key] = name
        self._runs[name] = Run(self._spool.folder(), key, frame)
        self._handle(
            Start(
                *name,
                frame.command,
                frame.env,
                timeout_s=frame.timeout_s,
                grace_s=frame.grace_s,
                prepare=bool(frame.files) or frame.stdin is not None,
                kept=True,
            )
        )

    def stop_attempt(self, key: Key, grace_s: float) -> None:
        """Stop an attempt, its whole tree: SIGTERM, `grace_s`, SIGKILL."""
        if (name := self._keys.get(key)) is not None:
            self._handle(Stop(*name, grace_s))

    def drop_attempt(self, key: Key) -> None:
        """Stop an attempt if it runs, and tell nobody how it ended."""
        if (name := self._keys.get(key)) is None:
            return
        if self._runs[name].end is None:
            _log.warning(
                "Its scheduler does not wait for attempt %s any more (fence %d): it is stopped.",
                shown_name(name),
                key[1],
            )
        self._handle(Drop(*name))

    def forget_attempt(self, key: Key) -> None:
        """The end of this attempt has been heard: it and its files are kept no longer."""
        if (name := self._keys.get(key)) is not None:
            self._handle(Heard(*name))

    def attempts(self, cluster_id: str) -> list[tuple[int, bool]]:
        """(fence, whether it was started) of each attempt held, or whose end is kept."""
        return [
            (key[1], self._runs[name].started_at is not None)
            for key, name in self._keys.items()
            if key[0] == cluster_id
        ]

    def attempt_end(self, key: Key) -> EndedFrame | None:
        """How an attempt ended; None if it has not, or is not known."""
        run = self._run_of(key)
        return ended_frame(run.end) if run is not None and run.end is not None else None

    def attempt_log(self, key: Key) -> Folder | None:
        """Where the streams of an attempt are; None if it is not known."""
        run = self._run_of(key)
        return run.folder if run is not None else None

    def clusters(self) -> set[str]:
        """The stores that the attempts held, and those whose end is kept, come from."""
        return {cluster_id for cluster_id, _ in self._keys}

    def _run_of(self, key: Key) -> Run | None:
        name = self._keys.get(key)
        return self._runs[name] if name is not None else None

    def _restore(self, kept: Kept) -> None:
        """An attempt of a job that an earlier life held."""
        key = (kept.cluster_id, kept.fence)
        name = (kept.task_id, kept.fence)
        run = Run(self._spool.folder(kept.mark), key)
        run.started_at = kept.started_at
        run.folder.made = kept.mark is not None
        run.folder.settle()
        run.ended.set()
        self._keys[key] = name
        self._runs[name] = run
        end = kept.end
        self._handle(
            Restore(
                *name,
                started_at=kept.started_at or 0.0,
                ended_at=end.ended_at if end is not None else self._clock.now(),
                exit_code=end.exit_code if end is not None else None,
                cause="lost" if end is None else None,
                error=None if end is not None else LOST,
            )
        )
        attempt = self._attempts.find(*name)
        assert attempt is not None
        run.end = end or run.outcome(attempt)

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
            case Prepare(start):
                self._prepare((start.task_id, start.fence))
            case Launch(start):
                self._launch(start)
            case Terminate(task_id, fence):
                self._started.terminate(self._runs[task_id, fence].mark)
            case Kill(task_id, fence):
                self._started.kill(self._runs[task_id, fence].mark)
            case Held(task_id, fence):
                self._hold((task_id, fence))
            case Ended(task_id, fence):
                self._conclude((task_id, fence))
            case Freed(task_id, fence):
                if not self._attempts.held():
                    self._idle.set()
                if not of_a_job(task_id):
                    self._on_ended(task_id, fence)
            case Forget(task_id, fence):
                self._forget((task_id, fence))

    @property
    def _started(self) -> ProcessExecutor:
        assert self._executor is not None, "the runner has not been started"
        return self._executor

    def _prepare(self, name: Name) -> None:
        """Fetch the files of an attempt."""
        run = self._runs[name]
        try:
            run.folder.create()
        except OSError as error:
            self._not_launched(name, self._unwritable(error), "worker_failed")
        else:
            run.preparing = asyncio.get_running_loop().create_task(self._put(name, run))

    async def _put(self, name: Name, run: Run) -> None:
        assert run.frame is not None
        assert run.key is not None
        frame = run.frame
        try:
            await self._files.put(run.key[0], frame.files, frame.stdin, run.folder)
        except NotPut as reason:
            cause: Failure = "start_failed" if reason.theirs else "worker_failed"
            self._handle(LaunchFailed(*name, str(reason), cause))
        except asyncio.CancelledError:
            run.folder.remove_work()
        else:
            self._handle(Prepared(*name))

    def _launch(self, start: Start) -> None:
        """Make the attempt's directory, warn the guard, start the process: in this order."""
        name = (start.task_id, start.fence)
        run = self._runs[name]
        assert self._lifeline is not None
        self._lifeline.expect(run.mark)
        try:
            if not self._spool.has_room():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 (as the rest)
            run.folder.create()
            process = self._start_process(run, start)
        except OSError as error:
            # By ticket there has been one word for both for ever.
            cause: Failure = "start_failed" if run.key is None else "worker_failed"
            self._not_launched(name, self._unwritable(error), cause)
        except NotStarted as reason:
            self._not_launched(name, str(reason))
        else:
            self._names[run.mark] = name
            self._lifeline.root(run.mark, process)
            self._launched(run, name, process)

    def _start_process(self, run: Run, start: Start) -> Process:
        """Raises NotStarted, or OSError if the spool can't be written."""
        frame = run.frame
        facts = {**run.facts(start.task_id), **self._devices.take(run.mark)}
        env = environment(
            self._environ, mark=run.mark, fence=start.fence, facts=facts, extra=start.env
        )
        directory = run.folder.work
        stdin = None
        opened = []
        try:
            if frame is not None:
                run.bounds = self._limits.bounds(
                    run.mark, cpus=frame.cpus, memory_mb=frame.memory_mb
                )
                if frame.cwd is not None:
                    directory = str(Path(directory, frame.cwd))
                if frame.stdin is not None:
                    stdin = os.open(run.folder.stdin, os.O_RDONLY | os.O_CLOEXEC)
                    opened.append(stdin)
            stdout, stderr = run.folder.logs()
            opened += [stdout, stderr]
            wrapped = run.bounds.wrapped(start.command)
            job = Job(start.command, env, directory, stdout, stderr, stdin, wrapped)
            return self._started.launch(run.mark, job)
        finally:
            for handle in opened:
                os.close(handle)

    def _launched(self, run: Run, name: Name, process: Process) -> None:
        """Write down what the next life must know, then tell."""
        run.started_at = self._clock.now()
        self.tallies.started += 1
        self._spool.launched(
            Launched(
                run.mark,
                *name,
                process.pid,
                process.start_time,
                self._boot_id,
                self._group.path if self._group is not None else None,
                cluster_id=run.key[0] if run.key is not None else None,
                number=run.frame.number if run.frame is not None else None,
                started_at=run.started_at,
                limits=self._limits.paths() if run.bounds.groups else (),
            )
        )
        if run.key is not None:
            self._on_attempt_started(run.key, run.started_at)

    def _not_launched(
        self,
        name: Name,
        sentence: str,
        cause: Failure = "start_failed",
    ) -> None:
        assert self._lifeline is not None
        run = self._runs[name]
        self._lifeline.drop(run.mark)
        self._devices.give_back(run.mark)
        self._limits.release(run.bounds)
        self._handle(LaunchFailed(*name, sentence, cause))

    def _unwritable(self, error: OSError) -> str:
        return f"The worker's spool {self._spool.path} can't be written: {error.strerror}."

    def _hold(self, name: Name) -> None:
        self._idle.clear()
        if not of_a_job(name[0]):
            self._runs[name] = Run(self._spool.folder())
            self._on_held(*name)

    def _conclude(self, name: Name) -> None:
        """An attempt has ended: write down how, and tell."""
        run = self._runs.get(name)
        if run is None:
            return  # stopped before it came
        if run.preparing is not None and not run.preparing.done():
            run.preparing.cancel()
        elif run.folder.made and not run.folder.empties():
            _in_background(run.folder.remove_work)
        attempt = self._attempts.find(*name)
        if attempt is not None:
            self.tallies.end(attempt)
        if run.key is not None:
            assert attempt is not None
            run.end = run.outcome(attempt)
            self._spool.ended(run.end)
        run.ended.set()
        if run.key is not None:
            self._on_attempt_ended(run.key)

    def _forget(self, name: Name) -> None:
        run = self._runs.pop(name, None)
        if run is not None:
            if run.key is not None:
                del self._keys[run.key]
            run.ended.set()
            if run.preparing is not None and not run.preparing.done():
                run.preparing.cancel()
                run.preparing.add_done_callback(lambda _: _in_background(run.folder.remove))
            elif not self._spool.forget(run.folder, run.key):
                _in_background(run.folder.remove)

    def _exited(self, mark: str, exit_code: int | None) -> None:
        self._handle(Exited(*self._names[mark], exit_code))

    def _gone(self, mark: str, usage: Usage) -> None:
        assert self._lifeline is not None
        self._lifeline.drop(mark)
        name = self._names.pop(mark)
        run = self._runs[name]
        self._devices.give_back(mark)
        run.cpu_s, run.max_rss_bytes = usage
        note = run.bounds.broken() or run.bounds.note
        if not self._spool.has_room():
            note = (
                f"The worker's spool {self._spool.path} was full: what this wrote may be missing."
            )
        fits = run.folder.settle()
        log_bytes = run.folder.log_bytes("stdout") + run.folder.log_bytes("stderr")
        self.tallies.log_bytes += log_bytes
        if run.key is not None and not fits:
            self._handle(Gone(*name, log_bytes, "result_too_large", TOO_LARGE))
        else:
            self._handle(Gone(*name, log_bytes, None, note))
        self._limits.release(run.bounds)

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
        self._limits.tend()
        self._handle(Tick())  # loop timers stand still while a machine sleeps, deadlines don't


def _in_background(act: Callable[[], None]) -> None:
    """Do what may take long on a disk without holding up the loop."""
    asyncio.get_running_loop().run_in_executor(None, act)


def _ignore(*_: object) -> None:
    pass
