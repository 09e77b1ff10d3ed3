"""The one owner of the core: every event goes through here, and time does too.

Placement events are answered at once (`handle`), however slow the disk. Job events are answered
when all that was handled so far is durable (`ask`), and so are the effects of any step performed.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from dtask.clock import Clock
from dtask.core.cluster import Cluster, Event, Step
from dtask.core.jobs.events import StartedOver
from dtask.core.jobs.rows import Change
from dtask.core.outbox import Outbox
from dtask.core.placement.events import Tick, WorkerChanged
from dtask.errors import DtaskError, Unavailable
from dtask.scheduler import log
from dtask.scheduler.aside import Aside
from dtask.scheduler.tallies import Tallies
from dtask.store.base import Store

P = ParamSpec("P")
T = TypeVar("T")

#: After a tick that failed, so that a bug does not become a busy loop.
AFTER_BUG_S: Final = 0.5

#: Between two tries to read the store again after a commit failed.
RELOAD_EVERY_S: Final = 1.0

#: Before the store is read again when one commit after the other has failed: the first time, the
#: second, doubled after that, and at most. Who asks again meanwhile costs no more than an answer.
RESTS_S: Final = (0.0, 1.0, 10.0)

#: Threads that read the store.
READERS: Final = 4

Perform = Callable[[Any], None]


class Letter(NamedTuple):
    """What waits until its step is durable."""

    effects: tuple[Any, ...]
    answer: Any
    #: Whom to give the answer to; None: nobody waits.
    asker: "asyncio.Future[Any] | None"


class Loop:
    """Feeds one Cluster from one event loop. Not for other threads.

    `perform` is called with each effect of the job half, in order, once it is durable. What
    there is to count is added to `tallies`.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        store: Store,
        perform: Iterable[Perform] = (),
        *,
        tallies: Tallies | None = None,
    ) -> None:
        self.cluster = cluster
        self.store = store
        self.tallies = tallies or Tallies()
        self.cluster_id = ""
        self._now = clock.now
        self._handle = cluster.handle
        self._perform = (self.tallies.perform, *perform)
        self._outbox: Outbox[Letter] = Outbox()
        #: Something is to be committed, and time is to be told earlier than it was promised.
        self._work = asyncio.Event()
        #: Commits that failed since the last one that did not, and why there are no jobs just now.
        self._failures = 0
        self._broken: Unavailable | None = None
        self._hurry = asyncio.Event()
        #: Epoch seconds when the core is told of time next, at the latest.
        self._promised = 0.0
        self._writer = Aside("dtask-store")
        self._readers = ThreadPoolExecutor(READERS, "dtask-reader")

    # Events

    def handle(self, event: Event) -> Any:  # noqa: ANN401 (each event names the type of its answer)
        """Let a placement event happen now and return its answer. Raises what the core raises."""
        try:
            step = self._handle(event, self._now())
        except DtaskError:
            raise
        except Exception:
            self._give_up_memory()
            raise
        if step.effects or step.changes:
            self._post(step, None)
        if self.cluster.hurries:
            self._hurry.set()
        return step.answer

    async def ask(self, event: Event) -> Any:  # noqa: ANN401 (same)
        """Let a job event happen now; return its answer when it is durable.

        Raises what the core raises, once what that was based on is durable, and Unavailable if
        the store fails: then the event may have happened or not.
        """
        return await self.post(event)

    def post(self, event: Event) -> "asyncio.Future[Any]":
        """As `ask`, but the event happens before this returns; the answer comes later."""
        asker: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            step = self._handle(event, self._now())
        except DtaskError as error:
            step = Step(self._explained(error))
        except Exception:  # noqa: BLE001 (whatever the bug, jobs must go on)
            log.logger.exception("an event failed; this is a bug in dtask")
            self._give_up_memory()
            step = Step(self._broken)
        self._post(step, asker)
        if self.cluster.next_deadline() < self._promised:
            self._hurry.set()
        return asker

    def _explained(self, error: DtaskError) -> DtaskError:
        """The same; where there are no jobs just now, the error that says why."""
        broken = self._broken
        if broken is None or error.code != "store_failed":
            return error
        return Unavailable(str(broken), code=broken.code)

    async def read(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`act(..)` in a reader thread, once all that was handled so far is durable."""
        await self.settled()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: act(*args, **kwargs))

    async def settled(self) -> None:
        """Wait until all that was handled so far is durable. Raises Unavailable if it isn't."""
        asker: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._post(Step(), asker)
        await asker

    # Life

    async def load(self) -> None:
        """Take up the jobs in the store. Raises Unavailable."""
        snapshot = await self._writer.do(self.store.load)
        self.cluster_id = snapshot.cluster_id
        self._release(self.cluster.restore(snapshot, self._now()).effects)

    async def run(self) -> None:
        """Tell the core of time, and commit what it changes. Ends when cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_time())
            group.create_task(self._commit())

    def stop(self) -> None:
        """Let the commit under way end, and close the store. To be called after `run` has ended.

        What was not committed was not acknowledged to anybody either.
        """
        self._writer.stop()
        self._readers.shutdown()
        self.store.close()

    async def _tell_time(self) -> None:
        """Tell the core at each of its deadlines that time has passed."""
        while True:
            try:
                self._hurry.clear()
                self.handle(Tick())
                self._promised = self.cluster.next_deadline()
                pause = self._promised - self._now()
            except Exception:  # noqa: BLE001 (whatever the bug, time must go on)
                log.logger.exception("a tick failed; this is a bug in dtask")
                pause = AFTER_BUG_S
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the core is in a hurry."""
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._hurry.set)
        try:
            await self._hurry.wait()
        finally:
            timer.cancel()

    # Commits

    def _post(self, step: Step, asker: "asyncio.Future[Any] | None") -> None:
        effects = step.effects
        if effects and asker is None:  # the log of placement waits for nobody
            effects = tuple(effect for effect in effects if not _noted(effect))
        if not (step.changes or effects or asker is not None):
            return
        letter = Letter(effects, step.answer, asker)
        if self._outbox.add(step.changes, letter):
            self._work.set()
        else:
            self._deliver(letter)

    async def _commit(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._broken is not None:
                await self._load_again()
            while (changes := self._outbox.next()) is not None:
                await self._commit_these(changes)

    async def _commit_these(self, changes: list[Change]) -> None:
        began = time.perf_counter()
        try:
            await self._writer.do(partial(self.store.commit, changes))
        except Unavailable as error:
            self.tallies.commits_failed += 1
            self._start_over(error)
        except Exception:  # noqa: BLE001 (whatever the bug, jobs must go on)
            self.tallies.commits_failed += 1
            log.logger.exception("a commit failed; this is a bug in dtask")
            self._give_up_memory()
        else:
            self.tallies.commit.add(time.perf_counter() - began)
            if self._broken is None:  # else all of it has been dropped meanwhile
                self._failures = 0
                for letter in self._outbox.committed():
                    self._deliver(letter)

    def _give_up_memory(self) -> None:
        """A bug has left the job half who knows how: what the store says is true."""
        sentence = "A bug has stopped the jobs for a moment: the scheduler's log says more."
        self._start_over(Unavailable(sentence, code="store_failed"))

    def _start_over(self, error: Unavailable) -> None:
        """Drop what was not released, and have the jobs read again: memory is never patched."""
        log.say("store failed: reading the jobs again", level=logging.ERROR, error=str(error))
        self._broken = error
        self._work.set()
        self._release(self.cluster.suspend(self._now()).effects)
        for letter in self._outbox.failed():
            if letter.asker is not None and not letter.asker.done():
                letter.asker.set_exception(Unavailable(str(error), code=error.code))

    async def _load_again(self) -> None:
        """Read the jobs, as soon as the store lets us, and tell all who wait for news of them."""
        await asyncio.sleep(self._rest_s())
        while True:
            try:
                await self.load()
            except Unavailable as again:
                self._broken = again
                log.say("store can't be read", level=logging.ERROR, error=str(again))
                await asyncio.sleep(RELOAD_EVERY_S)
            except Exception:  # noqa: BLE001 (whatever the bug, time and placement must go on)
                log.logger.exception("the jobs can't be taken up; this is a bug in dtask")
                await asyncio.sleep(RELOAD_EVERY_S)
            else:
                self._broken = None
                self._release((StartedOver(),))
                log.say("store answers again")
                return

    def _rest_s(self) -> float:
        """How long to leave the store alone after a failed commit."""
        self._failures += 1
        first, second, most = RESTS_S
        return first if self._failures == 1 else min(most, second * 2.0 ** (self._failures - 2))

    def _deliver(self, letter: Letter) -> None:
        self._release(letter.effects)
        if letter.asker is None or letter.asker.done():
            return  # nobody waits any more
        if isinstance(letter.answer, DtaskError):
            letter.asker.set_exception(letter.answer)
        else:
            letter.asker.set_result(letter.answer)

    def _release(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if not _noted(effect):
                for perform in self._perform:
                    try:
                        perform(effect)
                    except Exception:  # noqa: BLE001 (whatever the bug, the others must be performed)
                        log.logger.exception("an effect failed; this is a bug in dtask")


def _noted(effect: Any) -> bool:  # noqa: ANN401 (any effect)
    """Write the line for a change of a worker; whether it was one."""
    if isinstance(effect, WorkerChanged):
        log.note(effect)
        return True
    return False
