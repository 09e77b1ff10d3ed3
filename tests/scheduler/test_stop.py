"""SIGTERM and SIGINT end the process cleanly, and no request that reached it is cut off."""

import asyncio
import json
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import raw_http
import servers
from dtask.scheduler.protocol import Sweep
from dtask.scheduler.server import SchedulerServer
from dtask.scheduler.settings import Patience, Settings


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_scheduler_ends_at_once_with_code_0(number: int) -> None:
    with servers.scheduler_process() as running:
        started = time.monotonic()
        assert running.stop(number) == 0
        assert time.monotonic() - started < 3
        assert "Traceback" not in running.log.read_text()


@pytest.mark.e2e
def test_no_request_is_cut_off_by_a_stop() -> None:
    """Clients that ask without a pause get an answer to each request they sent, to the last."""
    with servers.scheduler_process("--warm-up", "0") as running:
        servers.beat(running.url, max_tasks=100_000)
        clients = [Asking(running.url, name) for name in "abcdefgh"]
        for client in clients:
            client.start()
        while any(client.answered < 20 for client in clients):
            time.sleep(0.001)
        assert running.stop() == 0
        for client in clients:
            client.join(raw_http.PATIENCE_S)
    assert [client.failure for client in clients] == [None] * len(clients)


class Asking(threading.Thread):
    """Asks on one connection until it is told that this answer is the last."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.answered = 0
        self.failure: Any = None
        self._url = url

    def run(self) -> None:
        with raw_http.connect(self._url) as client:
            last = False
            while not last:
                body = json.dumps({"task_id": f"{self.name}-{self.answered}"}).encode()
                data = raw_http.request("POST", "/api/v1/schedule", body)
                client.sendall(data.replace(b"connection: close\r\n", b""))
                answer = client.recv(4096)
                if not answer.startswith(b"HTTP/1.1 200") or b'"fence"' not in answer:
                    self.failure = answer
                    return
                self.answered += 1
                last = b"connection: close" in answer


@pytest.mark.e2e
def test_a_request_that_is_half_sent_at_the_stop_is_answered() -> None:
    with servers.scheduler_process() as running, raw_http.connect(running.url) as client:
        body = b'{"task_id":"half"}'
        data = raw_http.request("POST", "/api/v1/schedule", body)
        client.sendall(data[:-10])
        httpx.get(f"{running.url}/healthz", verify=False)  # by now it has read the first half
        running.process.send_signal(signal.SIGTERM)
        wait_until_refused(running.url)
        client.sendall(data[-10:])
        assert raw_http.status_of(raw_http.read_all(client)) == 503
        assert running.process.wait(servers.PATIENCE_S) == 0


@pytest.mark.parametrize("part", [0, 10, -1])
def test_a_client_that_never_ends_its_request_does_not_hold_up_the_stop(
    part: int, caplog: pytest.LogCaptureFixture
) -> None:
    with servers.running_scheduler(patience=Patience(stop_s=1)) as running:
        client = raw_http.connect(running.url)
        client.sendall(raw_http.request("POST", "/api/v1/schedule", b"{}")[:part])
        httpx.get(f"{running.url}/healthz", verify=False)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert raw_http.read_all(client) == b""
    client.close()


def wait_until_refused(url: str) -> None:
    """Until nobody listens there any more."""
    deadline = time.monotonic() + servers.PATIENCE_S
    while time.monotonic() < deadline:
        try:
            raw_http.connect(url).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.005)
    raise TimeoutError


def test_a_scheduler_that_has_lost_a_part_ends_instead_of_answering_without_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Sweep, "run", stumble)

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "token"
            file.touch(mode=0o600)
            file.write_text("a-token-for-tests-only")
            await SchedulerServer(Settings(port=0, token_file=str(file))).serve()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(main(), 20))
    assert "a part of the scheduler ended; this is a bug in dtask" in caplog.text
