"""Pictures of fleets, made up for tests of what is drawn of them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from dtask.client.job_results import JobSummary
from dtask.client.picture import LiveWorker, Picture, Totals

NOW = 1_700_000_000.0


def worker(name: str, status: str = "online", tasks: int = 0, **more: Any) -> LiveWorker:
    fields = {"draining": False, "max_tasks": 4, "last_heartbeat": NOW - 30} | more
    return msgspec.convert(
        [name, status, fields["draining"], tasks, fields["max_tasks"], fields["last_heartbeat"]],
        LiveWorker,
    )


def queue(name: str, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(("pending", "queued", "running"), 0)
    fields |= dict.fromkeys(("max_running", "max_queued", "oldest_queued_at"))
    return {"name": name, "weight": 1.0, "paused": False} | fields | more


def warning(sentence: str, level: str = "warning") -> dict[str, Any]:
    return {"code": "any", "level": level, "sentence": sentence}


def picture(workers: Iterable[LiveWorker] = (), **totals: Any) -> Picture:
    """A picture of these workers; `totals` are those of the stream, by name."""
    listed = list(workers)
    states = [one.status for one in listed]
    counts = {status: states.count(status) for status in ("online", "suspect", "offline")}
    sums = {
        "workers": counts | {"draining": sum(one.draining for one in listed)},
        "slots": sum(one.max_tasks for one in listed),
        "warming_up": False,
        "occupied": sum(one.current_tasks for one in listed),
        "tasks": {"pending": 0, "queued": 0, "scheduled": 0, "running": 0},
        "ended": {"succeeded": 0, "failed": 0, "cancelled": 0, "skipped": 0},
        "jobs": 0,
        "queues": [queue("default")],
        "rates": dict.fromkeys(("placements", "refusals", "heartbeats", "starts", "ends"), 0.0),
        "placement_p99_ms": None,
        "attention": [],
    }
    return Picture(
        now=NOW,
        started_at=NOW - 3_600,
        version="0.2.0",
        workers={one.worker_id: one for one in listed},
        totals=msgspec.convert(sums | totals, Totals),
    )


def job(number: int, name: str = "", *, total: int = 1, ended: int = 0, failed: int = 0) -> Any:
    return msgspec.convert(
        {
            "job_id": number,
            "name": name,
            "queue": "default",
            "priority": 0,
            "state": "running",
            "submitted_at": NOW - 60,
            "tasks": {"total": total, "ended": ended, "failed": failed},
        },
        JobSummary,
    )
