import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtask.wire import frames
from dtask.wire.frames import DropFrame, StopFrame, Up
from dtask.worker import channel
from dtask.worker.channels import Channels
from dtask.worker.heartbeat import Heartbeat
from dtask.worker.runner import Runner
from worker.counterpart import CLUSTER, TOKEN, Counterpart, shell, start_frame
from worker.processes import duration, sleepers, soon


@dataclass
class Worker:
    """A real runner with its channels. The test says when heartbeats are answered."""

    runner: Runner
    channels: Channels
    urls: tuple[str, ...]

    def known(self) -> None:
        for url in self.urls:
            self.channels.answered(url, None)


@asynccontextmanager
async def working(
    path: Path, *schedulers: Counterpart | str, max_tasks: int = 8, known: bool = True
) -> AsyncIterator[Worker]:
    """One life of a worker whose spool is in `path`."""
    urls = tuple(one if isinstance(one, str) else one.url for one in schedulers)
    channels = Channels(urls, token=TOKEN, path=path / "schedulers.json")
    runner = Runner(
        worker_id="w1",
        max_tasks=max_tasks,
        path=path / "spool",
        grace_s=0.5,
        on_attempt_started=channels.started,
        on_attempt_ended=channels.ended,
    )
    beat = Heartbeat(
        worker_id="w1", address="127.0.0.1:1", max_tasks=max_tasks, scheduler=urls, token=None
    )
    await runner.start()
    try:
        async with channels.open(runner, beat):
            worker = Worker(runner, channels, urls)
            if known:
                worker.known()
            yield worker
    finally:
        await runner.stop()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dtask.worker"]


@pytest.fixture(autouse=True)
def _no_bug(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    caplog.set_level(logging.INFO, "dtask.worker")
    yield
    assert not [line for line in said(caplog) if "bug" in line]


# One connection


def test_attempt_is_started_logged_and_ended_and_forgotten_once_that_was_heard(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            line = "echo out; echo err >&2; echo res > $DTASK_RESULT; exit 3"
            await scheduler.order(shell(7, line))
            await scheduler.until(lambda: bool(scheduler.ends))
            end = scheduler.end(7)
            assert (end.exit_code, end.cause, end.log_lost) == (3, None, False)
            assert scheduler.started == [7]
            assert scheduler.log(7) == b"out\n"
            assert scheduler.log(7, "stderr") == b"err\n"
            assert scheduler.log(7, "result") == b"res\n"
            await soon(lambda: worker.runner.clusters() == set())
            await worker.channels.told()
            assert scheduler.told(7) == 1

    asyncio.run(main())


def test_channel_is_opened_after_the_first_answered_heartbeat_and_shows_the_token(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler, known=False) as worker:
            assert not scheduler.requests
            worker.known()
            await scheduler.greeted()
            [request] = scheduler.requests
            assert request.path == frames.PATH
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            [hello] = scheduler.hellos
            assert (hello.version, hello.worker_id) == (frames.VERSION, "w1")
            assert (hello.cluster_id, hello.held) == (None, ())

    asyncio.run(main())


def test_log_is_sent_while_the_attempt_runs(tmp_path: Path) -> None:
    async def main() -> None:
        go = tmp_path / "go"
        async with Counterpart() as scheduler, working(tmp_path, scheduler):
            await scheduler.greeted()
            wait = f"until [ -e {go} ]; do sleep 0.02; done"
            await scheduler.order(shell(1, f"echo one; {wait}; echo two"))
            await scheduler.until(lambda: scheduler.log(1) == b"one\n")
            assert not scheduler.ends
            go.touch()
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert scheduler.log(1) == b"one\ntwo\n"

    asyncio.run(main())


def test_attempt_sent_twice_runs_once(tmp_path: Path) -> None:
    async def main() -> None:
        runs = tmp_path / "runs"
        async with Counterpart() as scheduler, working(tmp_path, scheduler):
            await scheduler.greeted()
            start = shell(1, f"echo x >> {runs}; until [ -e {tmp_path}/go ]; do sleep 0.02; done")
            await scheduler.order(start, start)
            await scheduler.order(start)
            await scheduler.until(runs.exists)
            (tmp_path / "go").touch()
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert runs.read_text() == "x\n"

    asyncio.run(main())


def test_stopped_attempt_ends_and_dropped_one_ends_without_a_word_but_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        stopped, dropped = duration(), duration()
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            await scheduler.order(start_frame(1, "sleep", stopped))
            await scheduler.order(start_frame(2, "sleep", dropped))
            await scheduler.until(lambda: scheduler.started == [1, 2])
            await scheduler.order(DropFrame(2), StopFrame(1, 1.0))
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert scheduler.end(1).cause == "stopped"
            await soon(lambda: worker.runner.clusters() == set())
            assert sleepers(stopped) == sleepers(dropped) == []
            assert [line for line in caplog.messages if "any more" in line] == [
                "Its scheduler does not wait for attempt 2/main any more (fence 2): it is stopped."
            ]
            assert scheduler.told(2) == 0

    asyncio.run(main())


def test_what_cannot_be_started_is_told_as_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler, max_tasks=1):
            await scheduler.greeted()
            await scheduler.order(
                start_frame(1, "no-such-command-" + "x" * 5_000), shell(2, "sleep 60"), shell(3, "")
            )
            await scheduler.until(lambda: scheduler.told(1) == scheduler.told(3) == 1)
            assert scheduler.end(1).cause == "start_failed"
            assert len(scheduler.end(1).error or "") == 1_000
            assert scheduler.end(3).cause == "returned"
            await scheduler.until(lambda: scheduler.started == [2])

    asyncio.run(main())


def test_many_short_attempts_share_messages(tmp_path: Path) -> None:
    async def main() -> None:
        fences = range(1, 101)
        async with Counterpart() as scheduler, working(tmp_path, scheduler, max_tasks=100) as w:
            await scheduler.greeted()
            await scheduler.order(*(shell(fence, f"echo {fence}") for fence in fences))
            await scheduler.until(lambda: len(scheduler.ends) == 100)
            assert all(scheduler.log(fence) == b"%d\n" % fence for fence in fences)
            assert len(scheduler.ups) < 250
            await w.channels.told()

    asyncio.run(main())


# Floods


def test_no_more_is_sent_than_the_window_while_nothing_is_heard(tmp_path: Path) -> None:
    """Starts and ends don't need the window, so that a flood keeps no attempt from being told."""

    async def main() -> None:
        mib = frames.WINDOW_BYTES // 1024**2 * 2
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.hears = False
            await scheduler.order(shell(1, f"head -c {mib}M /dev/zero"))
            await scheduler.until(lambda: scheduler.unheard_bytes == frames.WINDOW_BYTES)
            await scheduler.order(shell(2, "exit 5"), shell(3, "echo late"))
            await scheduler.until(lambda: scheduler.told(2) == 1)
            await soon(lambda: worker.runner.attempt_end((CLUSTER, 3)) is not None)
            assert scheduler.told(1) == scheduler.told(3) == 0
            await scheduler.hear()
            await scheduler.until(lambda: scheduler.told(1) == scheduler.told(3) == 1)
            assert len(scheduler.log(1)) == mib * 1024**2
            assert scheduler.log(3) == b"late\n"
            await worker.channels.told()

    asyncio.run(main())


def test_flood_of_one_attempt_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            await scheduler.order(shell(1, "head -c 25M /dev/zero"))
            await soon(lambda: worker.runner.attempt_end((CLUSTER, 1)) is not None)
            await scheduler.order(shell(2, "echo small"))
            await scheduler.until(lambda: scheduler.told(2) == 1)
            arrived_before = len(scheduler.log(1))
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert arrived_before < 25 * 1024**2
            assert scheduler.log(1) == bytes(25 * 1024**2)

    asyncio.run(main())


def test_ends_are_told_once_a_connection_to_a_scheduler_that_never_hears(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.hears = False
            for fence in range(1, 41):
                await scheduler.order(shell(fence, "echo x"))
                await scheduler.until(lambda fence=fence: scheduler.told(fence) == 1)
            assert len(worker.runner.attempts(CLUSTER)) == 40
            assert len(scheduler.ends) == 40
            await scheduler.hear()
            await worker.channels.told()
            assert len(scheduler.ends) == 40

    asyncio.run(main())


# Breaks


@pytest.mark.parametrize("kind", ["StartedFrame", "LogFrame", "EndedFrame"])
def test_cut_before_any_frame_arrived_loses_nothing(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        cut: list[Up] = []

        def cuts(up: Up) -> bool:
            if cut or not any(type(frame).__name__ == kind for frame in up.frames):
                return False
            cut.append(up)
            return True

        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            scheduler.cuts = cuts
            await scheduler.greeted()
            copy = tmp_path / "copy"
            await scheduler.order(shell(1, f"head -c 700000 /dev/urandom | tee {copy}"))
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert scheduler.log(1) == copy.read_bytes()
            assert cut
            assert len(scheduler.hellos) == 2
            [held] = scheduler.hellos[1].held
            assert held.fence == 1
            assert scheduler.hellos[1].cluster_id == CLUSTER
            await worker.channels.told()

    asyncio.run(main())


def test_cut_before_the_welcome_loses_nothing(tmp_path: Path) -> None:
    """The attempt starts, writes and ends between a hello and its welcome."""

    async def main() -> None:
        go = tmp_path / "go"
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            wait = f"until [ -e {go} ]; do sleep 0.02; done"
            await scheduler.order(shell(1, f"echo one; {wait}; echo two"))
            await scheduler.until(lambda: scheduler.log(1) == b"one\n")
            scheduler.welcomes = False
            scheduler.cut()
            await scheduler.greeted(2)
            go.touch()
            await soon(lambda: worker.runner.attempt_end((CLUSTER, 1)) is not None)
            scheduler.welcomes = True
            scheduler.cut()
            await scheduler.until(lambda: scheduler.told(1) == 1)
            assert scheduler.log(1) == b"one\ntwo\n"
            assert scheduler.started == [1]

    asyncio.run(main())


def test_end_that_came_and_was_not_heard_is_told_again_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.hears = False
            await scheduler.order(shell(1, "echo once"))
            await scheduler.until(lambda: scheduler.told(1) == 1)
            scheduler.hears = True
            scheduler.cut()
            await scheduler.until(lambda: scheduler.told(1) == 2)
            assert scheduler.end(1).exit_code == 0
            assert scheduler.log(1) == b"once\n"
            await worker.channels.told()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_everything_arrives_over_a_connection_that_is_cut_again_and_again(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        draw = random.Random(seed)
        fences = range(1, 31)
        lines = {
            fence: f"head -c {draw.choice([0, 10, 300_000, 900_000])} /dev/zero; exit {fence}"
            for fence in fences
        }
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.cuts = lambda _: draw.random() < 0.1
            for fence in fences:
                await soon(lambda: len(worker.runner.attempts(CLUSTER)) < 8)
                # Straight to the runner: an order that is lost is another story.
                worker.runner.attempt(CLUSTER, shell(fence, lines[fence]))
            await worker.channels.told()
            assert len(scheduler.hellos) > 1
            for fence in fences:
                assert scheduler.end(fence).exit_code == fence

    monkeypatch.setattr(channel, "BACKOFF_S_MAX", 0.05)
    asyncio.run(main())


def test_next_life_tells_the_end_that_was_not_heard(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler:
            scheduler.hears = False
            async with working(tmp_path, scheduler) as worker:
                await scheduler.greeted()
                await scheduler.order(shell(1, "echo once; exit 4"))
                await scheduler.until(lambda: scheduler.told(1) == 1)
            scheduler.hears = True
            async with working(tmp_path, scheduler) as worker:
                await worker.channels.told()
                assert scheduler.hellos[-1].cluster_id == CLUSTER
                assert scheduler.told(1) == 2
                assert scheduler.end(1).exit_code == 4
                assert scheduler.log(1) == b"once\n"

    asyncio.run(main())


def test_attempt_that_the_welcome_stops_is_stopped_and_never_told(tmp_path: Path) -> None:
    async def main() -> None:
        seconds = duration()
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            await scheduler.order(start_frame(1, "sleep", seconds))
            await scheduler.until(lambda: scheduler.started == [1])
            scheduler.stop = (1,)
            scheduler.cut()
            await soon(lambda: worker.runner.clusters() == set())
            assert sleepers(seconds) == []
            assert scheduler.ends == []

    asyncio.run(main())


def test_path_that_is_dead_is_seen_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler):
            await scheduler.greeted()
            assert scheduler.connection is not None
            scheduler.connection.transport.pause_reading()
            await scheduler.greeted(2)

    monkeypatch.setattr(channel, "PING_S", 0.1)
    monkeypatch.setattr(channel, "PONG_S", 0.2)
    asyncio.run(main())
    assert any("no answer to a ping within 0.2 s" in line for line in said(caplog))


# Stores


def test_attempts_of_a_store_that_is_gone_are_stopped_and_never_told(tmp_path: Path) -> None:
    async def main() -> None:
        seconds = duration()
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.hears = False
            await scheduler.order(start_frame(1, "sleep", seconds), shell(2, "exit 3"))
            await scheduler.until(lambda: scheduler.told(2) == 1)
            scheduler.hears = True
            scheduler.cluster_id = "cluster-2"
            scheduler.cut()
            await soon(lambda: worker.runner.clusters() == set())
            assert sleepers(seconds) == []
            assert scheduler.told(1) == 0
            assert scheduler.told(2) == 1
            await scheduler.order(shell(3, "exit 6"))
            await scheduler.until(lambda: scheduler.told(3) == 1)
            assert worker.runner.clusters() <= {"cluster-2"}

    asyncio.run(main())


def test_each_of_two_schedulers_is_told_of_its_own_attempts_in_the_next_life_too(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with Counterpart("a") as one, Counterpart("b") as other:
            async with working(tmp_path, one, other) as worker:
                await one.greeted()
                await other.greeted()
                one.hears = other.hears = False
                await one.order(shell(1, "exit 1"))
                await other.order(shell(2, "exit 2"))
                await one.until(lambda: one.told(1) == 1)
                await other.until(lambda: other.told(2) == 1)
            one.hears = other.hears = True
            async with working(tmp_path, other, one) as worker:
                await worker.channels.told()
            assert [hello.cluster_id for hello in one.hellos] == [None, "a"]
            assert [hello.cluster_id for hello in other.hellos] == [None, "b"]
            assert [[held.fence for held in hello.held] for hello in one.hellos] == [[], [1]]
            assert (one.told(1), one.told(2)) == (2, 0)
            assert (other.told(1), other.told(2)) == (0, 2)

    asyncio.run(main())


def test_attempts_of_one_scheduler_wait_for_it_while_another_is_there(tmp_path: Path) -> None:
    """With nothing written down, a scheduler that was not heard of yet may be theirs."""

    async def main() -> None:
        async with Counterpart("a") as one, Counterpart("b") as other:
            one.hears = False
            async with working(tmp_path, one, other) as worker:
                await one.greeted()
                await other.greeted()
                await one.order(shell(1, "exit 1"))
                await one.until(lambda: one.told(1) == 1)
            (tmp_path / "schedulers.json").unlink()
            one.hears = True
            async with working(tmp_path, one, other, known=False) as worker:
                worker.channels.answered(other.url, "b")
                await other.greeted(2)
                await other.order(shell(2, "exit 2"))
                await other.until(lambda: other.told(2) == 1)
                assert worker.runner.attempt_end(("a", 1)) is not None
                worker.channels.answered(one.url, None)
                await worker.channels.told()
            assert other.hellos[-1].held == ()
            assert one.told(1) == 2

    asyncio.run(main())


def test_two_names_of_one_scheduler_share_one_channel(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler:
            names = (scheduler.url, scheduler.url.replace("127.0.0.1", "localhost"))
            async with working(tmp_path, *names, known=False) as worker:
                for url in names:
                    worker.channels.answered(url, CLUSTER)
                await scheduler.greeted(2)
                await soon(lambda: [worker.channels.unnamed(url) for url in names] == [0, 0])
                await scheduler.order(shell(1, "sleep 0.3"))
                await scheduler.until(lambda: scheduler.told(1) == 1)
                times = len(scheduler.hellos)
                assert times <= 4
                scheduler.cut()
                await scheduler.greeted(times + 1)

    asyncio.run(main())


def test_heartbeats_count_attempts_toward_schedulers_that_do_not_hear_of_them(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            Counterpart("a") as one,
            Counterpart("b") as other,
            working(tmp_path, one, other) as worker,
        ):
            await one.greeted()
            await other.greeted()
            await one.order(start_frame(1, "sleep", duration()))
            await one.until(lambda: one.started == [1])
            assert worker.channels.unnamed(one.url) == 0
            assert worker.channels.unnamed(other.url) == 1
            one.welcomes = False
            one.cut()
            await one.greeted(2)
            assert worker.channels.unnamed(one.url) == 1
            one.welcomes = True
            one.cut()
            await one.greeted(3)
            await soon(lambda: worker.channels.unnamed(one.url) == 0)
            await one.order(StopFrame(1, 1.0))
            await one.until(lambda: one.told(1) == 1)
            assert worker.channels.unnamed(other.url) == 0

    asyncio.run(main())


def test_dropped_attempt_counts_until_its_slot_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            go = tmp_path / "go"
            line = (
                f"trap 'until [ -e {go} ]; do sleep 0.02; done; exit' TERM; echo; sleep 600 & wait"
            )
            await scheduler.order(shell(1, line))
            await scheduler.until(lambda: scheduler.log(1) == b"\n")
            assert worker.channels.unnamed(scheduler.url) == 0
            await scheduler.order(DropFrame(1))
            await soon(lambda: worker.channels.unnamed(scheduler.url) == 1)
            go.touch()
            await soon(lambda: worker.channels.unnamed(scheduler.url) == 0)

    asyncio.run(main())


# Schedulers that don't take the worker


def refusal(code: str, sentence: str) -> bytes:
    return json.dumps({"error": sentence, "code": code}).encode()


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (
            404,
            refusal("no_route", "There is no such path."),
            "The scheduler {url} has no channel for jobs: it only places tasks here.",
        ),
        (
            401,
            refusal("wrong_token", "The token is not this scheduler's."),
            (
                "The channel to the scheduler {url} is not open: The token is not this "
                "scheduler's. Trying until it is."
            ),
        ),
        (
            502,
            b"<html>Bad gateway</html>",
            (
                "The channel to the scheduler {url} is not open: HTTP 502 with a body that is "
                "not dtask's: is this address a dtask process? Trying until it is."
            ),
        ),
    ],
)
def test_refused_handshake_is_said_once_until_the_channel_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, body: bytes, sentence: str
) -> None:
    async def main() -> str:
        async with Counterpart() as scheduler:
            scheduler.refusal = (status, body)
            async with working(tmp_path, scheduler):
                await soon(lambda: len(scheduler.requests) >= 3)
                scheduler.refusal = None
                await scheduler.greeted()
                await soon(lambda: len(said(caplog)) > 1)
            return scheduler.url

    url = asyncio.run(main())
    assert said(caplog) == [
        sentence.format(url=url),
        f"The channel to the scheduler {url} is open again.",
    ]


@pytest.mark.parametrize(("version", "older"), [(frames.VERSION + 1, "worker"), (0, "scheduler")])
def test_scheduler_of_another_version_is_told_apart_in_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int, older: str
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler:
            scheduler.version = version
            async with working(tmp_path, scheduler):
                await scheduler.until(lambda: len(scheduler.hellos) >= 2)
                scheduler.version = frames.VERSION
                await soon(lambda: len(said(caplog)) > 1)

    asyncio.run(main())
    assert said(caplog)[0].endswith(
        f"is not open: it speaks version {version} of the channel, and this worker "
        f"{frames.VERSION}: upgrade the {older}. Trying until it is."
    )
    assert said(caplog)[1].endswith("is open again.")


@pytest.mark.parametrize("code", [frames.CLOSE_AGAIN, frames.CLOSE_REPLACED, frames.CLOSE_REFUSED])
def test_closed_channel_says_why_and_opens_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler):
            await scheduler.greeted()
            await scheduler.close(code, "The scheduler starts over.")
            await scheduler.greeted(2)
            await soon(lambda: len(said(caplog)) == 3)

    asyncio.run(main())
    assert said(caplog)[1].endswith("is not open: The scheduler starts over. Trying until it is.")


def test_channel_that_is_closed_as_soon_as_it_opens_is_said_so_no_more_than_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk of the scheduler. An answered heartbeat is no sign that trying is worth it."""

    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            for times in range(1, 6):
                await scheduler.greeted(times)
                await scheduler.close(frames.CLOSE_AGAIN, "The disk is full.")
                await scheduler.until(lambda: scheduler.connection is None)
                if times < 4:
                    worker.known()
            await scheduler.greeted(6)
            await soon(lambda: said(caplog)[-1].endswith("is open again."))

    monkeypatch.setattr(channel, "BACKOFF_S_MAX", 0.5)
    asyncio.run(main())
    words = [line.partition(" is ")[2] for line in said(caplog)]
    full = "not open: The disk is full. Trying until it is."
    assert words == ["open.", full, "open again.", full, "open again."]


def test_answered_heartbeat_makes_it_try_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A scheduler that is back knows a worker by its heartbeat, and then by its hello."""

    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            await scheduler.greeted()
            scheduler.cut()
            await soon(lambda: any("not open" in line for line in said(caplog)))
            worker.known()
            await scheduler.greeted(2)

    monkeypatch.setattr(channel.random, "uniform", lambda _, bound: 3_600.0 * (bound > 0))
    asyncio.run(main())


def test_nonsense_from_a_scheduler_ends_the_connection_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Counterpart() as scheduler, working(tmp_path, scheduler) as worker:
            for times, raw in enumerate((b"\xff", b"", "text"), start=1):
                await scheduler.greeted(times)
                assert scheduler.connection is not None
                await scheduler.connection.send(raw)
            await scheduler.greeted(4)
            await scheduler.order(shell(1, "exit 0"))
            await scheduler.until(lambda: scheduler.told(1) == 1)
            await worker.channels.told()

    asyncio.run(main())
    assert any("none of the worker channel's" in line for line in said(caplog))
