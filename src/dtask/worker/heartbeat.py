"""`Heartbeat`: makes any asyncio service a worker of dtask.

    async with Heartbeat(
        worker_id="render-1", address="10.0.0.5:9000", tags=["gpu"], max_tasks=4
    ) as beat:
        ...
        with beat.task("task-001", fence=fence):
            ...  # the slot is taken; it is free again, and said so at once, when the block ends

It heartbeats at once, then every `interval_s`, and when a task ends, to each scheduler on its
own. A scheduler that is not there is tried until it is; that is said once, in the log
`dtask.worker`. What no trying mends ends the block: the body is cancelled and the context
raises. That is Conflict when another live process has the worker id or a newer life has taken it
over, and Denied or InvalidRequest when a scheduler refuses the very first heartbeat.
"""

import asyncio
import contextlib
import itertools
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import httpx
import orjson

from dtask import certificates
from dtask.addresses import scheduler_urls
from dtask.clock import SystemClock
from dtask.core.placement import tags as tags_of
from dtask.credentials import find_token
from dtask.errors import InvalidRequest
from dtask.wire import codec, limits
from dtask.wire.placement import check_id
from dtask.worker import report
from dtask.worker.link import Link

#: Seconds between heartbeats: three fit before a worker is suspect at 10 s.
INTERVAL_S: Final = 3.0

#: Longest interval: a scheduler calls a worker suspect after 10 s, by default.
INTERVAL_S_MAX: Final = 60.0

#: What a worker tells beside its load, such as temperatures: plain values by name.
Metrics = Mapping[str, float | int | str | bool | None]


class Heartbeat:
    """A worker's sign of life, and its word on the tasks it holds.

    `address` is where clients reach the worker: whatever they understand, HOST:PORT by custom.
    `tags` are what it is, `max_tasks` how many tasks it takes at once. `scheduler` is one URL or
    several, by default those of DTASK_SCHEDULER. `token` is the token, or how to find it, and is
    sent to schedulers alone; with None the worker stays untrusted and gets no job. `metrics` is
    called for each heartbeat. `unnamed` is called for each one with the URL of its scheduler, and
    says how many slots are taken beside those of the tasks held here; `ready` for each one, and
    says whether new tasks can be taken just now; `on_answered` for each one that was answered, with
    the URL and the `cluster_id` of the answer. Raises InvalidRequest for what a scheduler would
    refuse.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        address: str,
        tags: Iterable[str] = (),
        max_tasks: int,
        scheduler: str | Iterable[str] | None = None,
        interval_s: float = INTERVAL_S,
        token: str | Callable[[], str] | None = find_token,
        metrics: Callable[[], Metrics] | None = None,
        unnamed: Callable[[str], int] | None = None,
        ready: Callable[[], bool] | None = None,
        on_answered: Callable[[str, str | None], None] | None = None,
    ) -> None:
        check_id(worker_id, "worker_id")
        self.worker_id: Final = worker_id
        #: This life of the worker.
        self.incarnation: Final = secrets.token_hex(8)
        self._fixed = {
            "worker_id": worker_id,
            "address": _checked_address(address),
            "resource_tags": checked_tags(tags),
            "max_tasks": checked_max_tasks(max_tasks),
            "incarnation": self.incarnation,
        }
        self._token = token
        self._metrics = metrics
        self._unnamed = unnamed
        self._ready = ready
        self._on_answered = on_answered
        self._clock = SystemClock()
        self._seq = itertools.count(1)
        self._held = report.Held()
        self._draining = False
        self._urls = scheduler_urls(scheduler)
        self._interval_s = checked_interval_s(interval_s)
        #: Set by the first answer of any scheduler.
        self._answered = asyncio.Event()
        self._links: list[Link] = []
        #: Where the block runs, set while it does.
        self._owner: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._cancelling = 0
        self._runs: list[asyncio.Task[NoReturn]] = []
        self._failure: BaseException | None = None

    # ---- tasks

    @contextlib.contextmanager
    def task(self, task_id: str, fence: int | None = None) -> Iterator[None]:
        """Hold the task while the block runs, whether it ends well or raises."""
        self.hold(task_id, fence)
        try:
            yield
        finally:
            self.end(task_id, fence)

    def hold(self, task_id: str, fence: int | None = None) -> None:
        """A slot is taken by this task from now on. May be called from any thread."""
        self._in_loop(self._hold, report.name(task_id, fence))

    def end(self, task_id: str, fence: int | None = None) -> None:
        """The task has ended; schedulers are told at once. May be called from any thread.

        A task that was never held may be ended too: that gives back a slot that was placed here
        and will not be used.
        """
        self._in_loop(self._end, report.name(task_id, fence))

    # ---- the worker

    @property
    def current_tasks(self) -> int:
        """How many tasks are held now."""
        return self._held.count

    @property
    def answers(self) -> int:
        """Heartbeats that schedulers have answered."""
        return sum(link.answers for link in self._links)

    @property
    def failures(self) -> int:
        """Heartbeats that they have refused or not answered."""
        return sum(link.failures for link in self._links)

    def drain(self) -> None:
        """Take no new tasks from now on; schedulers are told at once."""
        self._draining = True
        self.wake()

    def wake(self, urls: Collection[str] | None = None) -> None:
        """Something changed: tell the schedulers at `urls`, by default all, as soon as may be."""
        for link in self._links:
            if urls is None or link.url in urls:
                link.wake()

    async def wait_answered(self) -> None:
        """Wait until a scheduler has answered the first heartbeat."""
        await self._answered.wait()

    # ---- the block

    async def __aenter__(self) -> Self:
        assert self._owner is None, "a Heartbeat is one life of a worker: make another one"
        token = self._token() if callable(self._token) else self._token
        self._owner = asyncio.current_task()
        assert self._owner is not None
        self._cancelling = self._owner.cancelling()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._transport = httpx.AsyncHTTPTransport(verify=certificates.verified(self._urls))
        for url in self._urls:
            link = Link(
                url,
                transport=self._transport,
                token=token,
                interval_s=self._interval_s,
                compose=self._compose,
                on_answered=self._note_answer,
            )
            run = asyncio.create_task(link.run())
            run.add_done_callback(self._run_over)
            self._links.append(link)
            self._runs.append(run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._owner is not None
        failure, self._loop = self._failure, None
        for run in self._runs:
            run.remove_done_callback(self._run_over)
            run.cancel()
        try:
            await asyncio.gather(*self._runs, return_exceptions=True)
            if failure is None:
                await asyncio.gather(*(link.leave() for link in self._links))
        finally:
            await self._transport.aclose()
        # As asyncio.timeout does it: a cancellation that is not ours goes on.
        if (
            failure is not None
            and self._owner.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise failure

    def _run_over(self, run: "asyncio.Task[NoReturn]") -> None:
        """A link has given up: cancel the body, once, so that the context can raise."""
        if self._failure is None and not run.cancelled():
            self._failure = run.exception()
            assert self._owner is not None
            self._owner.cancel()

    def _in_loop(self, act: Callable[[report.Name], None], task: report.Name) -> None:
        """Do it in the thread of the loop, which alone touches what links read."""
        if self._loop is None or threading.get_ident() == self._thread:
            act(task)
        else:
            self._loop.call_soon_threadsafe(act, task)

    def _hold(self, task: report.Name) -> None:
        self._held.add(task)
        for link in self._links:
            link.ended.forget(task)

    def _end(self, task: report.Name) -> None:
        if self._held.remove(task):
            for link in self._links:
                link.ended.add(task)
        self.wake()

    def _note_answer(self, url: str, cluster_id: str | None) -> None:
        self._answered.set()
        if self._on_answered is not None:
            self._on_answered(url, cluster_id)

    def _compose(self, link: Link, leaving: bool) -> tuple[bytes, int]:
        ended, mark = link.ended.listed()
        unnamed = self._unnamed(link.url) if self._unnamed is not None else 0
        body: dict[str, Any] = {
            **self._fixed,
            "seq": next(self._seq),
            "timestamp": self._clock.now(),
            "current_tasks": self._held.count + unnamed,
            "tasks": orjson.Fragment(self._held.listed()),
            "ended": orjson.Fragment(ended),
            "draining": self._draining or (self._ready is not None and not self._ready()),
            "drained": link.drained,
            "leaving": leaving,
        }
        if self._metrics is not None:
            raw = codec.encode({**body, "metrics": dict(self._metrics())})
            if len(raw) <= limits.BODY_BYTES_MAX:  # metrics are dispensable, names are not
                return raw, mark
        return codec.encode(body), mark


def checked_tags(tags: Iterable[str], field: str = "tags") -> tuple[str, ...]:
    """`tags` without repetitions. Raises InvalidRequest that names the one that is none."""
    unique = tuple(dict.fromkeys(tags))
    for tag in unique:
        tags_of.check_tag(tag, field)
    if len(unique) > tags_of.TAGS_MAX:
        raise _wrong(field, f"{len(unique)} are too many: expected at most {tags_of.TAGS_MAX}.")
    return unique


def checked_max_tasks(max_tasks: int, field: str = "max_tasks") -> int:
    """`max_tasks`, if it is a number of slots that a worker may have. Raises InvalidRequest."""
    if not 1 <= max_tasks <= limits.MAX_TASKS_MAX:
        raise _wrong(field, f"expected 1 to {limits.MAX_TASKS_MAX}, got {max_tasks}.")
    return max_tasks


def checked_interval_s(interval_s: float, field: str = "interval_s") -> float:
    """`interval_s`, if it is one that keeps a worker online. Raises InvalidRequest."""
    if not 0 < interval_s <= INTERVAL_S_MAX:
        expected = f"expected more than 0 and at most {INTERVAL_S_MAX:g} seconds"
        raise _wrong(field, f"{expected}, got {interval_s:g}.")
    return interval_s


def _checked_address(address: str) -> str:
    if not address.isprintable() or not 0 < len(address) <= limits.ADDRESS_CHARS_MAX:
        chars = limits.ADDRESS_CHARS_MAX
        raise _wrong("address", f"expected 1 to {chars} printable characters, such as HOST:PORT.")
    return address


def _wrong(field: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {sentence}", code="malformed", field=field)
