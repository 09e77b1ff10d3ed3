"""`Client`: the SDK for programs that block."""

import threading
import time
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


class Client:
    """A scheduler's client. Many threads may share one. Close it, or use `with`.

    `scheduler`: its URL, or several, as a list or joined by commas; by default DTASK_SCHEDULER, or
    http://127.0.0.1:8080. `token`: the token, or how to find it, which is done with the first call;
    None sends none. `timeout_s`: how long a scheduler may take to answer one try of a call.
    All errors are those of `dtask.errors`.
    """

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

    def _perform(self, act: Act) -> Reply | None:
        match act:
            case Call():
                return self._call(act)
            case Pause(seconds=seconds, until_freed=True):
                with self._freed:
                    self._freed.wait(seconds)
            case Pause(seconds=seconds):
                time.sleep(seconds)
            case Freed():
                with self._freed:
                    self._freed.notify()
        return None

    def _call(self, call: Call) -> Reply:
        try:
            request = self._session.request(call)
            response = self._transport(request.url.scheme).handle_request(request)
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
                verify=scheme == "https", trust_env=False, limits=session.LIMITS
            )
            transport = self._transports.setdefault(scheme, made)
        return transport
