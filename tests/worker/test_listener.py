import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dtask.clock import ManualClock
from dtask.core.attempts import Start
from dtask.errors import InvalidRequest
from dtask.wire.ticket import make_ticket, ticket_key
from dtask.worker import api, door, listener
from dtask.worker.channels import Channels
from dtask.worker.heartbeat import Heartbeat
from dtask.worker.listener import Listener
from dtask.worker.metrics import Metrics
from dtask.worker.runner import Runner
from worker.processes import PATIENCE_S, duration, sleepers, soon

KEY = ticket_key("a-token-of-the-tests")


class Worker:
    """A real listener on loopback and a client of it."""

    def __init__(self, runner: Runner, port: int, http: httpx.AsyncClient) -> None:
        self.runner = runner
        self.port = port
        self.http = http
        self.clock = ManualClock()

    def ticket(self, task_id: str, fence: int, /, **changes: Any) -> dict[str, str]:
        about: dict[str, Any] = {
            "worker_id": "w",
            "task_id": task_id,
            "fence": fence,
            "expires_at": self.clock.now() + 30,
        }
        return {"authorization": f"Ticket {make_ticket(KEY, **(about | changes))}"}

    async def post(self, task_id: str = "t", fence: int = 1, **fields: Any) -> httpx.Response:
        body = {"task_id": task_id, "fence": fence, "command": ["true"]} | fields
        return await self.http.post("/api/v1/tasks", json=body, headers=self.ticket(task_id, fence))

    async def shell(self, line: str, task_id: str = "t", fence: int = 1) -> dict[str, Any]:
        answer = await self.post(task_id, fence, command=["sh", "-c", line])
        assert answer.status_code == 202
        begun: dict[str, Any] = answer.json()
        return begun

    async def ask(
        self, method: str = "GET", task_id: str = "t", fence: int = 1, **query: Any
    ) -> httpx.Response:
        return await self.request(method, task_id, fence, "", query)

    async def log(self, task_id: str = "t", fence: int = 1, **query: Any) -> httpx.Response:
        return await self.request("GET", task_id, fence, "/log", query)

    async def request(
        self, method: str, task_id: str, fence: int, suffix: str, query: dict[str, Any]
    ) -> httpx.Response:
        path = f"/api/v1/tasks/{quote(task_id, safe='').replace('.', '%2E')}{suffix}"
        return await self.http.request(
            method, path, params={"fence": fence} | query, headers=self.ticket(task_id, fence)
        )

    async def outcome(self, task_id: str = "t", fence: int = 1) -> dict[str, Any]:
        answer = await self.ask("GET", task_id, fence, wait_s=20)
        ended: dict[str, Any] = answer.json()
        assert ended["state"] == "ended"
        return ended

    async def raw(self, data: bytes) -> bytes:
        """What the worker answers to these bytes until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return answer


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, **settings: Any) -> AsyncIterator[Worker]:
    runner = Runner(**{"worker_id": "w", "max_tasks": 2, "path": tmp_path / "spool"} | settings)
    await runner.start()
    listening = door.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    clock = ManualClock()
    scheduler = "http://127.0.0.1:1"  # where none is
    beat = Heartbeat(worker_id="w", address="w:1", max_tasks=2, scheduler=scheduler, token=None)
    channels = Channels([scheduler], token="", path=tmp_path / "schedulers.json")
    server = Listener(runner, KEY, clock, Metrics(runner, beat, channels))
    await server.start(listening)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            worker = Worker(runner, port, http)
            worker.clock = clock
            yield worker
    finally:
        await runner.stop()
        await server.stop()
        await server.stop()


def run(tmp_path: Path, act: Callable[[Worker], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with serving(tmp_path, **settings) as worker:
            await act(worker)

    asyncio.run(main())


def refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    """The sentence of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (answer.status_code, body["code"], body.get("field")) == (status, code, field)
    sentence: str = body["error"]
    return sentence


def test_a_task_is_started_waited_for_and_read(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        begun = await worker.shell("echo out; echo err >&2; exit 3")
        assert (begun["task_id"], begun["fence"], begun["worker_id"]) == ("t", 1, "w")
        ended = await worker.outcome()
        assert (ended["exit_code"], ended["stdout_bytes"], ended["stderr_bytes"]) == (3, 4, 4)
        out = await worker.log()
        assert (out.content, out.headers["dtask-next-offset"]) == (b"out\n", "4")
        assert out.headers["content-type"] == "application/octet-stream"
        assert (await worker.log(stream="stderr")).content == b"err\n"

    run(tmp_path, act)


def test_waiting_ends_with_the_task_or_with_its_time(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        go = tmp_path / "go"
        await worker.shell(f"while ! test -e {go}; do sleep 0.01; done")
        assert (await worker.ask()).json()["state"] == "running"
        assert (await worker.ask(wait_s=0.05)).json()["state"] == "running"
        waiting = asyncio.create_task(worker.outcome())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        go.touch()
        assert (await waiting)["exit_code"] == 0

    run(tmp_path, act)


def test_binary_output_comes_back_byte_for_byte_and_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PIECE_BYTES", 1000)
    every_byte = bytes(range(256)) * 40

    async def act(worker: Worker) -> None:
        (tmp_path / "data").write_bytes(every_byte)
        await worker.shell(f"cat {tmp_path}/data")
        await worker.outcome()
        assert (await worker.log()).content == every_byte
        piece = await worker.log(offset=100, limit=3000)
        assert piece.content == every_byte[100:3100]
        assert piece.headers["dtask-next-offset"] == "3100"
        beyond = await worker.log(offset=99_999)
        assert (beyond.content, beyond.headers["dtask-next-offset"]) == (b"", "99999")

    run(tmp_path, act)


def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_task(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        go = tmp_path / "go"
        await worker.shell(f"echo one; while ! test -e {go}; do sleep 0.01; done; echo two")
        query = {"fence": 1, "follow": 1}
        headers = worker.ticket("t", 1)
        url = "/api/v1/tasks/t/log"
        async with worker.http.stream("GET", url, params=query, headers=headers) as answer:
            pieces = answer.aiter_bytes()
            assert await anext(pieces) == b"one\n"
            go.touch()
            assert b"".join([piece async for piece in pieces]) == b"two\n"

    run(tmp_path, act)


def test_delete_stops_the_whole_tree_and_may_be_repeated(tmp_path: Path) -> None:
    seconds = duration()
    line = f"sh -c '(setsid sleep {seconds} &) ; sleep {seconds}; true'; true"

    async def act(worker: Worker) -> None:
        await worker.shell(line)
        await soon(lambda: len(sleepers(seconds)) == 2)
        stopped = await worker.ask("DELETE")
        assert stopped.status_code == 200
        assert stopped.json()["state"] == "stopping"
        assert (await worker.outcome())["cause"] == "stopped"
        assert sleepers(seconds) == []
        again = await worker.ask("DELETE")
        assert (again.status_code, again.json()["state"]) == (200, "ended")

    run(tmp_path, act)


def test_a_start_sent_twice_gets_the_same_answer_even_when_its_ticket_has_expired(
    tmp_path: Path,
) -> None:
    async def act(worker: Worker) -> None:
        headers = worker.ticket("t", 1)
        body = {"task_id": "t", "fence": 1, "command": ["sh", "-c", "echo once"]}
        for _ in range(2):
            answer = await worker.http.post("/api/v1/tasks", json=body, headers=headers)
            assert answer.status_code == 202
            await worker.outcome()
            worker.clock.advance(3600)
        assert (await worker.log()).content == b"once\n"

    run(tmp_path, act)


def test_lower_fences_full_slots_and_draining_have_their_own_refusals(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        await worker.shell("sleep 600", "a", 5)
        assert "fence 5" in refused(await worker.post("a", 4), 409, "stale_fence")
        await worker.shell("sleep 600", "b", 6)
        assert "All 2 slots" in refused(await worker.post("c", 7), 429, "slots_full")
        worker.runner.drain()
        refused(await worker.post("c", 7), 503, "draining")
        assert (await worker.post("a", 5)).status_code == 202

    run(tmp_path, act)


def test_what_cannot_be_started_is_answered_as_an_ended_task(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        answer = await worker.post(command=["no-such-program"])
        assert answer.status_code == 202
        ended = answer.json()
        assert (ended["state"], ended["cause"]) == ("ended", "start_failed")
        assert "'no-such-program' is not on this worker's PATH" in ended["error"]
        assert (await worker.log()).content == b""

    run(tmp_path, act)


def test_a_task_that_is_not_known_is_not_found_but_a_stop_is_remembered(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        refused(await worker.ask(), 404, "unknown_task")
        refused(await worker.log(), 404, "unknown_task")
        overtaking = await worker.ask("DELETE")
        assert (overtaking.status_code, overtaking.json()["cause"]) == (200, "stopped")
        late = await worker.shell("echo never")
        assert (late["state"], late["cause"]) == ("ended", "stopped")

    run(tmp_path, act)


def test_ids_of_any_printable_characters_are_served(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        for task_id in ("a/b", "a/log", "log", "a/b/log", "ü ?#%2F&=", "a//b", ".", ".."):
            await worker.shell("echo hi", task_id)
            assert (await worker.outcome(task_id))["task_id"] == task_id
            assert (await worker.log(task_id)).content == b"hi\n"
            assert (await worker.ask("DELETE", task_id)).json()["exit_code"] == 0

    run(tmp_path, act)


def test_slashes_of_an_id_need_not_be_encoded(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        await worker.shell("echo hi", "a/b")
        await worker.outcome("a/b")
        headers = worker.ticket("a/b", 1)
        for suffix, expected in (("", b'"task_id":"a/b"'), ("/log", b"hi\n")):
            url = f"/api/v1/tasks/a/b{suffix}?fence=1"
            assert expected in (await worker.http.get(url, headers=headers)).content

    run(tmp_path, act)


def test_a_ticket_for_anything_else_or_an_expired_one_starts_nothing(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        body = {"task_id": "t", "fence": 1, "command": ["true"]}
        about: list[dict[str, Any]] = [
            {"worker_id": "other"},
            {"task_id": "other"},
            {"fence": 2},
            {"expires_at": worker.clock.now() - 2},
        ]
        for changes in about:
            headers = worker.ticket("t", 1, **changes)
            answer = await worker.http.post("/api/v1/tasks", json=body, headers=headers)
            assert "ticket" in refused(answer, 403, "bad_ticket")
            assert worker.runner.held() == []
            assert not worker.runner.knows("t", 1)

    run(tmp_path, act)


def test_an_expired_ticket_still_reads_and_stops_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        await worker.shell("sleep 600")
        wrong = worker.ticket("t", 2)
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/log")):
            url = f"/api/v1/tasks/t{path}?fence=1"
            refused(await worker.http.request(method, url, headers=wrong), 403, "bad_ticket")
        expired = worker.ticket("t", 1, expires_at=1_600_000_000)
        for method in ("GET", "DELETE"):
            answer = await worker.http.request(method, "/api/v1/tasks/t?fence=1", headers=expired)
            assert answer.status_code == 200

    run(tmp_path, act)


def test_a_token_opens_nothing_and_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(worker: Worker) -> None:
        for headers in ({}, {"authorization": "Bearer a-token-of-the-tests"}):
            body = {"task_id": "t", "fence": 1, "command": ["true"]}
            answers = [
                await worker.http.post("/api/v1/tasks", json=body, headers=headers),
                await worker.http.get("/api/v1/tasks/t?fence=1", headers=headers),
                await worker.http.delete("/api/v1/tasks/t?fence=1", headers=headers),
            ]
            for answer in answers:
                assert "a-token" not in refused(answer, 403, "bad_ticket")

    with caplog.at_level(logging.DEBUG):
        run(tmp_path, act)
    assert "a-token" not in caplog.text


def test_health_is_open_and_says_nothing_more(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        answer = await worker.http.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    run(tmp_path, act)


#: What is wrong in a body, and the field that is named.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"command": []}, "command"),
    ({"command": "true"}, "command"),
    ({"command": [""]}, "command[0]"),
    ({"command": ["a\0b"]}, "command[0]"),
    ({"command": ["true", 1]}, "command[1]"),
    ({"env": {"DTASK_TOKEN": "x"}}, "env.DTASK_TOKEN"),
    ({"env": {"A=B": "x"}}, "env.A=B"),
    ({"env": {"": "x"}}, "env."),
    ({"env": {"A": "\0"}}, "env.A"),
    ({"timeout_s": 0}, "timeout_s"),
    ({"timeout_s": 1e9}, "timeout_s"),
    ({"fence": -1}, "fence"),
    ({"fence": 1.5}, "fence"),
    ({"task_id": ""}, "task_id"),
    ({"task_id": "\n"}, "task_id"),
    ({"task_id": "x" * 129}, "task_id"),
]


def test_a_body_that_does_not_fit_is_refused_by_field(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        headers = worker.ticket("t", 1)
        for changes, field in WRONG:
            body = {"task_id": "t", "fence": 1, "command": ["true"]} | changes
            answer = await worker.http.post("/api/v1/tasks", json=body, headers=headers)
            refused(answer, 400, "malformed", field)
            assert worker.runner.held() == []

    run(tmp_path, act)


def test_every_other_wrong_request_has_its_refusal(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        http, ticket = worker.http, worker.ticket("t", 1)
        as_json = ticket | {"content-type": "application/json"}
        url = "/api/v1/tasks"

        unknown = b'{"task_id":"t","fence":1,"command":["true"],"priority":1}'
        answer = await http.post(url, content=unknown, headers=as_json)
        refused(answer, 400, "unknown_field", "priority")
        refused(await http.post(url, content=b"{", headers=as_json), 400, "malformed", "$")
        as_text = ticket | {"content-type": "text/plain"}
        answer = await http.post(url, content=b"{}", headers=as_text)
        refused(answer, 400, "wrong_content_type")
        answer = await http.post(url, content=b" " * 65_537, headers=as_json)
        assert answer.json()["limit_bytes"] == 65_536
        refused(answer, 413, "too_large")

        refused(await http.get("/nowhere"), 404, "no_route")
        refused(await http.get(f"{url}/?fence=1", headers=ticket), 400, "malformed", "task_id")
        refused(await http.get(f"{url}/%ff?fence=1", headers=ticket), 400, "malformed", "task_id")
        wrong = await http.put(f"{url}/t")
        refused(wrong, 405, "wrong_method")
        assert {"GET", "DELETE"} <= set(wrong.headers["allow"].split(", "))
        refused(await http.get(url), 405, "wrong_method")
        log = await http.delete(f"{url}/t/log?fence=1", headers=ticket)
        refused(log, 405, "wrong_method")

        for query, field in (
            ({}, "fence"),
            ({"fence": "x"}, "fence"),
            ({"fence": str(2**53)}, "fence"),
            ({"fence": "1", "wait_s": "61"}, "wait_s"),
            ({"fence": "1", "wait_s": "nan"}, "wait_s"),
            ({"fence": ["1", "2"]}, "fence"),
        ):
            answer = await http.get(f"{url}/t", params=query, headers=ticket)
            refused(answer, 400, "malformed", field)
        answer = await http.get(f"{url}/t?fence=1&offset=0", headers=ticket)
        refused(answer, 400, "unknown_field", "offset")
        for field, value in (("stream", "out"), ("offset", "-1"), ("limit", "x"), ("follow", "2")):
            answer = await http.get(f"{url}/t/log?fence=1&{field}={value}", headers=ticket)
            refused(answer, 400, "malformed", field)

    run(tmp_path, act)


@pytest.mark.parametrize("header", [("origin", "http://evil.example"), ("host", "evil.example")])
def test_a_web_page_can_drive_nothing(header: tuple[str, str], tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        headers = worker.ticket("t", 1) | dict([header])
        body = {"task_id": "t", "fence": 1, "command": ["true"]}
        answer = await worker.http.post("/api/v1/tasks", json=body, headers=headers)
        refused(answer, 403, "foreign_origin")
        answer = await worker.http.get("/api/v1/tasks/t?fence=1", headers=headers)
        refused(answer, 403, "foreign_origin")
        answer = await worker.http.options("/api/v1/tasks", headers=headers)
        refused(answer, 405, "wrong_method")

    run(tmp_path, act)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00 no http", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 10_000_000, 413, "too_large"),
    ],
    ids=["garbage", "head"],
)
def test_what_is_no_request_is_refused_as_json_and_the_connection_closed(
    sent: bytes, status: int, code: str, tmp_path: Path
) -> None:
    async def act(worker: Worker) -> None:
        answer = await worker.raw(sent)
        if answer:  # a client that is still sending may see a reset instead
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert json.loads(body)["code"] == code
        assert (await worker.http.get("/healthz")).status_code == 200

    run(tmp_path, act)


def test_slow_senders_are_dropped_and_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HEAD_S", 0.1)
    monkeypatch.setattr(api, "BODY_S", 0.1)

    async def act(worker: Worker) -> None:
        headers = "".join(f"{name}: {value}\r\n" for name, value in worker.ticket("t", 1).items())
        body = f"POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\n{headers}"
        body += "content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        pipelined = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea"
        slow = [
            worker.raw(begun.encode())
            for begun in ("", "GET / HT", "GET / HTTP/1.1\r\nhost:", body, pipelined)
        ]
        nothing, line, head, slow_body, second = await asyncio.gather(*slow)
        assert nothing == line == head == b""
        assert b"did not arrive within 0.1 s" in slow_body
        assert second.startswith(b"HTTP/1.1 200")
        assert (await worker.http.get("/healthz")).status_code == 200

    run(tmp_path, act)


def test_only_so_many_connections_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 2)

    async def act(worker: Worker) -> None:
        assert (await worker.http.get("/healthz")).status_code == 200
        _, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        assert await worker.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n") == b""
        assert (await worker.http.get("/healthz")).status_code == 200
        writer.close()
        await writer.wait_closed()

    run(tmp_path, act)


def test_an_answer_under_way_is_finished_when_the_listener_stops(tmp_path: Path) -> None:
    async def act(worker: Worker) -> None:
        worker.runner.begin(Start("t", 1, ("sleep", "600"), {}))
        waiting = asyncio.create_task(worker.ask(wait_s=60))
        await asyncio.sleep(0.05)
        await worker.runner.stop()
        answer = (await waiting).json()
        assert (answer["state"], answer["cause"]) == ("ended", "stopped")
        refused(await worker.post("late"), 503, "draining")

    run(tmp_path, act)


def test_an_address_that_cannot_be_bound_is_refused_with_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidRequest, match=r"in use.*choose another address") as refusal:
            door.listen("127.0.0.1", taken.getsockname()[1])
    assert refusal.value.facts["field"] == "--addr"
    with pytest.raises(InvalidRequest, match=r"192\.0\.2\.1"):
        door.listen("192.0.2.1", 0)
    with pytest.raises(InvalidRequest, match="not an address of this machine"):
        door.listen("no such host", 0)
