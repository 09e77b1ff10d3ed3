"""An array of a million elements is one job among others: nobody else waits for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

import servers
from dtask.wire.limits import SUBMIT_BYTES_MAX

COUNT = 1_000_000
#: Promised; measured on an idle machine: 0.02 s for a count, 0.5 s for a list.
SUBMIT_S = 2.0
#: Far below the 3 s between two heartbeats; measured: 30 ms.
LATE_S = 0.5
#: At its peak; measured: 3 MiB for a count, 115 for short items, 134 for as long as a body may be.
MEMORY_BYTES = 150 * 1024**2


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["count", "list", "long"])
def test_a_million_elements_are_submitted_within_two_seconds_and_delay_no_heartbeat(
    kind: str,
) -> None:
    body = body_of(kind)
    with (
        servers.scheduler_process("--warm-up", "0") as running,
        httpx.Client(
            base_url=running.url,
            headers=servers.bearer(running.token) | {"content-type": "application/json"},
            verify=False,
            timeout=30,
        ) as client,
    ):
        client.get("/api/v1/jobs")
        idle = peak_bytes(running.process.pid)
        with heartbeats(running.url) as late:
            before = time.monotonic()
            answer = client.post("/api/v1/jobs", content=body)
            took_s = time.monotonic() - before
            taken = peak_bytes(running.process.pid) - idle
            job = client.get("/api/v1/jobs/1").json()
            page = client.get("/api/v1/jobs/1/tasks/main/elements", params={"after": 999_900})
            assert client.delete("/api/v1/jobs/1").json()["state"] == "cancelled"
        assert answer.status_code == 201
        assert took_s < SUBMIT_S
        assert max(late) < LATE_S
        assert taken <= MEMORY_BYTES
        assert job["tasks"]["main"]["counts"] == {"queued": COUNT}
        assert [element["index"] for element in page.json()["elements"]][-1] == COUNT - 1


def body_of(kind: str) -> bytes:
    """A count; a list of short items; and one of items as long as the limit of a body allows."""
    array: int | list[str] = COUNT
    if kind != "count":
        chars = 1 if kind == "list" else (SUBMIT_BYTES_MAX - 1_000) // COUNT - len('"",')
        array = [f"{i:0{chars}}" for i in range(COUNT)]
    body = msgspec.json.encode({"command": ["echo", "{}"], "array": array})
    assert len(body) <= SUBMIT_BYTES_MAX
    return body


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had at any time."""
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


@contextmanager
def heartbeats(url: str) -> Iterator[list[float]]:
    """A worker that heartbeats all the time; how long each took to be answered."""
    took: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            before = time.monotonic()
            assert servers.beat(url).status_code == 200
            took.append(time.monotonic() - before)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join(servers.PATIENCE_S)
