"""The questions that are asked under load, as scripts for `traffic`."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

import orjson

from dtask.bench.traffic import Script, request

#: Leases that each connection holds while it alternates schedule and DELETE.
HELD: Final = 50

TAGS: Final = ["gpu", "cuda>=12.0"]

#: Answers of a scheduler that count.
OK: Final = 200
REFUSED: Final = 503


def slots(workers: int) -> int:
    """Slots of each of so many workers: also a small fleet has room for the leases of a run."""
    return max(30, 6_000 // workers)


def heartbeat(index: int, *, max_tasks: int, current_tasks: int) -> bytes:
    """A heartbeat of the worker of this number; every second one has a GPU."""
    tags = ["cpu", "linux"] if index % 2 else ["gpu", "cuda-12.4", "linux"]
    body = {
        "worker_id": f"worker-{index:05d}",
        "address": f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}:9000",
        "resource_tags": tags,
        "max_tasks": max_tasks,
        "current_tasks": current_tasks,
    }
    return request("POST", "/api/v1/heartbeat", orjson.dumps(body))


def once(requests: Iterator[bytes]) -> Script:
    """Each of these requests, one after the other; all must be answered 200."""
    for raw in requests:
        status, body = yield raw
        assert status == OK, body


def schedule_and_release(name: str, running: Callable[[], bool]) -> Script:
    """Ask with distinct ids; from the 50th lease on, each answer is followed by a release."""
    held: deque[str] = deque()
    for number in count():
        if not running():
            break
        task_id = f"{name}-{number:06d}"
        status, body = yield _ask("/api/v1/schedule", task_id)
        assert status == OK, body
        held.append(task_id)
        if len(held) > HELD:
            status, body = yield request("DELETE", f"/api/v1/schedule/{held.popleft()}")
            assert status == OK, body
    for task_id in held:
        yield request("DELETE", f"/api/v1/schedule/{task_id}")


def refusals(name: str, path: str, running: Callable[[], bool]) -> Script:
    """Ask a fleet that is full."""
    for number in count():
        if not running():
            break
        status, body = yield _ask(path, f"{name}-{number:06d}")
        assert status == REFUSED, body


def batches(name: str, size: int, running: Callable[[], bool]) -> Script:
    """Ask for many at once; the leases are left to end by themselves."""
    for number in count():
        if not running():
            break
        raw = batch(f"{name}-{number:06d}", size)
        status, body = yield raw
        assert status == OK, body
        assert b'"error"' not in body, body


def batch(name: str, size: int, **more: float) -> bytes:
    """One request for many placements; `more` goes into each task."""
    tasks = [{"task_id": f"{name}-{i}", "required_tags": TAGS, **more} for i in range(size)]
    return request("POST", "/api/v1/schedule", orjson.dumps({"tasks": tasks}))


def _ask(path: str, task_id: str) -> bytes:
    return request("POST", path, orjson.dumps({"task_id": task_id, "required_tags": TAGS}))
