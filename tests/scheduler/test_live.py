"""The stream of everything: a snapshot, then what changes, for any number of readers."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest

import servers
from dtask.clock import ManualClock
from dtask.core.cluster import Cluster, Settings
from dtask.core.jobs.events import Attach, Ended, Reports, SetQueue, StartAttempt, Submit
from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.core.placement.events import Heartbeat, Tick
from dtask.errors import Busy
from dtask.scheduler import live as living
from dtask.scheduler.api.live import LiveStreams
from dtask.scheduler.attention import FAILED_S, WAIT_S, Watch
from dtask.scheduler.history import History
from dtask.scheduler.live import JOBS_TOLD_MAX, MESSAGES_MAX, VIEWERS_MAX, ChangedJobs, Live
from dtask.scheduler.loop import Loop
from dtask.store.memory import MemoryStore
from dtask.wire.live import Totals

START = 1_700_000_000.0
PATIENCE_S = 20.0


# Over HTTP


class Viewer:
    """One stream."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.id = 0

    def next(self) -> tuple[str, Any]:
        """Kind and data of the next message."""
        kind = ""
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.id = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                return kind, json.loads(value)
        raise AssertionError("the stream has ended")

    def until(self, name: str) -> Any:
        """The next update that tells of this worker."""
        while True:
            kind, data = self.next()
            assert kind == "update"
            for worker in data["workers"]:
                if worker[0] == name:
                    return worker


@contextmanager
def viewing(scheduler: servers.RunningScheduler, **headers: str) -> Iterator[Viewer]:
    with (
        httpx.Client(base_url=scheduler.url, timeout=PATIENCE_S, verify=False) as client,
        client.stream(
            "GET", "/api/v1/live", headers=servers.bearer(scheduler.token) | headers
        ) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield Viewer(answer.iter_lines())


def test_a_snapshot_comes_first_and_then_what_changes() -> None:
    with servers.running_scheduler() as scheduler:
        servers.beat(scheduler.url, "w1", max_tasks=4, current_tasks=1)
        with viewing(scheduler) as viewer:
            kind, data = viewer.next()
            assert kind == "reset"
            (worker,) = data["workers"]
            assert worker[:5] == ["w1", "online", False, 1, 4]
            assert abs(worker[5] - time.time()) < PATIENCE_S
            assert (data["totals"]["slots"], data["totals"]["occupied"]) == (4, 1)
            assert data["totals"]["queues"][0]["name"] == "default"
            servers.beat(scheduler.url, "w2")
            assert viewer.until("w2")[:5] == ["w2", "online", False, 0, 4]
            servers.beat(scheduler.url, "w2", leaving=True)
            while viewer.next()[1]["gone"] != ["w2"]:
                pass


def test_a_job_that_changes_is_named() -> None:
    with servers.running_scheduler() as scheduler, viewing(scheduler) as viewer:
        assert viewer.next()[0] == "reset"
        job = {"command": ["true"]}
        headers = servers.bearer(scheduler.token)
        httpx.post(f"{scheduler.url}/api/v1/jobs", json=job, headers=headers, verify=False)
        while not (data := viewer.next()[1])["jobs"]:
            pass
        assert (data["jobs"], data["more_jobs"]) == ([1], False)
        assert data["totals"]["tasks"]["queued"] == 1
        codes = [one["code"] for one in data["totals"]["attention"]]
        assert codes == ["no_worker"]


def test_who_comes_back_soon_misses_nothing_and_after_a_restart_gets_a_snapshot() -> None:
    with servers.running_scheduler() as scheduler, viewing(scheduler) as another:
        another.next()
        with viewing(scheduler) as viewer:
            viewer.next()
            last = viewer.id
        servers.beat(scheduler.url, "w1")
        another.until("w1")
        with viewing(scheduler, **{"last-event-id": str(last)}) as viewer:
            assert viewer.until("w1")[0] == "w1"
        with viewing(scheduler, **{"last-event-id": str(another.id)}) as viewer:
            assert viewer.next()[0] in {"reset", "update"}, "it learns at once how things stand"
        with viewing(scheduler, **{"last-event-id": "17"}) as viewer:
            assert viewer.next()[0] == "reset"


# In virtual time


class Site:
    """A stream over a core whose events a test sends itself."""

    def __init__(self, warm_up_s: float) -> None:
        self.clock = ManualClock(START)
        self.watch, self.changed = Watch(), ChangedJobs()
        self.cluster = Cluster(START, Settings(warm_up_s=warm_up_s))
        self.effects: list[Any] = []
        self.loop = Loop(
            self.cluster,
            self.clock,
            MemoryStore(),
            [self.watch.perform, self.changed.perform, self.effects.append],
        )
        self.history = History(self.loop, self.clock)
        self.live = Live(self.loop, self.history, self.watch, self.changed, self.clock)

    def beat(self, worker_id: str = "w1", tags: tuple[str, ...] = (), **fields: Any) -> None:
        beat = Heartbeat(worker_id, f"{worker_id}:1", tags, 4, 0, f"{worker_id}-life")
        self.loop.handle(msgspec.structs.replace(beat, tasks=(), trusted=True, **fields))

    async def attach(self, worker_id: str = "w1") -> None:
        await self.loop.ask(Attach(worker_id, f"{worker_id}-life", connection=1))

    async def submit(self, **spec: Any) -> int:
        job = JobSpec(tasks={"main": TaskSpec(command=("true",), **spec)})
        raw = msgspec.json.encode(job).decode()
        return (await self.loop.ask(Submit(job, raw, raw))).job_id

    async def end(self, exit_code: int) -> None:
        """The attempt that was given last has ended."""
        start = [one for one in self.effects if isinstance(one, StartAttempt)][-1]
        ended = Ended(start.fence, exit_code, ended_at=self.clock.now())
        await self.loop.ask(Reports(start.worker_id, start.incarnation, (ended,)))

    async def totals(self) -> Totals:
        await self.live._tick()
        assert self.live._totals is not None
        return self.live._totals

    async def attention(self) -> list[tuple[str, str, str]]:
        return [(one.code, one.level, one.sentence) for one in (await self.totals()).attention]


def play(story: Any, *, warm_up_s: float = 0.0) -> None:
    async def main() -> None:
        site = Site(warm_up_s)
        await site.loop.load()
        running = asyncio.create_task(site.loop.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await story(site)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            site.loop.stop()

    asyncio.run(main())


def test_nothing_is_sent_when_nothing_has_changed_but_now_and_then_a_sign_of_life() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.live._tick()
        last = site.live.last
        site.clock.advance(3)
        site.beat()  # a heartbeat alone is no change
        await site.live._tick()
        assert site.live.last == last
        site.clock.advance(living.BEAT_S)
        await site.live._tick()
        assert site.live.last == last + 1

    play(story)


def test_viewers_that_come_together_are_one_look() -> None:
    async def story(site: Site) -> None:
        site.beat()
        before = site.live.last
        told = await asyncio.gather(*(site.live.snapshot() for _ in range(20)))
        assert len(set(told)) == 1
        assert site.live.last == before + 1

    play(story)


def test_the_last_messages_can_be_read_again_and_no_more() -> None:
    async def story(site: Site) -> None:
        first = site.live.last
        for number in range(MESSAGES_MAX + 5):
            site.beat(f"w{number}")
            await site.live._tick()
        assert len(site.live._messages) == MESSAGES_MAX
        assert not site.live.goes_on_after(first)
        assert site.live.goes_on_after(site.live.last - MESSAGES_MAX)
        assert not site.live.goes_on_after(site.live.last)
        assert not site.live.goes_on_after(site.live.last + 1)
        text = site.live.read(site.live.last - 2)
        assert text.count(b"event: update\n") == 2

    play(story)


def test_a_reader_that_is_too_slow_gets_a_snapshot_instead_of_all_that_it_missed() -> None:
    async def story(site: Site) -> None:
        sent: list[bytes] = []
        took, takes = asyncio.Event(), asyncio.Event()

        async def send(message: Any) -> None:
            if text := message.get("body"):
                sent.append(text)
                took.set()
                await takes.wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = {"method": "GET", "headers": [], "query_string": b""}
        reader = asyncio.create_task(LiveStreams(site.live)(scope, receive, send, *(True,)))
        takes.set()
        while not sent or b"event: reset" not in sent[-1]:
            await took.wait()
            took.clear()
        takes.clear()
        for number in range(MESSAGES_MAX + 2):
            site.beat(f"w{number}")
            await site.live._tick()
        takes.set()
        while len(sent) < 4:
            await took.wait()
            took.clear()
        kinds = [text.count(b"event: reset") for text in sent]
        assert kinds == [0, 1, 0, 1]  # the third was on its way already
        reader.cancel()

    play(story)


def test_a_scheduler_that_has_just_started_says_when_that_is_over() -> None:
    async def story(site: Site) -> None:
        assert (await site.totals()).warming_up
        last = site.live.last
        pass_time(site, 5)
        assert not (await site.totals()).warming_up
        assert site.live.last == last + 1, "though nothing else has changed"

    play(story, warm_up_s=5.0)


def test_an_element_counts_as_ended_before_its_job_has() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.attach()
        await site.submit(array=3)
        await site.end(0)
        totals = await site.totals()
        assert totals.jobs == 1
        assert totals.ended["succeeded"] == 1

    play(story)


def pass_time(site: Site, seconds: int) -> None:
    for _ in range(2 * seconds):  # the core would take a longer pause for a stall
        site.clock.advance(0.5)
        site.loop.handle(Tick())


def test_a_worker_that_is_forgotten_is_gone() -> None:
    async def story(site: Site) -> None:
        site.beat("b")
        pass_time(site, 30)
        await site.live._tick()
        snapshot, _ = await site.live.snapshot()
        assert b'"b","offline"' in snapshot
        pass_time(site, 3_600)
        site.beat("a")
        await site.live._tick()
        message = site.live.read(site.live.last - 1)
        assert b'"gone":["b"]' in message
        snapshot, last = await site.live.snapshot()
        assert b'"b"' not in snapshot
        assert last == site.live.last

    play(story)


def test_a_worker_that_left_is_gone() -> None:
    async def story(site: Site) -> None:
        site.beat("a")
        site.beat("b")
        await site.live._tick()
        site.beat("b", leaving=True)
        await site.live._tick()
        assert b'"gone":["b"]' in site.live.read(site.live.last - 1)
        snapshot, _ = await site.live.snapshot()
        assert b'"b"' not in snapshot
        assert b'"workers":{"online":1,"suspect":0,"offline":0,"draining":0}' in snapshot

    play(story)


def test_when_nobody_reads_nothing_is_kept() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.live._tick()
        assert site.live._messages
        assert site.changed.wanted
        await site.submit()
        last = site.live.last
        site.live._forget()
        site.beat("w2")
        await site.live._tick()
        assert not site.live.goes_on_after(last)  # it does not know what was forgotten
        site.live._forget()
        assert (site.live._messages, site.live._workers) == ({}, {})
        assert site.changed.take() == ([], False)
        await site.submit()
        assert site.changed.take() == ([], False)

    play(story)


def test_more_jobs_than_can_be_told_are_hinted_at() -> None:
    async def story(site: Site) -> None:
        site.changed.wanted = True
        for _ in range(JOBS_TOLD_MAX + 1):
            await site.submit()
        jobs, more = site.changed.take()
        assert (jobs, more) == (list(range(1, JOBS_TOLD_MAX + 1)), True)
        assert site.changed.take() == ([], False)

    play(story)


def test_viewers_are_limited() -> None:
    async def story(site: Site) -> None:
        assert VIEWERS_MAX == 512
        site.live.readers._most = 1
        with (
            site.live.readers.reading(),
            pytest.raises(Busy, match="read the live stream"),
            site.live.readers.reading(),
        ):
            pass

    play(story)


# What needs attention


def test_a_quiet_fleet_needs_no_attention() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.attach()
        await site.submit()
        assert await site.attention() == []

    play(story)


def test_workers_that_are_offline_and_tasks_that_nobody_takes_are_told() -> None:
    async def story(site: Site) -> None:
        site.beat("a", leaving=True)
        site.beat("b")
        pass_time(site, 30)
        site.beat("a")
        await site.submit()
        assert await site.attention() == [
            ("workers_offline", "serious", "1 of 2 workers is offline."),
            ("no_worker", "serious", "1 task waits, and no worker is there that takes jobs."),
        ]
        for number in range(8):
            site.beat(f"more-{number}")
        await site.attach("a")
        assert await site.attention() == [
            ("workers_offline", "warning", "1 of 10 workers is offline.")
        ]
        site.beat("a", leaving=True)
        assert (await site.attention())[0] == (
            *("workers_offline", "serious"),
            "1 of 9 workers is offline.",
        )

    play(story)


def test_jobs_that_failed_are_told_for_an_hour() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.attach()
        await site.submit()
        await site.end(1)
        assert await site.attention() == [
            ("jobs_failed", "warning", "1 job failed in the last hour.")
        ]
        site.loop.handle(Tick())
        site.clock.advance(FAILED_S + 1)
        site.beat()
        assert await site.attention() == []

    play(story)


def test_a_queue_in_which_tasks_wait_too_long_or_for_nothing_is_told() -> None:
    async def story(site: Site) -> None:
        site.beat()
        await site.attach()
        for _ in range(5):
            await site.submit()
        assert await site.attention() == []
        site.clock.advance(WAIT_S + 1)
        site.beat()
        sentence = "A task of the queue default has waited for a slot for 10 min."
        assert await site.attention() == [("long_wait", "warning", sentence)]
        await site.loop.ask(SetQueue("default", paused=True))
        sentence = "The queue default is paused, and 1 task waits in it."
        assert await site.attention() == [("queue_paused", "warning", sentence)]

    play(story)


def test_what_fits_nowhere_is_told_before_anybody_asks() -> None:
    async def story(site: Site) -> None:
        site.beat(tags=("gpu",))
        await site.attach()
        job_id = await site.submit(tags=("gpu", "quantum"))
        for _ in range(5):
            await site.submit(tags=("gpu",))  # that only waits
        sentence = f"No worker that is there could ever take {job_id}/main: it needs gpu, quantum."
        assert await site.attention() == [("fits_nowhere", "warning", sentence)]
        site.beat("w2", ("gpu", "quantum"))
        await site.attach("w2")
        assert await site.attention() == []

    play(story)


def test_counts_of_a_store_that_hangs_are_not_shown_as_those_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(site: Site) -> None:
        site.beat()
        assert (await site.totals()).tasks is not None
        monkeypatch.setattr(site.loop, "post", lambda _: asyncio.get_running_loop().create_future())
        assert (await site.totals()).tasks is not None
        for one in (site.live._stats, site.live._queues):
            one._old_at = 0.0
        assert (await site.totals()).tasks is None

    play(story)


def test_a_store_that_fails_is_told_and_workers_go_on_being_shown() -> None:
    async def story(site: Site) -> None:
        site.beat()
        site.cluster.suspend(site.clock.now())
        totals = await site.totals()
        assert [one.code for one in totals.attention] == ["store_failed"]
        assert (totals.tasks, totals.queues, totals.slots) == (None, None, 4)

    play(story)
