"""What waits for the store, what does not, and what becomes of it when the store fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from dtask.clock import SystemClock
from dtask.core.cluster import Cluster
from dtask.core.jobs.events import (
    Attach,
    ChannelOpened,
    CloseChannel,
    CountJobs,
    Look,
    StartAttempt,
    StartedOver,
    Submit,
    TaskChanged,
)
from dtask.core.jobs.jobs import Jobs
from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import Change
from dtask.core.placement.events import Ask, Heartbeat, Placement
from dtask.errors import NotFound, Unavailable
from dtask.scheduler import loop as looping
from dtask.scheduler.loop import Loop
from dtask.store.memory import MemoryStore

#: A test that waits longer has failed.
PATIENCE_S = 20.0


class Disk(MemoryStore):
    """A store whose commits can be held up, and can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.failing: type[Exception] | None = None
        #: Whether what failed is there all the same.
        self.keeps = False

    def commit(self, changes: Iterable[Change]) -> None:
        """As slow and as bad as a test wants it."""
        self.open.wait(PATIENCE_S)
        if self.failing is None or self.keeps:
            super().commit(changes)
        if self.failing is Unavailable:
            raise Unavailable("The disk is full.", code="store_failed")
        if self.failing is not None:
            raise self.failing("the disk broke")


class Site:
    """A loop over a disk, with one worker of many slots."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.clock = SystemClock()
        self.effects: list[Any] = []
        self.seen = asyncio.Event()
        self.loop = Loop(Cluster(self.clock.now()), self.clock, self.disk, [self._see])

    def _see(self, effect: Any) -> None:
        self.effects.append(effect)
        self.seen.set()

    def beat(self, slots: int = 1000) -> None:
        """A heartbeat of the worker."""
        self.loop.handle(Heartbeat("w", "w:1", (), slots, 0, "life", tasks=(), trusted=True))

    async def attach(self) -> None:
        """Its hello."""
        self.beat()
        await self.loop.ask(Attach("w", "life", connection=1))

    def submit(self, **spec: Any) -> "asyncio.Future[Any]":
        """One job of one task."""
        job = JobSpec(tasks={"main": TaskSpec(command=("true",), **spec)})
        raw = msgspec.json.encode(job).decode()
        return self.loop.post(Submit(job, raw, raw))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for effects until something holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.seen.clear()
                await self.seen.wait()

    def of(self, kind: type) -> list[Any]:
        """The effects of a kind so far."""
        return [effect for effect in self.effects if type(effect) is kind]


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A loop that runs."""
    here = Site()
    await here.loop.load()
    running = asyncio.create_task(here.loop.run())
    try:
        yield here
    finally:
        here.disk.open.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        here.loop.stop()


def test_nothing_is_shown_before_it_is_durable_and_placement_does_not_wait() -> None:
    async def story() -> None:
        async with site() as here:
            await here.attach()
            here.disk.open.clear()
            before = len(here.effects)
            submitted = here.submit()
            looked = here.loop.post(Look(1))
            here.beat()
            placed = here.loop.handle(Ask("t"))
            assert isinstance(placed, Placement)
            await asyncio.wait([submitted, looked], timeout=0)
            assert not submitted.done()
            assert not looked.done()
            assert here.effects[before:] == []
            here.disk.open.set()
            assert (await submitted).job_id == 1
            assert await looked == "scheduled"
            assert len(here.of(StartAttempt)) == 1
            assert here.disk.record(1) is not None

    asyncio.run(story())


def test_what_is_read_is_not_older_than_what_was_handled() -> None:
    async def story() -> None:
        async with site() as here:
            here.disk.open.clear()
            submitted = here.submit()
            reading = asyncio.ensure_future(here.loop.read(here.disk.record, 1))
            await asyncio.wait([reading], timeout=0)
            here.disk.open.set()
            assert await reading is not None
            await submitted

    asyncio.run(story())


@pytest.mark.parametrize("failing", [Unavailable, OverflowError])
@pytest.mark.parametrize("keeps", [False, True], ids=["not there", "there all the same"])
def test_a_failed_commit_drops_what_it_would_have_shown(
    failing: type[Exception],
    keeps: bool,
) -> None:
    async def story() -> None:
        async with site() as here:
            await here.attach()
            here.disk.failing, here.disk.keeps = failing, keeps
            with pytest.raises(Unavailable) as failed:
                await here.submit()
            assert failed.value.code == "store_failed"
            here.disk.failing = None
            await here.until(lambda: bool(here.of(CloseChannel)))
            assert here.of(StartAttempt) == []
            async with asyncio.timeout(PATIENCE_S):
                while True:  # until the jobs have been read again
                    try:
                        found = await here.loop.ask(Look(1))
                        break
                    except NotFound:
                        found = None
                        break
                    except Unavailable:
                        await asyncio.sleep(0)
            assert (found is not None) == keeps
            assert (await here.submit()).job_id == 2 - (not keeps)
            assert isinstance(here.loop.handle(Ask("t")), Placement)

    asyncio.run(story())


def test_what_one_step_could_not_hand_out_follows_at_once() -> None:
    """One step starts 200 attempts at most; nothing waits for the next tick."""

    async def story() -> None:
        async with site() as here:
            await here.attach()
            started = here.clock.now()
            await here.submit(array=900)
            await here.until(lambda: len(here.of(StartAttempt)) == 900)
            # Four more steps; each would be half a second later if they waited for the tick.
            assert here.clock.now() - started < 1.0

    asyncio.run(story())


def test_what_a_heartbeat_opens_is_handed_out_at_once() -> None:
    async def story() -> None:
        async with site() as here:
            here.beat(slots=1)
            await here.loop.ask(Attach("w", "life", connection=1))
            await here.submit(array=2)
            await here.until(lambda: len(here.of(StartAttempt)) == 1)
            here.beat(slots=2)
            await here.until(lambda: len(here.of(StartAttempt)) == 2)
            assert [effect.index for effect in here.of(StartAttempt)] == [0, 1]

    asyncio.run(story())


def test_effects_come_in_the_order_of_their_steps() -> None:
    async def story() -> None:
        async with site() as here:
            await here.attach()
            await asyncio.gather(*(here.submit() for _ in range(50)))
            assert type(here.effects[0]) is ChannelOpened
            jobs = [one.job_id for one in here.of(TaskChanged) if one.state == "scheduled"]
            assert jobs == sorted(jobs)
            assert (await here.loop.ask(CountJobs())).submitted == 50

    asyncio.run(story())


def test_a_bug_in_the_job_half_is_mended_by_the_store(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that a half-done step left in memory is ever committed."""
    move = Register.move

    def stumble(register: Register, *args: Any, **more: Any) -> None:
        move(register, *args, **more)
        raise AssertionError("a bug")

    async def story() -> None:
        async with site() as here:
            await here.attach()
            assert (await here.submit()).job_id == 1
            monkeypatch.setattr(Register, "move", stumble)
            with pytest.raises(Unavailable) as failed:
                await here.submit()
            assert failed.value.code == "store_failed"
            monkeypatch.setattr(Register, "move", move)
            await here.until(lambda: bool(here.of(StartedOver)))
            assert await here.loop.ask(Look(1)) == "scheduled"
            assert (await here.submit()).job_id == 2
            assert here.disk.record(2) is not None

    asyncio.run(story())
    assert "this is a bug in dtask" in caplog.text


def test_jobs_that_can_not_be_taken_up_are_tried_again_while_time_and_placement_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug that the store's rows bring about must not end the loop, nor leave half of them."""
    monkeypatch.setattr(looping, "RELOAD_EVERY_S", 0.01)
    restore, failures = Jobs.restore, [AssertionError("a bug"), KeyError("another")]

    def stumble(jobs: Jobs, *args: Any) -> None:
        restore(jobs, *args)
        if failures:
            raise failures.pop()

    async def story() -> None:
        async with site() as here:
            await here.attach()
            monkeypatch.setattr(Jobs, "restore", stumble)
            here.disk.failing = Unavailable
            with pytest.raises(Unavailable):
                await here.submit()
            here.disk.failing = None
            await here.until(lambda: bool(here.of(StartedOver)))
            assert (await here.submit()).job_id == 1
            assert isinstance(here.loop.handle(Ask("t")), Placement)

    asyncio.run(story())
    assert caplog.text.count("the jobs can't be taken up; this is a bug in dtask") == 2


def test_whoever_waits_looks_anew_when_the_jobs_were_read_again() -> None:
    """A commit that failed may be there all the same, and nobody was told of it."""

    async def story() -> None:
        async with site() as here:
            here.disk.failing, here.disk.keeps = Unavailable, True
            with pytest.raises(Unavailable):
                await here.submit()
            here.disk.failing = None
            await here.until(lambda: bool(here.of(StartedOver)))
            assert await here.loop.ask(Look(1)) == "queued"

    asyncio.run(story())
