"""`AsyncClient`: the SDK for asyncio programs."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
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
from dtask.client.jobs import AsyncJob
from dtask.client.picture import Picture
from dtask.client.results import Outcome, Placement, SignInCode, Worker
from dtask.client.saving import saving
from dtask.client.session import Session
from dtask.client.specs import HasId
from dtask.core.jobs.events import Again
from dtask.credentials import known_token
from dtask.errors import DtaskError

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, calls and errors. For the tasks of one loop."""

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
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        self._freed = asyncio.Condition()

    async def place(
        self,
        task_id: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (a wait for a place, which asks again)
        **wishes: Unpack[Wishes],
    ) -> Placement:
        """As `Client.place`."""
        asked = self._flows.question({"task_id": task_id, **wishes})
        return await self._drive(self._flows.place(asked, deadline=self._flows.deadline(timeout)))

    async def place_many(
        self, tasks: Iterable[Question], *, all_or_nothing: bool = False
    ) -> list[Placement | DtaskError]:
        """As `Client.place_many`."""
        return await self._drive(self._flows.place_many(tasks, all_or_nothing=all_or_nothing))

    async def run_on(
        self,
        command: Iterable[str],
        *,
        task_id: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (a wait for a place, which asks again)
        output_bytes: int = runs.OUTPUT_BYTES,
        **wishes: Unpack[Wishes],
    ) -> Outcome:
        """As `Client.run_on`. Cancelling it stops the command."""
        return await self._drive(
            runs.run_on(
                self._flows,
                self._flows.question({"task_id": task_id, **wishes}),
                calls.task_fields(command, env, timeout_s),
                deadline=self._flows.deadline(timeout),
                output_bytes=output_bytes,
            )
        )

    async def release(self, placement: Placement | str, *, fence: int | None = None) -> None:
        """As `Client.release`."""
        await self._drive(self._flows.release(placement, fence))

    async def workers(self, *, tag: str | None = None, status: str | None = None) -> list[Worker]:
        """As `Client.workers`."""
        return await self._drive(self._flows.workers(tag=tag, status=status))

    async def drain(self, worker_id: str) -> Worker:
        """As `Client.drain`."""
        return await self._drive(self._flows.drain(worker_id, drained=True))

    async def undrain(self, worker_id: str) -> Worker:
        """As `Client.undrain`."""
        return await self._drive(self._flows.drain(worker_id, drained=False))

    def live(self) -> AsyncGenerator[Picture, None]:
        """As `Client.live`."""
        return self._iterate(live.pictures(self._flows))

    async def sign_in_code(self) -> SignInCode:
        """As `Client.sign_in_code`."""
        return await self._drive(self._flows.sign_in_code())

    # Jobs

    async def submit(
        self, command: Iterable[str] | Mapping[str, Any], **wishes: Unpack[specs.Wishes]
    ) -> AsyncJob:
        """As `Client.submit`."""
        found = await self._drive(self._jobs.submit(command, wishes))
        return AsyncJob(self, found.job_id, known=found.known)

    async def wait(self, job: int | HasId, *, timeout_s: float | None = None) -> JobResult:
        """As `Client.wait`."""
        return await self._drive(self._jobs.wait(job, timeout_s=timeout_s))

    async def job(self, job: int | HasId) -> JobResult:
        """As `Client.job`."""
        return await self._drive(self._jobs.job(job))

    async def jobs(
        self, *, state: States = None, queue: str | None = None, limit: int | None = None
    ) -> list[JobSummary]:
        """As `Client.jobs`."""
        return await self._drive(self._jobs.jobs(state=state, queue=queue, limit=limit))

    async def cancel(self, job: int | HasId, task: str | None = None) -> None:
        """As `Client.cancel`."""
        await self._drive(self._jobs.cancel(job, task))

    async def retry(
        self, job: int | HasId, *, again: Again = "unsuccessful", task: str | None = None
    ) -> int:
        """As `Client.retry`."""
        return (await self._drive(self._jobs.retry(job, again=again, task=task))).tasks

    async def why(self, name: TaskName) -> Why:
        """As `Client.why`."""
        return await self._drive(self._jobs.why(name))

    async def elements(
        self, name: TaskName, *, state: States = None, limit: int | None = None
    ) -> list[ElementAnswer]:
        """As `Client.elements`."""
        return await self._drive(self._jobs.elements(name, state=state, limit=limit))

    async def task(self, name: TaskName) -> TaskAnswer:
        """As `Client.task`."""
        return await self._drive(self._jobs.task(name))

    async def attempts(self, name: TaskName) -> list[AttemptAnswer]:
        """As `Client.attempts`."""
        return await self._drive(self._jobs.attempts(name))

    async def result(self, name: TaskName) -> bytes:
        """As `Client.result`."""
        return await self._drive(self._jobs.result(name))

    def logs(
        self,
        name: TaskName,
        *,
        stream: Stream = "stdout",
        follow: bool = False,
        from_first: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """As `Client.logs`."""
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
    ) -> AsyncGenerator[Event, None]:
        """As `Client.events`."""
        return self._iterate(self._jobs.events(after=after, job=job, missed=missed, alive=alive))

    async def queues(self) -> list[QueueView]:
        """As `Client.queues`."""
        return await self._drive(self._jobs.queues())

    async def set_queue(
        self,
        name: str,
        *,
        max_running: int | None = None,
        max_queued: int | None = None,
        weight: float | None = None,
        paused: bool | None = None,
    ) -> QueueView:
        """As `Client.set_queue`."""
        settings: dict[str, object] = {
            "max_running": max_running,
            "max_queued": max_queued,
            "weight": weight,
            "paused": paused,
        }
        return await self._drive(self._jobs.set_queue(name, settings))

    async def stats(self) -> Stats:
        """As `Client.stats`."""
        return await self._drive(self._jobs.stats())

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """As `Client.backup`."""
        with saving(path) as file:
            async for piece in self._iterate(self._jobs.backup()):
                file.write(piece)

    async def aclose(self) -> None:
        """Close all connections. The client can't be used afterwards."""
        for transport in self._transports.values():
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            act = next(flow)
            while True:
                try:
                    result = await self._perform(act)
                except BaseException as error:  # noqa: BLE001 (the flow cleans up, and raises it)
                    act = flow.throw(error)
                else:
                    act = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
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
                        await answer.close()
                        result = await self._call(act.call, answer)
                    elif isinstance(act, Read):
                        result = await answer.read()
                    else:
                        result = await self._perform(act)
                except BaseException as error:  # noqa: BLE001 (as above; an end of the iteration too)
                    act = flow.throw(error)
                else:
                    act = flow.send(result)
        except StopIteration:
            return
        finally:
            await answer.close()

    async def _perform(self, act: Act) -> Reply | bytes | None:
        match act:
            case Call():
                return await self._call(act)
            case Load():
                return await asyncio.to_thread(session.load, act)
            case Pause(seconds=seconds, until_freed=True):
                async with self._freed:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._freed.wait(), seconds)
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case Freed():
                async with self._freed:
                    self._freed.notify()
        return None

    async def _call(self, call: Call, answer: "_Answer | None" = None) -> Reply:
        """The reply; if it is a success and goes into an `answer`, that is left open."""
        try:
            request = self._session.request(call)
            response = await self._transport(request.url.scheme).handle_async_request(request)
            if answer is not None and response.is_success:
                answer.open(call, response)
                return Reply(status=response.status_code, body=b"")
            try:
                return Reply(status=response.status_code, body=await response.aread())
            finally:
                await response.aclose()
        except session.FAILURES as error:
            raise session.failure(call, error) from None

    def _transport(self, scheme: str) -> httpx.AsyncHTTPTransport:
        transport = self._transports.get(scheme)
        if transport is None:
            transport = self._transports[scheme] = httpx.AsyncHTTPTransport(
                verify=certificates.trusted() if scheme == "https" else False,
                limits=session.LIMITS,
            )
        return transport


class _Answer:
    """One that is read as it arrives."""

    def __init__(self) -> None:
        self._call: Call | None = None
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    def open(self, call: Call, response: httpx.Response) -> None:
        self._call, self._response, self._pieces = call, response, response.aiter_raw()

    async def read(self) -> bytes:
        assert self._call is not None
        assert self._pieces is not None
        try:
            return await anext(self._pieces, b"")
        except session.FAILURES as error:
            raise session.failure(self._call, error) from None

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
