"""Jobs by both clients, on a real scheduler and a real worker."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from client.awaited import Awaited
from client.fleet import Fleet, running_fleet
from dtask import Client, Conflict, InvalidRequest, NotFound, TaskFailed
from servers import PATIENCE_S


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"], name="client")
def a_client(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Any]:
    with request.param(fleet.url, token=fleet.token) as client:
        yield client


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_is_submitted_and_waited_for(client: Any) -> None:
    job = client.submit(shell("echo out; echo err >&2; printf result > $DTASK_RESULT; exit 3"))
    result = job.wait(PATIENCE_S)
    assert (result.id, result.state, result.exit_code) == (job.id, "failed", 3)
    assert result.ended
    assert not result.ok
    with pytest.raises(TaskFailed, match=f"{job.id}/main: failed with exit code 3") as caught:
        result.check()
    assert (caught.value.exit_code, caught.value.cause) == (3, "exit")
    assert b"".join(job.logs()) == b"out\n"
    assert b"".join(job.logs("main", attempt=1, stream="stderr")) == b"err\n"
    assert job.result() == client.result(f"{job.id}/main") == b"result"
    assert [attempt.number for attempt in client.attempts(job.id)] == [1]
    assert client.task(job.id).spec.command == client.task(f"{job.id}/main").spec.command


def test_a_job_that_succeeded_is_checked_in_silence(client: Any) -> None:
    result = client.submit(["true"], tags="cpu", name="nothing", timeout_s=60).wait(PATIENCE_S)
    result.check()
    assert result.ok
    assert result.name == "nothing"


def test_files_and_standard_input_travel_with_the_job(client: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file, ")
    job = client.submit(
        shell("cat data/a.txt b.txt -"),
        files={"data/a.txt": tmp_path / "a.txt", "b.txt": b"from bytes, "},
        stdin="from text",
    )
    assert job.wait(PATIENCE_S).ok
    assert b"".join(job.logs()) == b"from a file, from bytes, from text"


def test_a_file_that_is_not_there_is_told_before_anything_is_sent(client: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"files\.a: .*/nowhere can't be read: No such file"):
        client.submit(["true"], files={"a": "/nowhere"})


def test_the_same_key_is_the_same_job(client: Any) -> None:
    key = f"test-{time.monotonic_ns()}"
    first = client.submit(["true"], key=key)
    again = client.submit(["true"], key=key)
    assert (first.known, again.known) == (False, True)
    assert first.id == again.id
    with pytest.raises(Conflict):
        client.submit(["false"], key=key)


def test_a_graph_is_submitted_as_the_api_takes_it(client: Any) -> None:
    job = client.submit(
        {
            "tasks": {
                "bad": {"command": ["false"]},
                "good": {"command": ["true"]},
                "never": {"command": ["true"], "needs": ["bad"]},
            }
        },
        priority=3,
    )
    result = job.wait(PATIENCE_S)
    states = {name: task.state for name, task in result.tasks.items()}
    assert states == {"bad": "failed", "good": "succeeded", "never": "skipped"}
    assert result.priority == 3
    with pytest.raises(TaskFailed, match=f"{job.id}/bad"):
        result.check()
    with pytest.raises(InvalidRequest, match="has 3 tasks: name one"):
        job.result()


def test_an_array_has_elements(client: Any) -> None:
    job = client.submit(shell('echo {}; test "$DTASK_ITEM" != b'), array=["a", "b", "c"])
    assert job.wait(PATIENCE_S).tasks["main"].counts == {"succeeded": 2, "failed": 1}
    assert [element.index for element in client.elements(job.id)] == [0, 1, 2]
    assert [element.index for element in client.elements(job.id, state="failed")] == [1]
    assert b"".join(job.logs(index=1)) == b"b\n"
    assert b"".join(client.logs(f"{job.id}/main[2]", follow=True)) == b"c\n"


def test_a_log_is_followed_as_it_is_written(client: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = client.submit(shell(f"echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two"))
    pieces = job.logs(follow=True)
    assert next(pieces) == b"one\n"
    gate.touch()
    assert b"".join(pieces) == b"two\n"


def test_a_followed_log_goes_on_with_the_retry(client: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.01; done"
    line = f'echo attempt $DTASK_NUMBER; {wait}; test "$DTASK_NUMBER" = 2'
    job = client.submit(shell(line), retry={"max": 1, "backoff_s": 0.01})
    pieces = job.logs(follow=True)
    assert next(pieces) == b"attempt 1\n"
    gate.touch()
    assert b"".join(pieces) == b"attempt 2\n"
    assert job.look().ok


def test_what_was_cancelled_is_stopped_and_can_be_started_over(client: Any) -> None:
    job = client.submit(["sleep", "600"], grace_s=1)
    wait_until(lambda: bool(job.look().tasks["main"].state == "running"))
    with pytest.raises(TimeoutError):
        job.wait(0.01)
    job.cancel()
    assert job.wait(PATIENCE_S).state == "cancelled"
    assert job.retry() == 1
    job.cancel("main")
    assert job.wait(PATIENCE_S).state == "cancelled"


def test_what_waits_says_why(client: Any) -> None:
    job = client.submit(["true"], tags=["no-such-tag"])
    (reason,) = job.why().reasons
    assert reason.name == f"{job.id}/main"
    assert "no-such-tag" in reason.sentence
    assert client.why(f"{job.id}/main").reasons == (reason,)
    job.cancel()


def test_jobs_are_listed_the_newest_first(client: Any) -> None:
    client.set_queue("listed")
    first, second = (client.submit(["true"], queue="listed").id for _ in range(2))
    client.wait(first)
    client.wait(second)
    found = [job.job_id for job in client.jobs(queue="listed", state=["succeeded", "failed"])]
    assert found[:2] == [second, first]
    assert [job.job_id for job in client.jobs(queue="listed", limit=1)] == [second]
    assert client.jobs(queue="listed", state="running") == []


def test_events_tell_what_becomes_of_a_job(client: Any) -> None:
    job = client.submit(["true"])
    seen = []
    for event in client.events(after="0", job=job.id):
        seen.append(event)
        if event.task is None and event.ended:
            break
    states = [event.state for event in seen if event.task == "main"]
    assert states[-2:] == ["running", "succeeded"]
    assert {event.job_id for event in seen} == {job.id}
    assert list(islice(job.events(after=seen[0].id), 1)) == [seen[1]]


def test_queues_are_made_and_shown(client: Any) -> None:
    assert client.set_queue("night", max_running=2, weight=0.5).max_running == 2
    assert client.set_queue("night", paused=True).weight == 0.5
    night = next(queue for queue in client.queues() if queue.name == "night")
    assert (night.max_running, night.paused) == (2, True)
    client.set_queue("night", paused=False)
    assert client.stats().attached == 1


def test_a_backup_is_a_store_of_its_own(client: Any, tmp_path: Path) -> None:
    job = client.submit(["true"])
    job.wait(PATIENCE_S)
    client.backup(tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as store:
        assert store.execute("select count(*) from job where job_id = ?", (job.id,)).fetchone() == (
            1,
        )
    store.close()
    with pytest.raises(InvalidRequest, match=r"copy\.db exists"):
        client.backup(tmp_path / "copy.db")
    with pytest.raises(InvalidRequest, match="can't be written: No such file"):
        client.backup(tmp_path / "nowhere" / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]


def test_a_job_that_nobody_knows_is_not_found(client: Any) -> None:
    for ask in (client.job, client.wait, client.cancel, client.why, client.result):
        with pytest.raises(NotFound):
            ask(10**9)
    with pytest.raises(InvalidRequest, match="names no job or task"):
        client.result("no name")


@pytest.mark.e2e
@pytest.mark.parametrize("kind", [Client, Awaited])
def test_who_waits_outlasts_the_kill_of_the_scheduler(kind: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    line = f"echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two"
    with (
        running_fleet(tmp_path) as fleet,
        kind(fleet.url, token=fleet.token) as client,
        kind(fleet.url, token=fleet.token) as follower,
    ):
        job = client.submit(shell(line))
        pieces = follower.logs(job.id, follow=True)
        assert next(pieces) == b"one\n"

        def restart() -> None:
            fleet.kill()
            fleet.start()
            gate.touch()

        restarting = threading.Thread(target=restart)
        restarting.start()
        result = job.wait(PATIENCE_S * 2)
        restarting.join()
        assert result.ok
        assert b"".join(pieces) == b"two\n"
        assert [attempt.number for attempt in client.attempts(job.id)] == [1]
