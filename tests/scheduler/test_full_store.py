"""A disk that is full under the store: jobs are refused with the reason, and nothing else is."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx

from servers import PATIENCE_S, RunningScheduler, bearer, beat, running_scheduler


def limit(running: RunningScheduler, pages: int) -> None:
    """Let the file of the store grow to so many pages."""
    store: Any = running.server._data.store
    store._writer.execute(f"PRAGMA max_page_count = {pages}")


def test_jobs_are_refused_with_the_reason_until_there_is_room(tmp_path: Path) -> None:
    body = {"command": ["true"], "env": {"TEXT": "x" * 30_000}, "tags": ["nobody"]}
    with (
        running_scheduler(data=tmp_path) as running,
        httpx.Client(
            base_url=f"{running.url}/api/v1", headers=bearer(running.token), timeout=PATIENCE_S
        ) as client,
    ):
        beat(running.url, "w1", token=running.token)
        known = client.post("/jobs", json=body).json()["job_id"]
        limit(running, 1)
        refused = []
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            answer = client.post("/jobs", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_failed")
            refused.append(answer.json()["error"])
            task = {"task_id": f"t{len(refused)}", "required_tags": [], "ttl_s": 1}
            assert client.post("/schedule", json=task).status_code in (200, 503)
            assert client.get("/jobs").json()[0]["job_id"] == known
        assert {sentence.partition("dtask.db")[2] for sentence in refused} == {
            " can't be written: the disk is full. Make room on it."
        }
        limit(running, 1_000_000)
        while (answer := client.post("/jobs", json=body)).status_code != 201:
            assert time.monotonic() < end + PATIENCE_S
            threading.Event().wait(0.05)
        assert client.get(f"/jobs/{known}/why").json()["state"] == "queued"


def test_a_store_that_fails_again_and_again_is_left_alone_for_longer_and_longer(
    tmp_path: Path, caplog: Any
) -> None:
    """Else all workers would be sent away, and all jobs read again, with each request."""
    body = {"command": ["true"], "env": {"TEXT": "x" * 30_000}}
    with (
        running_scheduler(data=tmp_path) as running,
        httpx.Client(
            base_url=f"{running.url}/api/v1", headers=bearer(running.token), timeout=PATIENCE_S
        ) as client,
    ):
        limit(running, 1)
        end = time.monotonic() + 2.5
        asked = 0
        while time.monotonic() < end:
            assert client.post("/jobs", json=body).status_code == 503
            asked += 1
        failed = [one for one in caplog.records if "store failed" in one.getMessage()]
        assert asked > 50
        assert 1 <= len(failed) <= 3
