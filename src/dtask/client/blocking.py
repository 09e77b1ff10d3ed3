"""`Client`: the SDK for programs that block."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from dtask import certificates
from dtask.client import calls, live, runs, session, specs
from dtask.client.acts import Act, Call, Flow, Freed, Item, Load, Open, Pause, Read, Reply
from dtask.client.calls import Question, Stream, Wishes
from dtask.client.job_calls import States
from dtask.client.job_flows import PATIENCE_S, TaskName
from dtask.client.job_results import (
    AttemptAnswer,
    ElementAnswer,
    Event,
    JobResult,
    JobSummary,
    QueueView,
    Stats,
    TaskAnswer,
    Why,
)
from dtask.client.jobs import Job
from dtask.client.picture import Picture
from dtask.client.results import Outcome, Placement, SignInCode, Worker
from dtask.client.saving import saving
from dtask.client.session import Session
from dtask.client.specs import HasId
from dtask.core.jobs.events import Again
from dtask.credentials import known_token
from dtask.errors import DtaskError

T = TypeVar("T")


class Client:
    """A scheduler's client. Many threads may share one. Close it, or use `with`.

    `scheduler`: its URL, or several, as a list or joined by commas; by default DTASK_SCHEDULER, or
    http://127.0.0.1:8080. `token`: the token, or how to find it, which is done with the first call;
    None sends none. `timeout_s`: how long a scheduler may take to answer one try of a call.
    `patience_s`: how long calls about jobs go on asking one that has fallen silent, because it may
    be restarting.
    All errors are those of `dtask.errors`.
    """

    def __init__(
        self,
        scheduler: str | Iterable[str] | None = None,
        *,
        token: str | Callable[[], str | None] | None = known_token,
        timeout_s: float = session.TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._session = Session(scheduler, token, timeout_s, patience_s)
        self._flows = self._session.flows
        self._jobs = self._session.job_flows
        #: By scheme. The one for https reads all certificates, 60 ms: only when it is needed.
        self._transports: dict[str, httpx.HTTPTransport] = {}
        self._freed = threading.Condition()

    def place(
        self,
        task_id: str | None = None,
        *,
        timeout: float | None = None,
        **wishes: Unpack[Wishes],
    ) -> Placement:
        """Hold a slot for a task on the worker that suits best.

        `wishes` are those of `dtask.client.calls.Wishes`: required_tags, preferred_tags,
        exclude_workers, strategy, ttl_s. Without a `task_id` one is made; with the same one,
        asking again gets the same answer. If there is no place, asks again for up to `timeout`
        seconds; raises NoWorker, whose `facts` tell the reasons.
        """
        asked = self._flows.question({"task_id": task_id, **wishes})
        return self._drive(self._flows.place(asked, deadline=self._flows.deadline(timeout)))

    def place_many(
        self, tasks: Iterable[Question], *, all_or_nothing: bool = False
    ) -> list[Placement | DtaskError]:
        """Place many tasks, each a dict of its wishes and `task_id`; one entry each, in order.

        With `all_or_nothing` (1,000 tasks at most) raises NoWorker unless all have a place.
        """
        return self._drive(self._flows.place_many(tasks, all_or_nothing=all_or_nothing))

    def run_on(
        self,
        command: Iterable[str],
        *,
        task_id: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        timeout: float | None = None,
        output_bytes: int = runs.OUTPUT_BYTES,
        **wishes: Unpack[Wishes],
    ) -> Outcome:
        """Run a command, a list of words, on a worker with a free slot, and wait for its end.

        `timeout_s` limits the run itself, `timeout` the wait for a place, `output_bytes` each of
        stdout and stderr in the outcome; `wishes` as for `place`. Needs the token.
        Workers that can't be reached, are full or drain are replaced by others. A command that
        fails is an Outcome. Raises NoWorker if there is no place, and Unavailable if the worker
        fell silent, so that it is not known how the command ended; then it is not run again.
        """
        return self._drive(
            runs.run_on(
                self._flows,
                self._flows.question({"task_id": task_id, **wishes}),
                calls.task_fields(command, env, timeout_s),
                deadline=self._flows.deadline(timeout),
                output_bytes=output_bytes,
            )
        )

    def release(self, placement: Placement | str, *, fence: int | None = None) -> None:
        """Give a slot back: of a placement, or of a task by its id, and fence if one is given.

        Raises NotFound if no such lease is held.
        """
        self._drive(self._flows.release(placement, fence))

    def workers(self, *, tag: str | None = None, status: str | None = None) -> list[Worker]:
        """All workers by id: those that meet the requirements `tag`, with this status.

        `tag` may hold several requirements, joined by commas.
        """
        return self._drive(self._flows.workers(tag=tag, status=status))

    def drain(self, worker_id: str) -> Worker:
        """Give a worker no new tasks from now on. Needs the token."""
        return self._drive(self._flows.drain(worker_id, drained=True))

    def undrain(self, worker_id: str) -> Worker:
        """Give a drained worker tasks again. Needs the token."""
        return self._drive(self._flows.drain(worker_id, drained=False))

    def live(self) -> Generator[Picture, None, None]:
        """How the fleet and its work stand, and again with each change, without end.

        Each item is a whole Picture. Goes on over breaks: where the scheduler falls silent one
        more says so, `connected` False, until it is heard again. Needs the token.
        """
        return self._iterate(live.pictures(self._flows))

    def sign_in_code(self) -> SignInCode:
        """A link that signs one browser in to the dashboard, once, within a minute.

        Who has it can do what the token can. Needs the token.
        """
        return self._drive(self._flows.sign_in_code())

    # Jobs

    def submit(
        self, command: Iterable[str] | Mapping[str, Any], **wishes: Unpack[specs.Wishes]
    ) -> Job:
        """Submit a job. When this returns, it is on disk, and will be done.

        `command`: a list of words, or a dict as `POST /api/v1/jobs` takes it, which may hold a
        graph of tasks. `wishes` are those of `dtask.client.specs.Wishes`: name, queue, priority,
        key, after, when, not_before, and of one command also tags, array, retry, crash_limit,
        timeout_s, max_queue_s, start_timeout_s, grace_s, env, files, stdin, cwd, cpus, memory_mb.
        Local `files` and `stdin` are sent if the scheduler lacks them. A `key` is made if none is
        given, so that asking again after a lost answer, as this does, makes no second job.
        """
        found = self._drive(self._jobs.submit(command, wishes))
        return Job(self, found.job_id, known=found.known)

    def wait(self, job: int | HasId, *, timeout_s: float | None = None) -> JobResult:
        """Wait until a job has ended, and return how. Raises TimeoutError after `timeout_s`."""
        return self._drive(self._jobs.wait(job, timeout_s=timeout_s))

    def job(self, job: int | HasId) -> JobResult:
        """How a job and its tasks stand now. Raises NotFound if it is not known (any more)."""
        return self._drive(self._jobs.job(job))

    def jobs(
        self, *, state: States = None, queue: str | None = None, limit: int | None = None
    ) -> list[JobSummary]:
        """Jobs, the newest first: those in one of these states, of this queue.

        All of them, or `limit`.
        """
        return self._drive(self._jobs.jobs(state=state, queue=queue, limit=limit))

    def cancel(self, job: int | HasId, task: str | None = None) -> None:
        """Stop a job or one task of it, and all that needs it. Raises NotFound.

        It is `cancelled` once all its processes are gone: `wait` for that.
        """
        self._drive(self._jobs.cancel(job, task))

    def retry(
        self, job: int | HasId, *, again: Again = "unsuccessful", task: str | None = None
    ) -> int:
        """Start over what did not succeed; return how many tasks and elements that is.

        `again`: `unsuccessful`, all that did not succeed, or `failed`, what failed and what was
        skipped because of it. Raises Conflict if there is none.
        """
        return self._drive(self._jobs.retry(job, again=again, task=task)).tasks

    def why(self, name: TaskName) -> Why:
        """Why everything of a job stands where it does, in words and for programs.

        Or one task (`42/train`) or element (`42/tile[7]`) of it.
        """
        return self._drive(self._jobs.why(name))

    def elements(
        self, name: TaskName, *, state: States = None, limit: int | None = None
    ) -> list[ElementAnswer]:
        """Elements of an array by index, all or those in one of these states.

        `name`: `42/tile`, or a job of one task.
        """
        return self._drive(self._jobs.elements(name, state=state, limit=limit))

    def task(self, name: TaskName) -> TaskAnswer:
        """How a task stands (`summary`), what it was submitted as (`spec`), its last attempts."""
        return self._drive(self._jobs.task(name))

    def attempts(self, name: TaskName) -> list[AttemptAnswer]:
        """The attempts of a task, or of an element (`42/tile[7]`), the newest first."""
        return self._drive(self._jobs.attempts(name))

    def result(self, name: TaskName) -> bytes:
        """What a task wrote to the file named by DTASK_RESULT; of its last attempt, or `42/a#2`.

        Raises NotFound if it has not ended, or left none.
        """
        return self._drive(self._jobs.result(name))

    def logs(
        self,
        name: TaskName,
        *,
        stream: Stream = "stdout",
        follow: bool = False,
        from_first: bool = False,
    ) -> Generator[bytes, None, None]:
        """What a task wrote so far, piece by piece; of its last attempt, or that of `42/a#2`.

        With `follow` also what it will write: waits for the start, goes on over breaks and, unless
        an attempt is named, with the next attempt, until the task has ended. With `from_first` it
        begins with the first attempt, not with the one under way.
        """
        return self._iterate(
            self._jobs.logs(name, stream=stream, follow=follow, from_first=from_first)
        )

    def events(
        self,
        *,
        after: str | None = None,
        job: int | HasId | None = None,
        missed: Callable[[], None] | None = None,
        alive: Callable[[], None] | None = None,
    ) -> Generator[Event, None, None]:
        """What moves, of all jobs or of one, from now on and without end; goes on over breaks.

        With `after`, the `id` of an event, those that came after it. `missed` is called where there
        may have been others: at a beginning without `after`, and where they are kept no longer.
        `alive` is called with each sign of life, at least every 15 s, and may raise to end it.
        """
        return self._iterate(self._jobs.events(after=after, job=job, missed=missed, alive=alive))

    def queues(self) -> list[QueueView]:
        """All queues, by name, and what stands in them."""
        return self._drive(self._jobs.queues())

    def set_queue(
        self,
        name: str,
        *,
        max_running: int | None = None,
        max_queued: int | None = None,
        weight: float | None = None,
        paused: bool | None = None,
    ) -> QueueView:
        """Make a queue, or change it. None leaves a setting as it is; a limit of 0 means none."""
        settings: dict[str, object] = {
            "max_running": max_running,
            "max_queued": max_queued,
            "weight": weight,
            "paused": paused,
        }
        return self._drive(self._jobs.set_queue(name, settings))

    def stats(self) -> Stats:
        """How many tasks are where, and what has been done since the scheduler's start."""
        return self._drive(self._jobs.stats())

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the scheduler's store to a new file, while it goes on serving.

        Raises Conflict if there is such a file; one that could not be completed is removed.
        """
        with saving(path) as file:
            for piece in self._iterate(self._jobs.backup()):
                file.write(piece)

    def close(self) -> None:
        """Close all connections. The client can't be used afterwards."""
        for transport in self._transports.values():
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drive(self, flow: Flow[T]) -> T:
        try:
            act = next(flow)
            while True:
                try:
                    result = self._perform(act)
                except BaseException as error:  # noqa: BLE001 (the flow cleans up, and raises it)
                    act = flow.throw(error)
                else:
                    act = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _iterate(self, flow: Flow[None]) -> Generator[Any, None, None]:
        """The items of a flow, as they come."""
        answer = _Answer()
        try:
            act = next(flow)
            while True:
                try:
                    result: Reply | bytes | None = None
                    if isinstance(act, Item):
                        yield act.value
                    elif isinstance(act, Open):
                        answer.close()
                        result = self._call(act.call, answer)
                    elif isinstance(act, Read):
                        result = answer.read()
                    else:
                        result = self._perform(act)
                except BaseException as error:  # noqa: BLE001 (as above; an end of the iteration too)
                    act = flow.throw(error)
                else:
                    act = flow.send(result)
        except StopIteration:
            return
        finally:
            answer.close()

    def _perform(self, act: Act) -> Reply | bytes | None:
        match act:
            case Call():
                return self._call(act)
            case Load():
                return session.load(act)
            case Pause(seconds=seconds, until_freed=True):
                with self._freed:
                    self._freed.wait(seconds)
            case Pause(seconds=seconds):
                time.sleep(seconds)
            case Freed():
                with self._freed:
                    self._freed.notify()
        return None

    def _call(self, call: Call, answer: "_Answer | None" = None) -> Reply:
        """The reply; if it is a success and goes into an `answer`, that is left open."""
        try:
            request = self._session.request(call)
            response = self._transport(request.url.scheme).handle_request(request)
            if answer is not None and response.is_success:
                answer.open(call, response)
                return Reply(status=response.status_code, body=b"")
            try:
                return Reply(status=response.status_code, body=response.read())
            finally:
                response.close()
        except session.FAILURES as error:
            raise session.failure(call, error) from None

    def _transport(self, scheme: str) -> httpx.HTTPTransport:
        transport = self._transports.get(scheme)
        if transport is None:
            made = httpx.HTTPTransport(
                verify=certificates.trusted() if scheme == "https" else False,
                limits=session.LIMITS,
            )
            transport = self._transports.setdefault(scheme, made)
        return transport


class _Answer:
    """One that is read as it arrives."""

    def __init__(self) -> None:
        self._call: Call | None = None
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def open(self, call: Call, response: httpx.Response) -> None:
        self._call, self._response, self._pieces = call, response, response.iter_raw()

    def read(self) -> bytes:
        assert self._call is not None
        try:
            return next(self._pieces, b"")
        except session.FAILURES as error:
            raise session.failure(self._call, error) from None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
