"""Placement goes on beside the largest submits there are."""

import subprocess
import sys
import time

import httpx
import msgspec
import pytest

from servers import PATIENCE_S, bearer, beat, scheduler_process

pytestmark = pytest.mark.e2e

#: Asks for places, one after the other, and tells when it asked and how long the answer took.
CLIENT = """
import http.client, json, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for number in range(10**9):
    body = json.dumps({"task_id": f"t{number}", "required_tags": [], "ttl_s": 1})
    before = time.monotonic()
    connection.request("POST", "/api/v1/schedule", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, before, time.monotonic() - before, flush=True)
    time.sleep(0.001)
"""

#: Of 100 placements 99 take less; measured beside two busy processes: 8, 20 and 33 ms.
LATE_S = 0.05

MILLION = 1_000_000


def chain(length: int) -> dict[str, object]:
    """Tasks that need each other in a row, 12 MB of them."""
    return {
        f"t{number}": {
            "command": ["echo", "x" * 600],
            "env": {"TEXT": "y" * 600},
            "needs": [f"t{number - 1}"] if number else [],
        }
        for number in range(length)
    }


@pytest.mark.parametrize(
    "job",
    [
        {"command": ["echo", "{}"], "tags": ["nobody"], "array": MILLION},
        {
            "command": ["echo", "{}"],
            "tags": ["nobody"],
            "array": [f"file-{i:08d}" for i in range(MILLION)],
        },
        {"tasks": chain(10_000)},
    ],
    ids=["count", "list of 16 MB", "graph of 12 MB"],
)
def test_placements_are_not_late_while_a_huge_job_comes_in(job: dict[str, object]) -> None:
    raw = msgspec.json.encode(job)
    late_s = []
    for _ in range(3):  # others use this machine too: one quiet try is enough
        late_s.append(lateness_s(raw))
        if late_s[-1] < LATE_S:
            return
    raise AssertionError(late_s)


def lateness_s(raw: bytes) -> float:
    """What 99 of 100 placements take at most while this job is submitted and cancelled."""
    with scheduler_process("--warm-up", "0") as scheduler:
        beat(scheduler.url, "w1", max_tasks=100_000)
        port = scheduler.url.rpartition(":")[2]
        command = [sys.executable, "-c", CLIENT, port]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            client.stdout.readline()
            begun = time.monotonic()
            with httpx.Client(
                base_url=f"{scheduler.url}/api/v1",
                headers=bearer(scheduler.token) | {"content-type": "application/json"},
                timeout=PATIENCE_S,
            ) as operator:
                answer = operator.post("/jobs", content=raw)
                assert answer.status_code == 201, answer.text
                assert operator.delete("/jobs/1").status_code == 200
            over = time.monotonic()
            client.terminate()
            lines = [line.split() for line in client.stdout.read().splitlines()]
    asked = [(int(status), float(at), float(took)) for status, at, took in lines[:-1]]
    took_s = sorted(took for _, at, took in asked if begun < at < over)
    assert {status for status, _, _ in asked} == {200}
    return took_s[int(len(took_s) * 0.99)] if took_s else 0.0
