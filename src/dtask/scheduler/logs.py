"""What attempts wrote: output and results, kept after the worker is gone.

One thread writes, and what comes while it is busy is its next batch. Chunks are written at their
offset, so one that comes twice does no harm. An attempt that writes nothing costs nothing here.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from dtask.core.jobs.events import JobForgotten, StartedOver, TaskChanged
from dtask.core.jobs.rows import WHOLE
from dtask.core.jobs.states import HELD
from dtask.errors import Busy, DtaskError, Unavailable
from dtask.scheduler import log
from dtask.scheduler.log_files import (
    LOG_BYTES_MAX,
    STREAM_INDEX,
    Attempt,
    Growth,
    LogFiles,
    Sizes,
    Within,
)
from dtask.wire.frames import LogFrame, Stream

T = TypeVar("T")

#: Requests that wait for a log to grow, at a time.
FOLLOWERS_MAX: Final = 10_000

_READERS: Final = 2

#: The disk is well again when nothing has failed for so long since a log was written.
_MENDED_S: Final = 5.0


class _Entry:
    """An attempt whose log grows, or is followed."""

    __slots__ = ("finished", "growth", "users", "waiters")

    def __init__(self) -> None:
        #: The writer's.
        self.growth = Growth()
        self.finished = False
        #: Followers, and orders that the writer has not fulfilled.
        self.users = 0
        self.waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Let all who wait look again."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Order(NamedTuple):
    """One thing for the writer to do."""

    chunks: list[tuple[Attempt, _Entry, Sequence[LogFrame]]]
    over: list[tuple[Attempt, _Entry]]
    done: "asyncio.Future[None]"


class Standing(NamedTuple):
    """What has arrived of an attempt."""

    sizes: Sizes
    #: Bytes over the cap were dropped.
    cut: bool


_NOTHING: Final = Standing((0, 0, 0), cut=False)


class Logs:
    """The logs of one scheduler. For one event loop.

    An attempt is named as its row in the store: (job, task, index or `rows.WHOLE`, number).
    """

    def __init__(self, directory: Path, *, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        #: Why logs can't be written for the moment, as a sentence.
        self.trouble: str | None = None
        self._mending: asyncio.TimerHandle | None = None
        self._files = LogFiles(directory, log_bytes_max)
        self._entries: dict[Attempt, _Entry] = {}
        self._followers = 0
        self._orders: list[_Order] = []
        self._writing = False
        self._writer = ThreadPoolExecutor(1, "dtask-log-writer")
        self._readers = ThreadPoolExecutor(_READERS, "dtask-log-reader")
        self._remover = ThreadPoolExecutor(1, "dtask-log-remover")

    # Writing

    async def write(self, name: Attempt, frames: Sequence[LogFrame]) -> None:
        """As `take`, of one attempt that goes on."""
        await self.take([(name, frames)])

    async def take(
        self,
        chunks: Iterable[tuple[Attempt, Sequence[LogFrame]]],
        over: Iterable[Attempt] = (),
    ) -> None:
        """Write the chunks, and make all that the attempts in `over` wrote outlive a power loss.

        Raises InvalidRequest for a chunk that begins beyond the end of its stream, and
        Unavailable if the disk fails: then any of it may be there, and `resume` tells how much.
        """
        order = _Order(
            [(name, self._entry(name), frames) for name, frames in chunks],
            [(name, self._entries[name]) for name in over if name in self._entries],
            asyncio.get_running_loop().create_future(),
        )
        if not order.chunks and not any(entry.growth.unsynced for _, entry in order.over):
            return
        for entry in _entries_of(order):
            entry.users += 1
        self._orders.append(order)
        if not self._writing:
            self._begin()
        await order.done

    def standing(self, name: Attempt) -> Standing:
        """What has arrived of an attempt that was written or resumed, and is not finished."""
        entry = self._entries.get(name)
        if entry is None or entry.growth.sizes is None:
            return _NOTHING
        stdout, stderr, result = entry.growth.sizes
        return Standing((stdout, stderr, result), entry.growth.cut)

    async def resume(self, names: Sequence[Attempt]) -> list[Sizes]:
        """What has arrived of attempts that go on, after a break or a restart."""
        unknown = [name for name in names if not self._is_known(name)]
        if unknown:
            found = await self._read(lambda: [self._files.sizes(name) for name in unknown])
            for name, sizes in zip(unknown, found, strict=True):
                if any(sizes) and not self._is_known(name):
                    self._entry(name).growth.take(sizes)
        return [self.standing(name).sizes for name in names]

    def finish(self, name: Attempt) -> None:
        """The attempt is over: nothing more comes, and followers end."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.finished = True
            entry.wake()
            self._let_go(name, entry)

    def keep(self, known: Callable[[int], set[Within]]) -> None:
        """Remove all of attempts that are not `known`, by job; before anything else is asked.

        Takes its time. Raises OSError and what `known` raises.
        """
        if unknown := self._files.keep(known):
            log.say(
                "logs of jobs that the store does not know were removed: the store is new, or "
                "older than they are",
                level=logging.WARNING,
                jobs=unknown,
            )

    def forget(self, job_id: int) -> None:
        """Remove all of a job, in a thread of its own. None of its attempts may go on."""
        self._remover.submit(self._files.remove, job_id).add_done_callback(_tell_failure)

    # Reading

    async def sizes(self, name: Attempt) -> Sizes:
        """Bytes that have arrived of stdout, stderr and result. Raises Unavailable."""
        if self._is_known(name):
            return self.standing(name).sizes
        return await self._read(partial(self._files.sizes, name))

    async def read(self, name: Attempt, stream: Stream, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` of a stream from `offset`; nothing if there is nothing (yet).

        Raises Unavailable.
        """
        return await self._read(partial(self._files.read, name, stream, offset, bytes_max))

    async def grown(self, name: Attempt, stream: Stream, beyond: int) -> bool:
        """Wait until the stream is longer than `beyond` (True) or the attempt is over (False).

        Ask within `follow`: whoever sees that the attempt runs, and asks later, may have missed
        its end. Raises Busy or Unavailable.
        """
        with self.follow(name):
            entry = self._entries[name]
            while True:
                # Before the look, which may take a while: what is written meanwhile wakes it, too.
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                entry.waiters.append(waiter)
                try:
                    if (await self.sizes(name))[STREAM_INDEX[stream]] > beyond:
                        return True
                    if entry.finished:
                        return False
                    await waiter
                finally:
                    if waiter in entry.waiters:
                        entry.waiters.remove(waiter)

    @contextmanager
    def follow(self, name: Attempt) -> Iterator[None]:
        """Within this the end of the attempt is not missed, however late `grown` is asked.

        Enter it, look whether the attempt goes on, and then ask `grown`. Raises Busy.
        """
        if self._followers >= FOLLOWERS_MAX:
            raise Busy(
                f"{FOLLOWERS_MAX} requests follow logs, which is the limit: ask again later, or "
                f"read what is there.",
                code="too_many_waiters",
            )
        entry = self._entry(name)
        entry.users += 1
        self._followers += 1
        try:
            yield
        finally:
            entry.users -= 1
            self._followers -= 1
            self._let_go(name, entry)

    # Life

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect; most are for others)
        """Do what an effect of the core asks for, if it is about logs."""
        if isinstance(effect, TaskChanged):
            if effect.number is not None and effect.task is not None and effect.state not in HELD:
                index = WHOLE if effect.index is None else effect.index
                self.finish((effect.job_id, effect.task, index, effect.number))
        elif isinstance(effect, JobForgotten):
            self.forget(effect.job_id)
        elif isinstance(effect, StartedOver):
            self._start_over()

    def _start_over(self) -> None:
        """Some may be over, and nobody was told: what goes on is resumed by its files."""
        for name, entry in list(self._entries.items()):
            if not entry.users:
                del self._entries[name]

    async def jobs(self) -> list[int]:
        """Jobs of which something is kept. Raises Unavailable."""
        return await self._read(self._files.jobs)

    def close(self) -> None:
        """Let what is under way end. After that, nothing may be asked."""
        if self._mending is not None:
            self._mending.cancel()
        self._remover.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self._readers.shutdown()
        self._files.close()

    # On the loop

    def _is_known(self, name: Attempt) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.growth.sizes is not None

    def _entry(self, name: Attempt) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
        return entry

    def _let_go(self, name: Attempt, entry: _Entry) -> None:
        """Forget an attempt that is over, or of which there is nothing yet."""
        over = entry.finished or entry.growth.sizes is None
        if over and entry.users == 0 and self._entries.get(name) is entry:
            del self._entries[name]

    async def _read(self, act: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, act)
        except OSError as error:
            raise _unusable("read", error) from None

    def _begin(self) -> None:
        """Hand all orders to the writer."""
        orders, self._orders = self._orders, []
        self._writing = True
        batch = asyncio.get_running_loop().run_in_executor(self._writer, self._fulfil, orders)
        batch.add_done_callback(partial(self._fulfilled, orders))

    def _fulfilled(
        self, orders: list[_Order], batch: "asyncio.Future[list[DtaskError | None]]"
    ) -> None:
        self._writing = False
        if self._orders:
            self._begin()
        try:
            outcomes = batch.result()
        except Exception:  # noqa: BLE001 (whatever the bug, nobody is to wait for ever)
            log.logger.exception("a log can't be written; this is a bug in dtask")
            outcomes = [_failed_by_a_bug()] * len(orders)
        self._note(outcomes)
        for order, error in zip(orders, outcomes, strict=True):
            if not order.done.done():
                if error is None:
                    order.done.set_result(None)
                else:
                    order.done.set_exception(error)
            for entry in _entries_of(order):
                entry.users -= 1
            for name, entry, _ in order.chunks:
                entry.wake()
                self._let_go(name, entry)

    def _note(self, outcomes: Iterable[DtaskError | None]) -> None:
        """Tell when logs can't be written, and when they can again: there are many tries."""
        failed = next((error for error in outcomes if isinstance(error, Unavailable)), None)
        if failed is None:
            if self.trouble is not None and self._mending is None:
                loop = asyncio.get_running_loop()
                self._mending = loop.call_later(_MENDED_S, self._mended)
            return
        if self._mending is not None:
            self._mending.cancel()
            self._mending = None
        if self.trouble is None:
            log.say("logs can't be written", level=logging.WARNING, error=str(failed))
        self.trouble = str(failed)

    def _mended(self) -> None:
        self.trouble = self._mending = None
        log.say("logs are written again")

    # In the writer's thread

    def _fulfil(self, orders: list[_Order]) -> list[DtaskError | None]:
        """What came of each order."""
        outcomes = [self._write(order) for order in orders]
        over = [(name, entry.growth) for order in orders for name, entry in order.over]
        try:
            self._files.sync(over)
        except OSError as error:
            for _, growth in over:
                if growth.sizes is not None:  # what the kernel still holds of it is unknown
                    growth.sizes = [0, 0, 0]
            failure = _unusable("write", error)
            return [
                outcome or (failure if order.over else None)
                for order, outcome in zip(orders, outcomes, strict=True)
            ]
        return outcomes

    def _write(self, order: _Order) -> DtaskError | None:
        try:
            for name, entry, frames in order.chunks:
                self._files.write(name, entry.growth, frames)
        except DtaskError as error:
            return error
        except OSError as error:
            return _unusable("write", error)
        return None


def _entries_of(order: _Order) -> Iterator[_Entry]:
    for _, entry, _ in order.chunks:
        yield entry
    for _, entry in order.over:
        yield entry


def _unusable(what: str, error: OSError) -> Unavailable:
    why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return Unavailable(f"The scheduler can't {what} logs: {why}.", code="store_failed")


def _failed_by_a_bug() -> Unavailable:
    sentence = "A bug has kept a log from being written: the scheduler's log says more."
    return Unavailable(sentence, code="store_failed")


def _tell_failure(removal: "Future[None]") -> None:
    if not removal.cancelled() and (error := removal.exception()) is not None:
        log.say("logs can't be removed", level=logging.WARNING, error=str(error))
