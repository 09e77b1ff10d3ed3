"""Clients that are slow, silent or greedy hold up nobody, and not for ever."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

import raw_http
import servers
from dtask.scheduler.settings import Patience

#: So short that a test sees them pass.
IMPATIENT = Patience(
    head_s=0.3, body_s=0.3, first_byte_s=0.3, keep_alive_s=0.3, unread_s=0.3, stop_s=1
)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def impatient() -> Iterator[str]:
    with servers.running_scheduler(patience=IMPATIENT) as running:
        yield running.url


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET /healthz HTTP/1.1\r\nx: ",
        HEALTH[:-2],
        raw_http.request("POST", "/api/v1/schedule", b"{}")[:-1],
        raw_http.CHUNKED + b"5\r\n{",
    ],
    ids=["silent", "blank", "one byte", "half a head", "no end of head", "half a body", "chunk"],
)
def test_a_request_that_does_not_come_to_its_end_is_cut_off(impatient: str, data: bytes) -> None:
    with raw_http.connect(impatient) as client:
        client.sendall(data)
        assert raw_http.read_all(client) == b""


def test_a_head_that_trickles_is_cut_off(impatient: str) -> None:
    with raw_http.connect(impatient) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        client.settimeout(0.02)
        started = time.monotonic()
        while time.monotonic() - started < raw_http.PATIENCE_S:
            try:
                client.sendall(b"x: y\r\n")
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - started < 3


def test_a_body_that_trickles_is_cut_off(impatient: str) -> None:
    with raw_http.connect(impatient) as client:
        client.sendall(raw_http.request("POST", "/api/v1/schedule", b" " * 9_999)[:-9_999])
        client.settimeout(0.02)
        started = time.monotonic()
        while time.monotonic() - started < raw_http.PATIENCE_S:
            try:
                client.sendall(b" ")
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - started < 3


def test_a_large_body_is_waited_for_as_long_as_it_comes(impatient: str) -> None:
    piece = b" " * 20_000
    with raw_http.connect(impatient) as client:
        body = piece * 40
        token = "authorization: Bearer a-token-for-tests-only"
        client.sendall(raw_http.request("POST", "/api/v1/jobs", body, token)[: -len(body)])
        started = time.monotonic()
        for _ in range(40):
            client.sendall(piece)
            time.sleep(0.02)
        assert raw_http.read_all(client).startswith(b"HTTP/1.1 400 ")
        assert time.monotonic() - started > 2 * IMPATIENT.body_s


def test_a_connection_that_asks_nothing_more_is_closed(impatient: str) -> None:
    with raw_http.connect(impatient) as client:
        client.sendall(HEALTH)
        answer = raw_http.read_all(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in answer


def test_a_connection_in_use_is_kept(scheduler: servers.RunningScheduler) -> None:
    with raw_http.connect(scheduler.url) as client:
        for _ in range(5):
            client.sendall(HEALTH)
            assert client.recv(4096).endswith(b'{"status":"ok"}')


def test_a_client_that_does_not_read_its_answer_is_cut_off(impatient: str) -> None:
    with httpx.Client(base_url=impatient, verify=False) as http:
        tags = [f"a-long-tag-{i:050}" for i in range(60)]
        for i in range(300):
            beat = {"worker_id": f"w{i}", "address": "a", "resource_tags": tags, "max_tasks": 1}
            http.post("/api/v1/heartbeat", json=beat)
        listing = b"GET /api/v1/workers HTTP/1.1\r\nhost: localhost\r\n\r\n"
        with raw_http.connect(impatient) as client:
            client.sendall(listing * 20)
            assert http.get("/healthz").status_code == 200
            deadline = time.monotonic() + raw_http.PATIENCE_S
            while is_open(client):
                assert time.monotonic() < deadline
                http.get("/healthz")
        assert http.get("/healthz").status_code == 200


def is_open(client: socket.socket) -> bool:
    try:
        client.send(HEALTH)
    except ConnectionError:
        return False
    return True


@pytest.mark.e2e
def test_connections_beyond_the_limit_are_closed_and_the_others_served() -> None:
    with servers.scheduler_process(files_max=100) as running:
        clients = [raw_http.connect(running.url) for _ in range(150)]
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(HEALTH)
        served = [client for client in clients if is_answered(client)]
        assert 10 < len(served) < 100
        for client in clients:
            client.close()
        deadline = time.monotonic() + raw_http.PATIENCE_S
        while not serves(running.url):
            assert time.monotonic() < deadline


def serves(url: str) -> bool:
    with raw_http.connect(url) as client:
        return is_open(client) and is_answered(client)


def is_answered(client: socket.socket) -> bool:
    try:
        return client.recv(4096).endswith(b'{"status":"ok"}')
    except ConnectionError:
        return False


def test_pipelined_requests_are_answered_in_order(scheduler: servers.RunningScheduler) -> None:
    servers.beat(scheduler.url, max_tasks=1000)
    requests = []
    for i in range(500):
        body = b'{"task_id":"p%d"}' % i
        requests.append(
            b"POST /api/v1/schedule HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
    answer = raw_http.exchange(
        scheduler.url, b"".join(requests) + raw_http.request("GET", "/healthz")
    )
    fences = [int(part.split(b",")[0]) for part in answer.split(b'"fence":')[1:]]
    assert len(fences) == 500
    assert fences == sorted(fences)
    assert answer.endswith(b'{"status":"ok"}')


def test_what_comes_before_a_broken_request_is_still_answered(
    scheduler: servers.RunningScheduler,
) -> None:
    answer = raw_http.exchange(scheduler.url, HEALTH * 2 + b"no such thing\r\n\r\n")
    assert answer.count(b'{"status":"ok"}') == 2


def test_a_body_that_breaks_on_its_way_is_refused(scheduler: servers.RunningScheduler) -> None:
    with raw_http.connect(scheduler.url) as client:
        client.sendall(raw_http.CHUNKED + b"2\r\n{ \r\n")
        client.sendall(b"no chunk\r\n")
        assert raw_http.status_of(raw_http.read_all(client)) == 400


def test_a_client_that_goes_away_in_the_middle_harms_nobody(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    for data in (b"POST", raw_http.CHUNKED, raw_http.CHUNKED + b"2\r\n{ \r\n", HEALTH):
        with raw_http.connect(scheduler.url) as client:
            client.sendall(data)
    assert http.get("/healthz").status_code == 200


def test_clients_that_leave_answers_behind_leave_no_trace(
    scheduler: servers.RunningScheduler, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    listing = b"GET /api/v1/workers HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for _ in range(20):
        client = raw_http.connect(scheduler.url)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall((HEALTH + listing) * 200)
        client.close()  # resets the connection
    assert http.get("/healthz").status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_continue_is_answered_before_the_body_is_sent(scheduler: servers.RunningScheduler) -> None:
    body = b'{"task_id":"continued"}'
    whole = raw_http.request("POST", "/api/v1/schedule", body, "expect: 100-continue")
    head = whole.removesuffix(body)
    with raw_http.connect(scheduler.url) as client:
        client.sendall(head)
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert raw_http.status_of(raw_http.read_all(client)) in {200, 503}
