"""`AsyncClient`: the SDK for asyncio programs."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from dtask.client import calls, runs, session
from dtask.client.acts import Act, Call, Flow, Freed, Pause, Reply
from dtask.client.calls import Question, Wishes
from dtask.client.results import Outcome, Placement, Worker
from dtask.client.session import Session
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
    ) -> None:
        self._session = Session(scheduler, token, timeout_s)
        self._flows = self._session.flows
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

    async def _perform(self, act: Act) -> Reply | None:
        match act:
            case Call():
                return await self._call(act)
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

    async def _call(self, call: Call) -> Reply:
        try:
            request = self._session.request(call)
            response = await self._transport(request.url.scheme).handle_async_request(request)
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
                verify=scheme == "https", trust_env=False, limits=session.LIMITS
            )
        return transport
