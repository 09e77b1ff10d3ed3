"""`dtask run`: one command, as if it ran here."""

import asyncio
import contextlib
import errno
import signal
import time
from typing import TYPE_CHECKING, Final, Unpack

import click

from dtask.cli import asking, draft, submitting
from dtask.cli.asking import Asked
from dtask.cli.draft import Draft
from dtask.cli.entry import INTERRUPTED
from dtask.cli.invocation import SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.cli.seconds import told
from dtask.core.jobs.names import ONLY_TASK
from dtask.core.jobs.states import ENDS, Cause, State
from dtask.errors import DtaskError, Unavailable

if TYPE_CHECKING:
    from dtask.cli.output import StatusLine, Stream
    from dtask.client import AsyncClient
    from dtask.client.job_results import JobResult, TaskSummary

#: Seconds until a wait is told of, and between two questions why it lasts.
PATIENCE_S: Final = 0.4
ASK_S: Final = 1.0
#: Longest that who leaves waits for the scheduler to hear of it.
LEAVE_S: Final = 3.0
#: Seconds between two tries to stop a job of a scheduler that can't do it yet.
AGAIN_S: Final = 1.0

#: What stops the job, and when it comes a second time, leaves it to the scheduler.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    "run",
    cls=submitting.Worded,
    params=[*asking.OPTIONS, asking.STDIN],
    options_metavar="[OPTIONS]",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@SCHEDULER
@TOKEN_FILE
@quiet("Say nothing of one's own, such as why it waits.")
@click.pass_obj
def command(
    invocation: Invocation, words: tuple[str, ...], dashes: int | None, **asked: Unpack[Asked]
) -> None:
    """Run a command on a worker, as if it ran here.

    Waits for its turn, and says why; passes on what it writes; ends with its exit code. Ctrl-C
    stops it and waits for its end, a second one does not wait. A script runs without `--`.

    Exit codes of its own: 124 it ran longer than --timeout, 125 it did not run (cancelled by
    somebody, no slot within --max-queue, workers lost, a result over 1 MiB), 127 it could not be
    started, 128 + N it was ended by signal N, 130 Ctrl-C.
    """
    drafted = draft.of_words("run", list(words), dashes, asked)
    code = asyncio.run(_run(invocation, drafted))
    raise click.exceptions.Exit(code)


async def _run(invocation: Invocation, drafted: Draft) -> int:
    from dtask.cli.output import StatusLine  # noqa: PLC0415 (commands start fast)

    line = StatusLine(silent=invocation.mode == "quiet")
    async with invocation.async_client() as client:
        return await _Run(client, drafted, line).through()


class _Run:
    """One job of one task, from its submit to its end."""

    def __init__(self, client: "AsyncClient", drafted: Draft, line: "StatusLine") -> None:
        self._client = client
        self._draft = drafted
        self._line = line
        self._job_id: int | None = None
        self._submitted_at = time.monotonic()
        self._state: State | None = None
        self._changed = asyncio.Event()
        #: How often it was asked to stop, and done when it was asked twice.
        self._stops = 0
        self._left = asyncio.Event()
        self._cancelling: asyncio.Task[None] | None = None
        self._broken = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def through(self) -> int:
        """Run it; the exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop)
        leaving = asyncio.create_task(self._left.wait())
        running = asyncio.create_task(self._follow())
        try:
            await asyncio.wait([leaving, running], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            await self._leave()
            return INTERRUPTED
        finally:
            self._line.clear()
            for task in (leaving, running, *self._tasks):
                task.cancel()
            await asyncio.gather(leaving, running, *self._tasks, return_exceptions=True)

    async def _follow(self) -> int:
        job = await submitting.submit_async(self._client, self._draft)
        self._job_id = job.id
        if self._stops:
            self._cancel()
        explaining = self._start(self._explain())
        streams = [self._start(self._copy("stdout")), self._start(self._copy("stderr"))]
        try:
            ended = await self._client.wait(job.id)
            for stream in streams:
                await stream
        except Unavailable as error:
            sentence = f"{error} Job {job.id} goes on without this terminal: dtask logs -f {job.id}"
            raise Unavailable(sentence, code=error.code, **error.facts) from None
        explaining.cancel()
        self._line.clear()
        if self._broken:
            raise BrokenPipeError
        return self._end(ended)

    def _start(self, act: "asyncio._CoroutineLike[None]") -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(act)
        self._tasks.add(task)
        return task

    # Output

    async def _copy(self, stream: "Stream") -> None:
        from dtask.cli.output import Outlet  # noqa: PLC0415 (commands start fast)

        outlet = Outlet(stream)
        pieces = self._client.logs(self._name, stream=stream, follow=True, from_first=True)
        async for piece in pieces:
            if outlet.is_terminal:
                self._line.clear()
            try:
                # In a thread: who reads may be slow, and Ctrl-C must be heard meanwhile.
                await asyncio.to_thread(outlet.write, piece)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                self._broken = True  # nobody reads any more, or the terminal is gone
                self._cancel()
                return
        with contextlib.suppress(OSError):
            outlet.close()

    @property
    def _name(self) -> str:
        return f"{self._job_id}/{ONLY_TASK}"

    # Waiting

    async def _explain(self) -> None:
        """While it does not run, say why."""
        self._start(self._watch())
        pause_s = PATIENCE_S
        while self._state not in ENDS:
            try:
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            except TimeoutError:
                if self._state is not State.RUNNING or self._stops:
                    await self._tell()
            else:
                self._changed.clear()
                if self._state is State.RUNNING:
                    self._line.clear()
            pause_s = ASK_S

    async def _watch(self) -> None:
        """Keep the state."""
        async for event in self._client.events(job=self._job_id):
            if event.task is not None:
                self._state = event.state
                self._changed.set()

    async def _tell(self) -> None:
        assert self._job_id is not None
        try:
            why = await self._client.why(self._job_id)
        except DtaskError:
            return  # it has ended, or the scheduler is silent: whoever waits will find out
        if why.reasons:
            reason = why.reasons[0]
            self._state = reason.state
            if reason.code != "running":
                elapsed = told(round(time.monotonic() - self._submitted_at))
                self._line.show(
                    f"Job {self._job_id}: {reason.sentence}",
                    subject=reason.code,
                    more=f" ({elapsed})",
                )

    # Stopping

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            self._left.set()
        elif self._job_id is not None:
            self._cancel()  # first of all: the terminal may be gone, and what is said with it
            told_so = f"Stopping job {self._job_id}. Ctrl-C again leaves it to the scheduler."
            self._line.say(told_so, interrupted=True)

    async def _leave(self) -> None:
        """Go, but not before the scheduler has heard that it is to stop the job."""
        if self._cancelling is not None:
            await asyncio.wait([self._cancelling], timeout=LEAVE_S)
            if not self._cancelling.done():
                self._line.say(
                    f"The scheduler has not heard that job {self._job_id} is to be stopped. Later: "
                    f"dtask cancel {self._job_id}"
                )
                return
        if self._job_id is not None:
            self._line.say(f"Job {self._job_id} is left: dtask job {self._job_id}")

    def _cancel(self) -> None:
        self._cancelling = self._start(self._send_cancel())

    async def _send_cancel(self) -> None:
        """Ask for the stop until the scheduler has heard it."""
        assert self._job_id is not None
        said = False
        while True:
            try:
                await self._client.cancel(self._job_id)
            except Unavailable as error:
                if not said:
                    self._line.say(f"Job {self._job_id} can't be stopped yet: {error} Trying on.")
                said = True
                await asyncio.sleep(AGAIN_S)
            except DtaskError as error:
                self._line.say(f"Job {self._job_id} can't be stopped: {error}")
                return
            else:
                return

    # The end

    def _end(self, ended: "JobResult") -> int:
        from dtask.cli import ending  # noqa: PLC0415 (commands start fast)

        task = next(iter(ended.tasks.values()))
        if self._stops and task.state is State.CANCELLED:
            self._line.say(f"Job {self._job_id} is cancelled.")
            return INTERRUPTED
        if task.state is not State.SUCCEEDED and (
            task.cause is not Cause.EXIT or _by_signal(task) or task.error
        ):
            self._line.say(f"{self._name} {ending.told(task)}.")
            self._advise(task)
        return ending.exit_code(task)

    def _advise(self, task: "TaskSummary") -> None:
        cwd = next(iter(self._draft.body["tasks"].values())).get("cwd")
        if self._draft.here and f"working directory {cwd!r}" in (task.error or ""):
            self._line.say("--scratch runs it in an empty directory of its own.")


def _by_signal(task: "TaskSummary") -> bool:
    return task.exit_code is not None and task.exit_code < 0
