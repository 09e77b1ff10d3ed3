"""The stream of events, over HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

import servers
from dtask.scheduler.api import events


class Message(NamedTuple):
    """One message of the stream."""

    id: int
    kind: str
    data: Any


def messages(answer: httpx.Response) -> Iterator[Message]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Message(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def stream(client: httpx.Client, last_seen: int | None = None, **query: Any) -> Iterator[Any]:
    headers = {} if last_seen is None else {"last-event-id": str(last_seen)}
    with client.stream("GET", "/api/v1/events", params=query, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield messages(answer)


def submit(client: httpx.Client, **fields: Any) -> int:
    job_id: int = client.post("/api/v1/jobs", json={"command": ["x"], **fields}).json()["job_id"]
    return job_id


def test_events_come_from_now_on_as_they_happen(operator: httpx.Client) -> None:
    submit(operator)
    with (
        stream(operator) as read,
        httpx.Client(base_url=operator.base_url, headers=operator.headers, verify=False) as other,
    ):
        job_id = submit(other)
        moves = [next(read) for _ in range(2)]
        assert [(m.kind, m.data["job_id"], m.data["state"]) for m in moves] == [
            ("job", job_id, "pending"),
            ("task", job_id, "queued"),
        ]
        assert moves[0].id < moves[1].id
        other.delete(f"/api/v1/jobs/{job_id}")
        assert {next(read).kind, next(read).kind} == {"job", "task"}


def test_a_reader_that_comes_back_misses_nothing(operator: httpx.Client) -> None:
    with stream(operator, job=submit(operator), after=0) as read:
        assert next(read).kind == "gap"
        seen = next(read)
    jobs = [submit(operator) for _ in range(3)]
    for more in ({"after": seen.id}, {}):
        with stream(operator, None if more else seen.id, state="queued", **more) as read:
            found = [next(read) for _ in range(4)]
        assert [m.data["job_id"] for m in found][1:] == jobs
        assert found[0].id > seen.id


@pytest.mark.parametrize("after", [1, 2**53 - 1])
def test_an_id_of_another_life_is_answered_with_a_gap_first(
    operator: httpx.Client, after: int
) -> None:
    job_id = submit(operator)
    with stream(operator, after, job=job_id) as read:
        gap = next(read)
        assert (gap.kind, gap.data["after"]) == ("gap", after)
        event = next(read)
        assert event.data["job_id"] == job_id
        assert event.id >= gap.data["oldest"] == gap.id + 1


def test_events_are_filtered(operator: httpx.Client) -> None:
    operator.put("/api/v1/queues/filtered", json={})
    one, two = submit(operator), submit(operator, queue="filtered")
    for query in ({"job": two}, {"queue": "filtered"}, {"state": ["pending"]}):
        with stream(operator, 1, **query) as read:
            assert next(read).kind == "gap"
            event = next(m for m in read if m.data["job_id"] in (one, two))
        assert event.data["job_id"] == (one if "state" in query else two)
        assert event.data["state"] == "pending"


def test_a_quiet_stream_shows_that_it_lives_and_keeps_the_reader_s_place(
    operator: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert events.BEAT_S == 15.0
    monkeypatch.setattr(events, "BEAT_S", 0.01)
    with operator.stream("GET", "/api/v1/events", params={"job": 999_999}) as answer:
        lines = answer.iter_lines()
        head = [next(lines) for _ in range(4)]
        assert head[:2] == ["retry: 1000", ":"]
        assert [next(lines) for _ in range(3)] == [":", head[2], ""]


def test_a_stream_that_does_not_follow_ends_with_what_there_is(operator: httpx.Client) -> None:
    job_id = submit(operator)
    query = {"job": job_id, "after": 0, "follow": 0}
    with stream(operator, **query) as read:
        assert [(m.kind, m.data.get("state")) for m in read] == [
            ("gap", None),
            ("job", "pending"),
            ("task", "queued"),
        ]
    assert operator.get("/api/v1/events", params={"follow": 0}).text.endswith("\n\n")


def test_a_place_is_refused_that_is_no_id(operator: httpx.Client) -> None:
    answer = operator.get("/api/v1/events", headers={"last-event-id": "x"})
    assert (answer.status_code, answer.json()["field"]) == (400, "last-event-id")


def test_who_leaves_makes_room(
    operator: httpx.Client, scheduler: servers.RunningScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler.server._feed.readers, "_most", 1)
    own = httpx.Client(base_url=operator.base_url, headers=operator.headers, verify=False)
    with own, stream(own):
        refused = operator.get("/api/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_waiters")
        assert operator.head("/api/v1/jobs").status_code == 200
    while (answer := operator.head("/api/v1/events")).status_code != 200:
        assert answer.status_code == 429
    assert scheduler.server._feed.readers.count == 0
