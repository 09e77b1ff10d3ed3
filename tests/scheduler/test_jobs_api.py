"""The routes of jobs, over HTTP, with a real worker behind them."""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import servers
import workers
from dtask.scheduler import feed as feeding
from dtask.scheduler.api import failures
from dtask.scheduler.api.openapi import description
from dtask.wire.jobs import LONG_BYTES

TOKEN_ROUTES = [
    (method.upper(), path)
    for path, methods in description()["paths"].items()
    for method, operation in methods.items()
    if operation["security"] == [{"token": []}]
]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningScheduler]:
    with servers.running_scheduler(data=tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def operator(scheduler: servers.RunningScheduler) -> Iterator[httpx.Client]:
    with (
        workers.worker_process("--id", "w1", "--tags", "one", scheduler=scheduler.url),
        client_of(scheduler) as client,
    ):
        until(lambda: bool(client.get("/api/v1/workers").json()))
        yield client


class Gate:
    """What a task waits for, and the command that does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return f"while [ ! -e {self._path} ]; do sleep 0.01; done"

    def open(self) -> None:
        self._path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


def client_of(scheduler: servers.RunningScheduler) -> httpx.Client:
    headers = servers.bearer(scheduler.token)
    return httpx.Client(base_url=scheduler.url, headers=headers, verify=False, timeout=30)


def submit(client: httpx.Client, *command: str, **fields: Any) -> int:
    answer = client.post("/api/v1/jobs", json={"command": command, **fields})
    assert answer.status_code == 201, answer.text
    job_id: int = answer.json()["job_id"]
    return job_id


def ended(client: httpx.Client, job_id: int) -> Any:
    """The job, once it has ended."""
    job = client.get(f"/api/v1/jobs/{job_id}", params={"wait_s": 20}).json()
    assert "ended_at" in job, job
    return job


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["error"].endswith((".", "?")), answer.text
    return answer.status_code, answer.json()["code"]


# Submitting


def test_a_job_is_new_once_and_known_by_its_key_after_that(operator: httpx.Client) -> None:
    body = {"command": ["true"], "key": "once"}
    first = operator.post("/api/v1/jobs", json=body)
    again = operator.post("/api/v1/jobs", json=body)
    other = operator.post("/api/v1/jobs", json=body | {"command": ["false"]})
    job_id = first.json()["job_id"]
    assert (first.status_code, first.json()["known"]) == (201, False)
    assert first.headers["location"] == f"/api/v1/jobs/{job_id}"
    assert (again.status_code, again.json()) == (200, {"job_id": job_id, "known": True})
    assert refused(other) == (409, "key_taken")
    assert other.json()["job_id"] == job_id


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"command": ["x"], "colour": 1}, "unknown_field", "colour"),
        ({"tasks": {"a b": {"command": ["x"]}}}, "malformed", "tasks"),
        ({"tasks": {"a": {"command": ["x"], "needs": ["b"]}}}, "bad_graph", "tasks.a.needs"),
        ({"command": ["x"], "tags": ["a||b"]}, "bad_requirement", "tasks.main.tags[0]"),
    ],
)
def test_a_job_that_is_wrong_is_refused_with_the_place(
    operator: httpx.Client, body: dict[str, Any], code: str, field: str
) -> None:
    answer = operator.post("/api/v1/jobs", json=body)
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)


def test_a_cycle_is_named(operator: httpx.Client) -> None:
    tasks = {
        "a": {"command": ["x"], "needs": ["b"]},
        "b": {"command": ["x"], "needs": ["a"]},
    }
    answer = operator.post("/api/v1/jobs", json={"tasks": tasks})
    assert refused(answer) == (400, "bad_graph")
    assert answer.json()["cycle"] == ["a", "b", "a"]


def test_blobs_that_are_missing_are_named_before_anything_is_accepted(
    operator: httpx.Client,
) -> None:
    here = hashlib.sha256(b"here").hexdigest()
    assert operator.put(f"/api/v1/blobs/{here}", content=b"here").status_code == 201
    gone = "sha256:" + "0" * 64
    files = {"here": f"sha256:{here}", "gone": gone}
    answer = operator.post("/api/v1/jobs", json={"command": ["x"], "files": files, "stdin": gone})
    assert refused(answer) == (400, "missing_blobs")
    assert answer.json()["blobs"] == [gone]
    job_id = submit(operator, "cat", files={"f": f"sha256:{here}"}, tags=["nowhere"])
    operator.delete(f"/api/v1/jobs/{job_id}")


def test_a_large_job_is_as_good_as_a_small_one(operator: httpx.Client) -> None:
    items = [f"item {i}" for i in range(50_000)]
    job_id = submit(operator, "echo", "{}", array=items, tags=["nowhere"], name="large")
    task = operator.get(f"/api/v1/jobs/{job_id}/tasks/main").json()
    assert sum(map(len, items)) > LONG_BYTES
    assert task["spec"]["array"] == items
    assert task["summary"]["counts"] == {"queued": 50_000}
    assert operator.delete(f"/api/v1/jobs/{job_id}").json()["state"] == "cancelled"


# Looking


def test_jobs_are_listed_from_the_newest_page_by_page(operator: httpx.Client) -> None:
    operator.put("/api/v1/queues/listed", json={"paused": True})
    ids = [submit(operator, "true", queue="listed", name=f"n{i}") for i in range(5)]
    operator.delete(f"/api/v1/jobs/{ids[2]}")

    def listed(**query: Any) -> list[int]:
        rows = operator.get("/api/v1/jobs", params={"queue": "listed", **query}).json()
        return [row["job_id"] for row in rows]

    assert listed() == ids[::-1]
    assert listed(limit=2) == [ids[4], ids[3]]
    assert listed(limit=2, before=ids[3]) == [ids[2], ids[1]]
    assert listed(state="cancelled") == [ids[2]]
    assert listed(state=["cancelled", "queued"]) == ids[::-1]
    (row,) = operator.get("/api/v1/jobs", params={"limit": 1, "before": ids[1]}).json()
    assert (row["name"], row["queue"], row["priority"]) == ("n0", "listed", 0)
    for job_id in ids:
        operator.delete(f"/api/v1/jobs/{job_id}")


def test_a_job_that_succeeded_tells_how_it_ran(operator: httpx.Client) -> None:
    job = ended(operator, submit(operator, "sh", "-c", "echo hi", name="n", priority=5))
    task = job["tasks"]["main"]
    assert (job["state"], job["name"], job["priority"]) == ("succeeded", "n", 5)
    assert (task["state"], task["number"], task["exit_code"], task["worker_id"]) == (
        "succeeded",
        1,
        0,
        "w1",
    )
    assert job["submitted_at"] <= task["started_at"] <= task["ended_at"] <= job["ended_at"]
    whole = operator.get(f"/api/v1/jobs/{job['job_id']}/tasks/main").json()
    assert whole["spec"] == {"command": ["sh", "-c", "echo hi"]}
    (attempt,) = whole["attempts"]
    assert (attempt["number"], attempt["state"], attempt["stdout_bytes"]) == (1, "succeeded", 3)


def test_a_task_that_failed_tells_why_and_so_does_each_attempt(operator: httpx.Client) -> None:
    retry = {"max": 1, "backoff_s": 0}
    job = ended(operator, submit(operator, "sh", "-c", "exit 3", retry=retry))
    task = job["tasks"]["main"]
    assert (task["state"], task["cause"], task["exit_code"]) == ("failed", "exit", 3)
    assert (task["number"], task["failures"]) == (2, 2)
    path = f"/api/v1/jobs/{job['job_id']}"
    attempts = operator.get(f"{path}/tasks/main/attempts").json()
    assert [(a["number"], a["state"], a["exit_code"]) for a in attempts] == [
        (2, "failed", 3),
        (1, "failed", 3),
    ]
    why = operator.get(f"{path}/why").json()
    assert why["state"] == "failed"
    assert why["reasons"][0]["sentence"] == "Its last attempt, number 2, ended with exit code 3."


def test_elements_are_listed_and_so_are_their_attempts(operator: httpx.Client) -> None:
    job_id = submit(operator, "sh", "-c", "test {} != 3", array=6)
    job = ended(operator, job_id)
    assert job["tasks"]["main"]["counts"] == {"succeeded": 5, "failed": 1}
    path = f"/api/v1/jobs/{job_id}/tasks/main"
    page = operator.get(f"{path}/elements", params={"limit": 4}).json()
    assert [e["index"] for e in page["elements"]] == [0, 1, 2, 3]
    rest = operator.get(f"{path}/elements", params={"after": page["after"]}).json()
    assert [e["index"] for e in rest["elements"]] == [4, 5]
    assert "after" not in rest
    failed = operator.get(f"{path}/elements", params={"state": "failed"}).json()
    assert [(e["index"], e["exit_code"]) for e in failed["elements"]] == [(3, 1)]
    for query in ({"task": "main", "index": 3}, {"task": "main"}):
        (reason,) = operator.get(f"/api/v1/jobs/{job_id}/why", params=query).json()["reasons"]
        assert reason["name"] == f"{job_id}/main" + ("[3]" if "index" in query else "")
        assert "exit code 1" in reason["sentence"] or "5 succeeded, 1 failed" in reason["sentence"]
    assert len(operator.get(f"{path}/attempts").json()) == 6
    (attempt,) = operator.get(f"{path}/attempts", params={"index": 3}).json()
    assert (attempt["index"], attempt["state"]) == (3, "failed")


def test_what_waits_says_why(operator: httpx.Client, gate: Gate) -> None:
    nowhere = submit(operator, "true", tags=["gpu"])
    (reason,) = operator.get(f"/api/v1/jobs/{nowhere}/why").json()["reasons"]
    assert (reason["name"], reason["code"]) == (f"{nowhere}/main", "no_worker")
    assert "gpu" in reason["sentence"]
    running = submit(operator, "sh", "-c", str(gate))
    started(operator, running)
    (reason,) = operator.get(f"/api/v1/jobs/{running}/why", params={"task": "main"}).json()[
        "reasons"
    ]
    assert (reason["code"], reason["sentence"]) == ("running", "It runs on worker w1.")
    operator.delete(f"/api/v1/jobs/{nowhere}")


def started(client: httpx.Client, job_id: int) -> None:
    """Wait until the worker has reported the start, by the events."""
    with client.stream("GET", "/api/v1/events", params={"job": job_id, "after": 0}) as events:
        for line in events.iter_lines():
            if '"state":"running"' in line:
                return


# Waiting


def test_who_waits_for_a_job_is_answered_when_it_ends(operator: httpx.Client, gate: Gate) -> None:
    job_id = submit(operator, "sh", "-c", str(gate))
    started(operator, job_id)
    before = time.monotonic()
    assert "ended_at" not in operator.get(f"/api/v1/jobs/{job_id}?wait_s=0.05").json()
    assert time.monotonic() - before >= 0.05
    with waiting(operator, f"/api/v1/jobs/{job_id}?wait_s=20") as answers:
        gate.open()
    assert answers[0].json()["state"] == "succeeded"
    before = time.monotonic()
    assert ended(operator, job_id)["state"] == "succeeded"
    assert time.monotonic() - before < 10


def test_too_many_who_wait_are_told_so_and_those_who_leave_make_room(
    operator: httpx.Client,
    scheduler: servers.RunningScheduler,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeding, "WAITERS_MAX", 1)
    feed = scheduler.server._feed
    job_id = submit(operator, "sh", "-c", str(gate))
    path = f"/api/v1/jobs/{job_id}?wait_s=20"
    with client_of(scheduler) as leaving, pytest.raises(httpx.ReadTimeout):
        leaving.get(path, timeout=0.1)
    until(lambda: feed._waiting == 0)
    with waiting(operator, path) as answers:
        until(lambda: feed._waiting == 1)
        with client_of(scheduler) as other:
            assert refused(other.get(path)) == (429, "too_many_waiters")
            assert other.get(f"/api/v1/jobs/{job_id}").status_code == 200
        gate.open()
    assert answers[0].json()["state"] == "succeeded"
    assert feed._waiting == 0
    assert feed._waiters == {}


def test_a_stop_of_the_scheduler_answers_those_who_wait() -> None:
    with ExitStack() as stack:
        with servers.running_scheduler() as scheduler, client_of(scheduler) as client:
            job_id = submit(client, "true")
            job = f"/api/v1/jobs/{job_id}"
            paths = (f"{job}?wait_s=60", f"{job}/tasks/main/log?follow=1", "/api/v1/events")
            clients = [stack.enter_context(client_of(scheduler)) for _ in paths]
            answers = [
                stack.enter_context(waiting(own, path))
                for own, path in zip(clients, paths, strict=True)
            ]
            feed = scheduler.server._feed
            until(lambda: (feed._waiting, feed.readers.count) == (2, 1))
            before = time.monotonic()
        assert time.monotonic() - before < 5
    assert [answer[0].status_code for answer in answers] == [200, 200, 200]
    assert answers[0][0].json()["state"] == "queued"


@contextmanager
def waiting(client: httpx.Client, path: str) -> Iterator[list[httpx.Response]]:
    """A request under way meanwhile; its answer is there after that."""
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(client.get(path)), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        thread.join(servers.PATIENCE_S)
        assert answers


def until(condition: Callable[[], bool]) -> None:
    """Wait until something that this thread can only look at is so."""
    give_up_at = time.monotonic() + servers.PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


# Stopping, and starting over


def test_a_cancelled_job_is_stopped_and_can_be_started_over(
    operator: httpx.Client, gate: Gate
) -> None:
    job_id = submit(operator, "sh", "-c", str(gate))
    started(operator, job_id)
    path = f"/api/v1/jobs/{job_id}"
    assert operator.delete(path).json() == {"job_id": job_id, "state": "running", "attempts": 1}
    job = ended(operator, job_id)
    assert (job["state"], job["cancelled"]) == ("cancelled", True)
    assert refused(operator.delete(path)) == (409, "job_ended")
    why = operator.get(f"{path}/why").json()
    assert why["reasons"][0]["sentence"] == "It was cancelled."
    gate.open()
    assert operator.post(f"{path}/retry", json={}).json() == {"job_id": job_id, "tasks": 1}
    job = ended(operator, job_id)
    assert (job["state"], job["tasks"]["main"]["number"]) == ("succeeded", 2)
    assert operator.post(f"{path}/retry", json={}).json()["tasks"] == 0


def test_one_task_can_be_cancelled_and_only_what_failed_started_over(
    operator: httpx.Client, gate: Gate
) -> None:
    tasks = {
        "waits": {"command": ["sh", "-c", str(gate)]},
        "fails": {"command": ["false"]},
        "after": {"command": ["true"], "needs": ["fails"]},
    }
    job_id = operator.post("/api/v1/jobs", json={"tasks": tasks}).json()["job_id"]
    path = f"/api/v1/jobs/{job_id}"
    assert refused(operator.delete(f"{path}/tasks/nothing")) == (404, "no_task")
    assert operator.delete(f"{path}/tasks/waits").json()["job_id"] == job_id
    job = ended(operator, job_id)
    assert [task["state"] for task in job["tasks"].values()] == ["cancelled", "failed", "skipped"]
    again = operator.post(f"{path}/retry", json={"again": "failed"})
    assert again.json() == {"job_id": job_id, "tasks": 2}
    assert [task["state"] for task in ended(operator, job_id)["tasks"].values()] == [
        "cancelled",
        "failed",
        "skipped",
    ]
    assert refused(operator.post(f"{path}/retry", json={"task": "nothing"})) == (404, "no_task")
    assert refused(operator.post(f"{path}/retry", json={"again": "all"})) == (400, "malformed")


# Logs and results


def test_a_log_is_read_in_parts_and_by_stream(operator: httpx.Client) -> None:
    job_id = submit(operator, "sh", "-c", "printf 0123456789; echo oops >&2")
    ended(operator, job_id)
    path = f"/api/v1/jobs/{job_id}/tasks/main/log"
    part = operator.get(path, params={"offset": 2, "limit": 3})
    assert part.content == b"234"
    assert part.headers["content-type"] == "application/octet-stream"
    assert (part.headers["dtask-attempt"], part.headers["dtask-next-offset"]) == ("1", "5")
    assert operator.get(path, params={"offset": 5}).content == b"56789"
    assert operator.get(path, params={"offset": 50}).headers["dtask-next-offset"] == "50"
    assert operator.get(path, params={"stream": "stderr"}).content == b"oops\n"
    assert operator.head(path).headers["content-length"] == "10"
    assert refused(operator.get(path, params={"stream": "result"})) == (400, "malformed")
    assert refused(operator.get(path, params={"attempt": 2})) == (404, "no_attempt")


def test_a_log_is_followed_as_it_is_written(operator: httpx.Client, gate: Gate) -> None:
    job_id = submit(operator, "sh", "-c", f"echo before; {gate}; echo after")
    path = f"/api/v1/jobs/{job_id}/tasks/main/log?follow=1"
    with operator.stream("GET", path) as log:
        assert log.headers["dtask-attempt"] == "1"
        lines = log.iter_lines()
        assert next(lines) == "before"
        gate.open()
        assert list(lines) == ["after"]
    assert operator.get(f"{path}&offset=3").content == b"ore\nafter\n"


def test_a_log_is_followed_over_retries_or_of_one_attempt(operator: httpx.Client) -> None:
    script = "echo $DTASK_FENCE; exit 1"
    retry = {"max": 2, "backoff_s": 0.05}
    job_id = submit(operator, "sh", "-c", script, retry=retry)
    path = f"/api/v1/jobs/{job_id}/tasks/main/log?follow=1"
    text = operator.get(path).text
    ended(operator, job_id)
    attempts = operator.get(f"/api/v1/jobs/{job_id}/tasks/main/attempts").json()
    fences = [str(attempt["fence"]) for attempt in reversed(attempts)]
    assert text.split() == fences
    assert len(fences) == 3
    assert operator.get(f"{path}&attempt=2").text.split() == fences[1:2]
    assert operator.get(path).text.split() == fences[2:], "what has ended: the last attempt"


def test_a_log_that_was_cut_says_so() -> None:
    with (
        servers.running_scheduler(log_max_mb=1) as scheduler,
        workers.worker_process(scheduler=scheduler.url),
        client_of(scheduler) as client,
    ):
        job_id = submit(client, "sh", "-c", "head -c 1000000 /dev/zero; echo fine >&2")
        path = f"/api/v1/jobs/{job_id}/tasks/main/log"
        followed = client.get(f"{path}?follow=1").content
        assert followed.startswith(bytes(512 * 1024) + b"\n[dtask: it wrote more than is kept")
        assert len(followed.splitlines()) == 2
        assert ended(client, job_id)["state"] == "succeeded"
        read = client.get(path)
        assert (len(read.content), read.headers["dtask-truncated"]) == (512 * 1024, "1")
        assert read.headers["x-content-type-options"] == "nosniff", "no page can run what it wrote"
        assert client.get(f"{path}?follow=1&stream=stderr").content == b"fine\n"
        assert "dtask-truncated" not in client.get(f"{path}?stream=stderr").headers


def test_following_what_never_ran_ends_with_it(operator: httpx.Client) -> None:
    job_id = submit(operator, "true", tags=["gpu"])
    path = f"/api/v1/jobs/{job_id}/tasks/main"
    with waiting(operator, f"{path}/log?follow=1") as answers:
        assert refused(operator.get(f"{path}/log")) == (404, "no_attempt")
        operator.delete(f"/api/v1/jobs/{job_id}")
    assert (answers[0].status_code, answers[0].content) == (200, b"")
    assert operator.head(f"{path}/log?follow=1").status_code == 200


def test_a_result_is_what_the_last_attempt_left(operator: httpx.Client, gate: Gate) -> None:
    job_id = submit(operator, "sh", "-c", f"printf six > $DTASK_RESULT; {gate}")
    path = f"/api/v1/jobs/{job_id}/tasks/main/result"
    started(operator, job_id)
    assert refused(operator.get(path)) == (404, "no_result")
    gate.open()
    ended(operator, job_id)
    result = operator.get(path)
    assert (result.content, result.headers["dtask-attempt"]) == (b"six", "1")
    without = submit(operator, "true")
    ended(operator, without)
    assert refused(operator.get(f"/api/v1/jobs/{without}/tasks/main/result")) == (404, "no_result")


# Lists for people


def test_jobs_are_found_by_name_and_tell_how_far_they_are(operator: httpx.Client) -> None:
    tasks = {
        "a": {"command": ["true"], "array": 3},
        "b": {"command": ["false"], "needs": ["a"]},
        "c": {"command": ["true"], "needs": ["b"]},
    }
    job = {"name": "Nightly Render", "tasks": tasks}
    job_id = operator.post("/api/v1/jobs", json=job).json()["job_id"]
    ended(operator, job_id)
    (found,) = operator.get("/api/v1/jobs?search=nightly+r").json()
    told = {"total": 5, "ended": 5, "failed": 1, "cancelled": 0, "skipped": 1}
    assert (found["job_id"], found["tasks"]) == (job_id, told)
    assert operator.get(f"/api/v1/jobs?search={job_id}&state=failed").json()[0] == found
    assert operator.get("/api/v1/jobs?search=nightly&state=queued").json() == []
    assert refused(operator.get("/api/v1/jobs?search=")) == (400, "malformed")


def test_a_job_of_several_tasks_tells_how_they_hang_together(operator: httpx.Client) -> None:
    tasks = {
        "a": {"command": ["true"]},
        "b": {"command": ["true"], "needs": ["a"], "when": "all_done"},
    }
    job_id = operator.post("/api/v1/jobs", json={"tasks": tasks}).json()["job_id"]
    job = ended(operator, job_id)
    assert "needs" not in job["tasks"]["a"]
    assert (job["tasks"]["b"]["needs"], job["tasks"]["b"]["when"]) == (["a"], "all_done")
    attempts = operator.get(f"/api/v1/jobs/{job_id}/attempts").json()
    assert [(one["task"], one["number"]) for one in attempts] == [("b", 1), ("a", 1)]
    assert len(operator.get(f"/api/v1/jobs/{job_id}/attempts?limit=1").json()) == 1
    assert refused(operator.get("/api/v1/jobs/999999/attempts")) == (404, "no_job")


def test_what_failed_alike_stands_together(
    operator: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.put("/api/v1/queues/letters", json={})
    array = {"command": ["sh", "-c", "test {} = 1 || exit 7"], "array": 3}
    job = {"name": "dead", "queue": "letters", "tasks": {"t": array}}
    first, second = (operator.post("/api/v1/jobs", json=job).json()["job_id"] for _ in range(2))
    other = {"command": ["no-such-program"], "queue": "letters"}
    third = operator.post("/api/v1/jobs", json=other).json()["job_id"]
    for job_id in (first, second, third):
        ended(operator, job_id)
    answer = operator.get("/api/v1/failures?queue=letters").json()
    assert answer["complete"] is True
    by_cause = {group["cause"]: group for group in answer["groups"]}
    dead = by_cause["exit"]
    assert (dead["job_name"], dead["task"], dead["exit_code"]) == ("dead", "t", 7)
    assert (dead["count"], dead["jobs"]) == (4, [second, first])
    assert "no-such-program" in by_cause["start_failed"]["error"]
    limited = operator.get("/api/v1/failures?queue=letters&limit=1").json()
    assert (len(limited["groups"]), limited["complete"]) == (1, False)
    monkeypatch.setattr(failures, "ELEMENTS_MAX", 1)
    cut = operator.get("/api/v1/failures?queue=letters").json()
    assert cut["complete"] is False, "of each array one element was looked at"
    operator.post(f"/api/v1/jobs/{third}/retry", json={"again": "failed"})
    operator.delete(f"/api/v1/jobs/{third}")
    ended(operator, third)


# Blobs, queues, counts, a backup


def test_a_blob_is_kept_by_its_hash(operator: httpx.Client) -> None:
    content = bytes(range(256)) * 8192
    digest = hashlib.sha256(content).hexdigest()
    path = f"/api/v1/blobs/{digest}"
    assert refused(operator.get(path)) == (404, "no_blob")
    put = operator.put(path, content=content)
    assert (put.status_code, put.json()) == (201, {"sha256": digest, "bytes": len(content)})
    assert operator.put(path, content=content).status_code == 200
    assert operator.get(path).content == content
    assert operator.head(path).headers["content-length"] == str(len(content))
    assert refused(operator.put(path, content=content[1:])) == (400, "wrong_hash")
    assert refused(operator.put(path[:-1], content=content)) == (400, "malformed")


def test_a_blob_that_is_too_large_is_refused_and_leaves_nothing(
    operator: httpx.Client, scheduler: servers.RunningScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtask.scheduler.blobs.BLOB_BYTES_MAX", 3_000_000)
    monkeypatch.setattr("dtask.scheduler.api.blobs.BLOB_BYTES_MAX", 3_000_000)
    pieces = [b"x" * 500_000] * 7
    path = "/api/v1/blobs/" + "0" * 64
    assert refused(operator.put(path, content=b"".join(pieces))) == (413, "too_large")
    try:
        answer = operator.put(path, content=iter(pieces))  # says no length
    except httpx.WriteError:
        answer = None  # the connection was closed while it was still sending
    assert answer is None or refused(answer) == (413, "too_large")
    directory = scheduler.server.settings.data
    assert directory is not None
    until(lambda: list((directory / "blobs" / "00").iterdir()) == [])


def test_a_queue_is_made_shown_and_changed(operator: httpx.Client) -> None:
    path = "/api/v1/queues/night"
    assert refused(operator.get(path)) == (404, "unknown_queue")
    made = operator.put(path, json={"max_running": 2, "weight": 0.5, "paused": True}).json()
    assert made == {
        "name": "night",
        "max_running": 2,
        "max_queued": None,
        "weight": 0.5,
        "paused": True,
        "pending": 0,
        "queued": 0,
        "running": 0,
        "oldest_queued_at": None,
    }
    job_id = submit(operator, "true", queue="night")
    assert operator.get(path).json()["queued"] == 1
    changed = operator.put(path, json={"max_running": 0, "paused": False}).json()
    assert (changed["max_running"], changed["weight"]) == (None, 0.5)
    assert ended(operator, job_id)["state"] == "succeeded"
    assert "night" in [queue["name"] for queue in operator.get("/api/v1/queues").json()]
    assert refused(operator.put(path, json={"max_running": -1})) == (400, "malformed")
    assert refused(operator.put("/api/v1/queues/a%20b", json={})) == (400, "malformed")
    answer = operator.post("/api/v1/jobs", json={"command": ["x"], "queue": "nowhere"})
    assert refused(answer) == (404, "unknown_queue")


def test_jobs_are_counted(operator: httpx.Client) -> None:
    before = operator.get("/api/v1/stats").json()
    ended(operator, submit(operator, "true"))
    after = operator.get("/api/v1/stats").json()
    assert after["submitted"] == before["submitted"] + 1
    assert after["ended"]["succeeded"] == before["ended"]["succeeded"] + 1
    assert after["attached"] == 1


def test_a_backup_is_the_store_as_it_is(operator: httpx.Client, tmp_path: Path) -> None:
    job_id = submit(operator, "true", name="kept")
    ended(operator, job_id)
    copy = tmp_path / "copy.db"
    copy.write_bytes(operator.get("/api/v1/backup").content)
    rows = sqlite3.connect(copy).execute("SELECT name FROM job WHERE job_id = ?", (job_id,))
    assert rows.fetchall() == [("kept",)]


# All routes


@pytest.mark.parametrize(("method", "path"), TOKEN_ROUTES)
def test_every_route_of_jobs_needs_the_token(
    scheduler: servers.RunningScheduler, method: str, path: str
) -> None:
    path = path.format(job_id=1, task="main", name="default", sha256="0" * 64, worker_id="w")
    answer = httpx.request(method, scheduler.url + path, verify=False)
    assert refused(answer) == (401, "no_token")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/jobs/999999", "no_job"),
        ("GET", "/api/v1/jobs/999999?wait_s=1", "no_job"),
        ("DELETE", "/api/v1/jobs/999999", "no_job"),
        ("GET", "/api/v1/jobs/999999/why", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main/log", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main/log?follow=1", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main/result", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main/elements", "no_job"),
        ("GET", "/api/v1/jobs/999999/tasks/main/attempts", "no_job"),
    ],
)
def test_a_job_that_is_not_there_is_named(
    operator: httpx.Client, method: str, path: str, code: str
) -> None:
    assert refused(operator.request(method, path)) == (404, code)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs/nine",
        "/api/v1/jobs/0",
        "/api/v1/jobs/-1",
        "/api/v1/jobs/1?wait_s=61",
        "/api/v1/jobs/1?wait_s=soon",
        "/api/v1/jobs?state=happy",
        "/api/v1/jobs?limit=0",
        "/api/v1/jobs?queue=a%20b",
        "/api/v1/jobs/1/why?index=1",
        "/api/v1/jobs/1/tasks/main/elements?after=-1",
        "/api/v1/jobs/1/tasks/main/log?follow=2",
        "/api/v1/jobs/1/tasks/main/log?follow=1&limit=5",
        "/api/v1/jobs/1/tasks/main/log?attempt=0",
        "/api/v1/events?job=x",
        "/api/v1/events?after=x",
        "/api/v1/blobs/xyz",
    ],
)
def test_a_parameter_that_is_wrong_is_named(operator: httpx.Client, path: str) -> None:
    answer = operator.get(path)
    assert refused(answer) == (400, "malformed")
    assert answer.json()["field"]


def test_a_path_lists_all_its_methods(operator: httpx.Client) -> None:
    answer = operator.put("/api/v1/jobs/1", json={})
    assert refused(answer) == (405, "wrong_method")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"
