import asyncio
import itertools
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from dtask.errors import Conflict, Denied, InvalidRequest
from dtask.wire import limits
from dtask.worker import heartbeat, link
from dtask.worker.heartbeat import Heartbeat
from worker.recording import Recorder, Request, always, hang_up, ok

TOKEN = "a-token-of-the-tests"


def beating(scheduler: str | list[str], **changes: Any) -> Heartbeat:
    settings: dict[str, Any] = {
        "worker_id": "w1",
        "address": "127.0.0.1:9000",
        "tags": ["gpu", "cuda-12.4"],
        "max_tasks": 4,
        "token": None,
        "interval_s": 3.0,
    }
    return Heartbeat(scheduler=scheduler, **(settings | changes))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def refusal(code: str, sentence: str = "Somebody else has it.") -> dict[str, str]:
    return {"error": sentence, "code": code}


def test_first_heartbeat_comes_at_once_and_says_who_the_worker_is() -> None:
    async def main() -> None:
        async with Recorder() as scheduler:
            before = time.time()
            async with beating(scheduler.url) as beat:
                await beat.wait_answered()
                [request] = scheduler.requests
        assert request.line == "POST /api/v1/heartbeat HTTP/1.1"
        assert request.headers["content-type"] == "application/json"
        said = request.body
        assert before - 1 < said.pop("timestamp") < before + 2
        assert said == {
            "worker_id": "w1",
            "address": "127.0.0.1:9000",
            "resource_tags": ["gpu", "cuda-12.4"],
            "max_tasks": 4,
            "current_tasks": 0,
            "incarnation": beat.incarnation,
            "seq": 1,
            "tasks": [],
            "ended": [],
            "draining": False,
            "drained": False,
            "leaving": False,
        }

    asyncio.run(main())


def test_heartbeats_follow_within_the_interval_and_never_after_it() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=0.1):
            await scheduler.until(lambda: len(scheduler.requests) == 12)
        pauses = [b.at - a.at for a, b in itertools.pairwise(scheduler.requests[:12])]
        assert 0.08 < sorted(pauses)[len(pauses) // 2] < 0.13  # a busy machine delays a few
        sequence = [body["seq"] for body in scheduler.bodies]
        assert sequence == sorted(set(sequence))
        assert len({body["incarnation"] for body in scheduler.bodies}) == 1

    asyncio.run(main())


def test_each_life_has_its_own_incarnation() -> None:
    assert beating("http://h").incarnation != beating("http://h").incarnation


def test_held_tasks_are_named_with_their_fence_where_it_is_known() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=0.1) as beat:
            with beat.task("task-001", fence=7), beat.task("task-002"):
                await scheduler.until(lambda: scheduler.last["current_tasks"] == 2)
                assert scheduler.last["tasks"] == [{"task_id": "task-001", "fence": 7}, "task-002"]

    asyncio.run(main())


def test_ended_task_is_said_at_once_even_if_its_block_raised() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=60) as beat:
            await beat.wait_answered()
            with pytest.raises(ZeroDivisionError), beat.task("task-001", fence=7):
                raise ZeroDivisionError
            await scheduler.until(lambda: len(scheduler.requests) == 2, within_s=2)
            assert scheduler.last["current_tasks"] == 0
            assert scheduler.last["tasks"] == []
            assert scheduler.last["ended"] == [{"task_id": "task-001", "fence": 7}]

    asyncio.run(main())


def test_task_may_be_held_and_ended_in_another_thread() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=60) as beat:
            await beat.wait_answered()

            def handle() -> None:
                with beat.task("task-001"):
                    pass

            await asyncio.to_thread(handle)
            await scheduler.until(lambda: scheduler.last["ended"] == ["task-001"], within_s=2)

    asyncio.run(main())


def test_same_task_held_twice_counts_twice_and_ends_with_the_second() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=0.05) as beat:
            with beat.task("task-001"):
                with beat.task("task-001"):
                    await scheduler.until(lambda: scheduler.last["current_tasks"] == 2)
                    assert scheduler.last["tasks"] == ["task-001"]
                await scheduler.until(lambda: scheduler.last["current_tasks"] == 1)
                assert scheduler.last["tasks"] == ["task-001"]
                assert scheduler.last["ended"] == []
            await scheduler.until(lambda: scheduler.last["ended"] == ["task-001"])

    asyncio.run(main())


def test_ended_is_repeated_until_a_heartbeat_is_answered() -> None:
    async def main() -> None:
        async with (
            Recorder() as scheduler,
            beating(scheduler.url, interval_s=0.1) as beat,
        ):
            await beat.wait_answered()
            scheduler.answer = always(503, refusal("unreachable"))
            beat.end("task-001", 7)
            told = [{"task_id": "task-001", "fence": 7}]

            def times() -> int:
                return sum(body["ended"] == told for body in scheduler.bodies)

            await scheduler.until(lambda: times() >= 3)
            scheduler.answer = ok
            await scheduler.until(lambda: scheduler.last["ended"] == [])

    asyncio.run(main())


def test_end_told_by_a_heartbeat_does_not_swallow_a_later_end_of_the_same_task() -> None:
    """The task runs a second time and ends while the heartbeat of its first end is under way."""

    async def main() -> None:
        answer_now = asyncio.Event()

        async def late(request: Request) -> tuple[int, Any]:
            if request.body["ended"]:
                await answer_now.wait()
            return await ok(request)

        async with Recorder(late) as scheduler, beating(scheduler.url) as beat:
            await beat.wait_answered()
            beat.end("task-001")
            await scheduler.until(lambda: scheduler.last["ended"] == ["task-001"])
            with beat.task("task-001"):
                pass
            answer_now.set()
            await scheduler.until(lambda: len(scheduler.requests) == 3)
            assert scheduler.last["ended"] == ["task-001"]

    asyncio.run(main())


def test_task_that_runs_again_is_no_longer_called_ended() -> None:
    async def main() -> None:
        scheduler = Recorder(always(503, refusal("unreachable")))
        async with scheduler, beating(scheduler.url, interval_s=0.1) as beat:
            beat.end("task-001")
            await scheduler.until(lambda: scheduler.last["ended"] == ["task-001"])
            with beat.task("task-001"):
                await scheduler.until(lambda: scheduler.last["tasks"] == ["task-001"])
                assert scheduler.last["ended"] == []

    asyncio.run(main())


def test_many_ends_are_said_in_at_most_five_heartbeats_a_second_and_none_is_forgotten() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=60) as beat:
            await beat.wait_answered()
            started = time.monotonic()
            for i in range(100):
                with beat.task(f"task-{i}"):
                    await asyncio.sleep(0.01)
            everything = {f"task-{i}" for i in range(100)}

            def told() -> set[str]:
                return {name for body in scheduler.bodies for name in body["ended"]}

            await scheduler.until(lambda: told() == everything)
            took_s = time.monotonic() - started
        at = [request.at for request in scheduler.requests[:-1]]  # the last one is the leaving
        assert len(at) <= took_s / 0.2 + 2

    asyncio.run(main())


def test_dead_and_slow_schedulers_delay_no_other() -> None:
    async def main() -> None:
        never = asyncio.Event()

        async def silent(request: Request) -> tuple[int, Any]:
            await never.wait()
            return await ok(request)

        dead = f"http://127.0.0.1:{free_port()}"
        async with (
            Recorder() as alive,
            Recorder(silent) as slow,
            beating([dead, slow.url, alive.url], interval_s=0.2) as beat,
        ):
            await alive.until(lambda: len(alive.requests) >= 5)
            at = [request.at for request in alive.requests]
            assert at[4] - at[0] < 2.5  # five of the slow one's take four seconds at least
            beat.end("task-001")
            await alive.until(lambda: alive.last["ended"] == ["task-001"])
            await alive.until(lambda: alive.last["ended"] == [])
            answered_at = alive.requests[-1].at
            await slow.until(lambda: slow.requests[-1].at > answered_at)
            assert slow.last["ended"] == ["task-001"]

    asyncio.run(main())


def test_operators_drain_is_echoed_to_the_scheduler_that_said_it() -> None:
    async def main() -> None:
        drains = always(200, {"status": "ok", "drained": True})
        async with (
            Recorder(drains) as one,
            Recorder() as other,
            beating([one.url, other.url], interval_s=0.1),
        ):
            await one.until(lambda: one.last["drained"])
            one.answer = ok
            await one.until(lambda: not one.last["drained"])
            assert not any(body["drained"] for body in other.bodies)

    asyncio.run(main())


def test_draining_and_leaving_are_said_at_once() -> None:
    async def main() -> None:
        async with Recorder() as scheduler:
            async with beating(scheduler.url, interval_s=60) as beat:
                await beat.wait_answered()
                beat.drain()
                await scheduler.until(lambda: scheduler.last["draining"])
                assert not scheduler.last["leaving"]
            assert [body["leaving"] for body in scheduler.bodies] == [False, False, True]

    asyncio.run(main())


def test_leaving_takes_no_longer_than_a_second_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "LEAVE_S", 0.2)

    async def main() -> None:
        never = asyncio.Event()

        async def silent(request: Request) -> tuple[int, Any]:
            await never.wait()
            return await ok(request)

        async with Recorder(silent) as scheduler:
            async with beating(scheduler.url):
                await scheduler.until(lambda: len(scheduler.requests) == 1)
                leaving_at = time.monotonic()
            assert time.monotonic() - leaving_at < 1
            assert scheduler.last["leaving"]

    asyncio.run(main())


def test_scheduler_that_goes_and_comes_back_is_said_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=0.05) as beat:
            await beat.wait_answered()
            scheduler.answer = hang_up
            await scheduler.until(lambda: len(scheduler.requests) >= 6)
            scheduler.answer = ok
            await scheduler.until(lambda: len(scheduler.requests) >= 12)

    asyncio.run(main())
    assert {record.name for record in caplog.records} == {"dtask.worker"}
    known, lost, back = caplog.messages
    assert known.endswith("knows this worker.")
    assert "does not answer" in lost
    assert back.endswith("answers again.")


def test_worker_meets_a_scheduler_that_comes_later(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop, said = asyncio.get_running_loop(), asyncio.Event()

        class Signal(logging.Handler):
            def emit(self, _: logging.LogRecord) -> None:
                loop.call_soon(said.set)

        logging.getLogger("dtask.worker").addHandler(signal := Signal())
        port = free_port()
        async with beating(f"http://127.0.0.1:{port}", interval_s=0.1) as beat:
            await said.wait()
            async with Recorder(port=port):
                await asyncio.wait_for(beat.wait_answered(), 2)
        logging.getLogger("dtask.worker").removeHandler(signal)

    asyncio.run(main())
    [line] = caplog.messages
    assert "does not answer" in line


def test_body_stays_within_its_limit_and_listed_names_stay_listed() -> None:
    """5,000 tasks with the longest ids: those that fit are listed, the others counted."""

    async def main() -> None:
        tags = [f"{i:02}".ljust(64, "é") for i in range(64)]
        metrics = {f"{i:02}".ljust(64, "m"): "v" * 100 for i in range(64)}
        async with (
            Recorder() as scheduler,
            beating(
                scheduler.url, tags=tags, max_tasks=5000, interval_s=0.2, metrics=lambda: metrics
            ) as beat,
        ):
            names = [f"{i:05}".ljust(128, "ü") for i in range(5000)]
            for name in names:
                beat.hold(name, limits.FENCE_MAX)
            await scheduler.until(lambda: scheduler.last["current_tasks"] == 5000)
            listed = [entry["task_id"] for entry in scheduler.last["tasks"]]
            assert listed == names[: len(listed)]
            assert len(listed) > 50
            gone = set(names[:400:2])
            for name in names[:400:2]:
                beat.end(name, limits.FENCE_MAX)
            await scheduler.until(lambda: scheduler.last["current_tasks"] == 4800)
            still = [entry["task_id"] for entry in scheduler.last["tasks"]]
            assert still[: len(listed) // 2] == listed[1::2]
            ended = set[str]()

            def told() -> set[str]:
                for entry in scheduler.last["ended"]:
                    ended.add(entry["task_id"])
                return ended

            await scheduler.until(lambda: told() == gone)
        assert max(len(request.raw) for request in scheduler.requests) <= limits.BODY_BYTES_MAX

    asyncio.run(main())


def test_metrics_are_sent_as_they_are_at_each_heartbeat() -> None:
    async def main() -> None:
        counter = itertools.count()
        async with (
            Recorder() as scheduler,
            beating(
                scheduler.url, interval_s=0.05, metrics=lambda: {"temperature_c": next(counter)}
            ),
        ):
            await scheduler.until(lambda: len(scheduler.requests) == 3)
        seen = [body["metrics"]["temperature_c"] for body in scheduler.bodies]
        assert seen == sorted(set(seen))

    asyncio.run(main())


def test_token_is_sent_to_schedulers_as_bearer() -> None:
    async def main() -> None:
        async with Recorder() as scheduler:
            async with beating(scheduler.url, token=TOKEN) as beat:
                await beat.wait_answered()
            assert {r.headers["authorization"] for r in scheduler.requests} == {f"Bearer {TOKEN}"}

    asyncio.run(main())


def test_token_is_found_where_the_machine_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTASK_TOKEN", TOKEN)

    async def main() -> None:
        async with Recorder() as scheduler:
            monkeypatch.setenv("DTASK_SCHEDULER", scheduler.url)
            async with Heartbeat(worker_id="w", address="a", max_tasks=1) as beat:
                await beat.wait_answered()
            assert scheduler.requests[0].headers["authorization"] == f"Bearer {TOKEN}"

    asyncio.run(main())


def test_worker_without_a_token_sends_none() -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, token=None) as beat:
            await beat.wait_answered()
            assert "authorization" not in scheduler.requests[0].headers

    asyncio.run(main())


def test_token_follows_no_redirect() -> None:
    async def main() -> None:
        async with Recorder() as elsewhere:

            async def moved(_: Request) -> tuple[int, Any]:
                return 307, b""

            async with Recorder(moved) as scheduler:
                with pytest.raises(InvalidRequest, match="not dtask's"):
                    async with beating(scheduler.url, token=TOKEN):
                        await asyncio.Event().wait()
            assert not elsewhere.requests

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "wrong_token", Denied),
        (403, "untrusted", Denied),
        (400, "bad_tag", InvalidRequest),
        (409, "superseded", Conflict),
    ],
)
def test_refused_worker_ends_its_block_with_the_servers_sentence(
    status: int, code: str, kind: type[Exception]
) -> None:
    async def main() -> None:
        async with Recorder(always(status, refusal(code))) as scheduler:
            with pytest.raises(kind, match="Somebody else has it"):
                async with beating(scheduler.url):
                    await asyncio.Event().wait()
            assert len(scheduler.requests) == 1
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(main())


def test_superseded_life_is_over_even_after_it_was_answered() -> None:
    async def main() -> None:
        async def superseded_later(request: Request) -> tuple[int, Any]:
            first = request.body["seq"] == 1
            return await ok(request) if first else (409, refusal("superseded"))

        async with Recorder(superseded_later) as scheduler:
            with pytest.raises(Conflict, match="Somebody else"):
                async with beating(scheduler.url, interval_s=0.1):
                    await asyncio.Event().wait()
            assert len(scheduler.requests) == 2

    asyncio.run(main())


def test_token_that_no_longer_fits_a_restarted_scheduler_ends_no_running_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with Recorder() as scheduler, beating(scheduler.url, interval_s=0.05) as beat:
            await beat.wait_answered()
            scheduler.answer = always(401, refusal("wrong_token"))
            await scheduler.until(lambda: len(scheduler.requests) >= 5)

    asyncio.run(main())
    assert len(caplog.messages) == 1
    assert "Somebody else has it." in caplog.messages[0]


def test_held_id_is_said_once_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        scheduler = Recorder(always(409, refusal("held")))
        async with scheduler, beating(scheduler.url, interval_s=0.05) as beat:
            await scheduler.until(lambda: len(scheduler.requests) >= 4)
            scheduler.answer = ok
            await beat.wait_answered()

    asyncio.run(main())
    assert len(caplog.messages) == 1
    assert "Somebody else has it." in caplog.messages[0]


def test_held_id_is_given_up_when_its_holder_proves_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "HELD_S", 0.3)

    async def main() -> None:
        async with Recorder(always(409, refusal("held"))) as scheduler:
            with pytest.raises(Conflict, match="Somebody else has it") as caught:
                async with beating(scheduler.url, interval_s=0.05):
                    await asyncio.Event().wait()
            assert caught.value.code == "held"
            assert scheduler.requests[-1].at - scheduler.requests[0].at >= 0.25
            assert not any(body["leaving"] for body in scheduler.bodies)

    asyncio.run(main())


def test_error_of_the_block_itself_goes_first() -> None:
    async def main() -> None:
        async with Recorder(always(409, refusal("superseded"))) as scheduler:

            async def serve() -> None:
                async with beating(scheduler.url):
                    try:
                        await asyncio.Event().wait()
                    finally:
                        raise KeyError

            with pytest.raises(KeyError):
                await serve()

    asyncio.run(main())


def test_cancelled_block_still_says_that_it_leaves() -> None:
    async def main() -> None:
        async with Recorder() as scheduler:

            async def serve() -> None:
                async with beating(scheduler.url):
                    await asyncio.Event().wait()

            service = asyncio.create_task(serve())
            await scheduler.until(lambda: len(scheduler.requests) == 1)
            service.cancel()
            with pytest.raises(asyncio.CancelledError):
                await service
            assert scheduler.last["leaving"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"worker_id": ""}, "worker_id: expected 1 to 128"),
        ({"address": "a\nb"}, "address: expected"),
        ({"tags": ["a|b"]}, "reserved"),
        ({"tags": [f"t{i}" for i in range(65)]}, "tags: 65 are too many"),
        ({"max_tasks": 0}, "max_tasks: expected 1 to 100000"),
        ({"interval_s": 0}, "interval_s: expected more than 0"),
        ({"interval_s": float("nan")}, "interval_s: expected more than 0"),
        ({"scheduler": "localhost:8080"}, "scheduler: 'localhost:8080' is not the address"),
        ({"scheduler": "http://h:99999"}, "is not the address"),
    ],
)
def test_wrong_setting_is_refused_with_what_would_be_right(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match="expected") as caught:
        beating(**({"scheduler": "http://h"} | changes))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("act", [lambda beat: beat.hold(""), lambda beat: beat.end("a", -1)])
def test_task_that_a_scheduler_would_refuse_is_refused_here(
    act: Callable[[Heartbeat], None],
) -> None:
    with pytest.raises(InvalidRequest, match="expected"):
        act(beating("http://h"))


def test_repeated_tags_are_sent_once() -> None:
    assert heartbeat.checked_tags(["a", "b", "a"]) == ("a", "b")


def test_slots_that_no_name_stands_for_are_counted_for_each_scheduler_by_itself() -> None:
    async def main() -> None:
        async with Recorder() as one, Recorder() as other:
            taken = {one.url: 0, other.url: 3}
            beat = beating([one.url, other.url], unnamed=lambda url: taken[url])
            async with beat:
                await other.until(lambda: other.last["current_tasks"] == 3)
                with beat.task("task-001"):
                    beat.wake()
                    await one.until(lambda: one.last["current_tasks"] == 1)
                    await other.until(lambda: other.last["current_tasks"] == 4)
                    assert one.last["tasks"] == other.last["tasks"] == ["task-001"]
                assert beat.current_tasks == 0

    asyncio.run(main())


def test_only_those_schedulers_are_told_at_once_that_are_named() -> None:
    async def main() -> None:
        async with (
            Recorder() as one,
            Recorder() as other,
            beating([one.url, other.url], interval_s=60) as beat,
        ):
            await one.until(lambda: len(one.requests) == 1)
            await other.until(lambda: len(other.requests) == 1)
            beat.wake([other.url])
            await other.until(lambda: len(other.requests) == 2, within_s=2)
            assert len(one.requests) == 1

    asyncio.run(main())


def test_answers_tell_which_scheduler_it_was_and_which_store_it_has() -> None:
    async def main() -> None:
        answers: list[tuple[str, str | None]] = []
        knows = always(200, {"status": "ok", "cluster_id": "c1"})
        async with Recorder(knows) as scheduler:
            beat = beating(
                scheduler.url,
                interval_s=0.05,
                on_answered=lambda url, cluster_id: answers.append((url, cluster_id)),
            )
            async with beat:
                await scheduler.until(lambda: len(answers) >= 1)
                scheduler.answer = ok
                await scheduler.until(lambda: answers[-1] == (scheduler.url, None))
            assert answers[0] == (scheduler.url, "c1")

    asyncio.run(main())
