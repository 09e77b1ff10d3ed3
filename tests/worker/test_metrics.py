"""`GET /metrics` of a worker's own listener, while a real scheduler gives it work."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

import programs
from dtask.core.attempts import Cause, KeptCause
from dtask.worker.metrics import METRICS
from dtask.worker.tallies import OUTCOMES
from scraping import Scrape, kinds, scrape
from servers import RunningScheduler, bearer, running_scheduler, scheduler_process
from worker.processes import eventually
from workers import WorkerProcess, worker_process

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scheduler() -> Iterator[RunningScheduler]:
    with running_scheduler() as running:
        yield running


@pytest.fixture(scope="module")
def worker(scheduler: RunningScheduler) -> Iterator[WorkerProcess]:
    with worker_process("--max-tasks", "3", scheduler=scheduler.url) as process:
        url = f"http://{process.address}"
        eventually(lambda: scrape(url).value("dtask_worker_channel_up") == 1)
        yield process


def numbers(worker: WorkerProcess) -> Scrape:
    return scrape(f"http://{worker.address}")


def run(scheduler: RunningScheduler, line: str, **fields: Any) -> None:
    answer = httpx.post(
        f"{scheduler.url}/api/v1/jobs",
        json={"command": ["sh", "-c", line], **fields},
        headers=bearer(scheduler.token),
        verify=False,
    )
    assert answer.status_code == 201, answer.text


def ended(worker: WorkerProcess, outcome: str) -> float:
    return numbers(worker).value("dtask_worker_tasks_ended_total", outcome=outcome)


def grows(worker: WorkerProcess, outcome: str, act: Callable[[], object]) -> None:
    """One more task ends like this, for that."""
    before = ended(worker, outcome)
    act()
    eventually(lambda: ended(worker, outcome) == before + 1)


def test_every_metric_is_there_with_its_kind(worker: WorkerProcess) -> None:
    seen = numbers(worker)
    assert kinds(seen) == {metric.name: metric.kind for metric in METRICS}
    assert "process_cpu_seconds_total" in seen.names()
    assert seen.value("dtask_worker_slots") == 3


def test_names_and_units_are_as_prometheus_wants_them(worker: WorkerProcess) -> None:
    checked = subprocess.run(
        [programs.program("promtool"), "check", "metrics"],
        input=numbers(worker).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_task_counts_while_it_runs_and_when_it_has_ended(
    scheduler: RunningScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    before = numbers(worker)
    run(scheduler, f"echo hello; until [ -e {gate} ]; do sleep 0.02; done")
    eventually(lambda: numbers(worker).value("dtask_worker_spool_bytes") >= 6)
    seen = numbers(worker)
    assert seen.value("dtask_worker_tasks_running") == 1
    started = "dtask_worker_tasks_started_total"
    assert seen.value(started) == before.value(started) + 1
    grows(worker, "succeeded", gate.touch)
    seen = numbers(worker)
    assert seen.value("dtask_worker_tasks_running") == 0
    written = "dtask_worker_log_bytes_total"
    assert seen.value(written) == before.value(written) + 6


def test_tasks_count_by_how_they_end(scheduler: RunningScheduler, worker: WorkerProcess) -> None:
    grows(worker, "exit", lambda: run(scheduler, "exit 3"))
    grows(worker, "timeout", lambda: run(scheduler, "sleep 60", timeout_s=0.2))
    grows(worker, "start_failed", lambda: run(scheduler, "true", cwd="nowhere"))


def test_every_way_to_end_has_its_outcome() -> None:
    causes = {cause for kind in (Cause, KeptCause) for cause in get_args(kind)}
    # What an earlier life lost has ended before this one began to count.
    assert set(OUTCOMES) == causes - {"lost"} | {"succeeded", "exit"}


def test_a_scheduler_that_is_gone_is_told() -> None:
    heard = "dtask_worker_heartbeats_total"
    with (
        scheduler_process() as scheduler,
        worker_process(scheduler=scheduler.url, token=scheduler.token) as process,
    ):
        eventually(lambda: numbers(process).value("dtask_worker_channel_up") == 1)
        seen = numbers(process)
        assert seen.value(heard, outcome="ok") > 0
        assert seen.value(heard, outcome="failed") == 0
        scheduler.stop()
        eventually(lambda: numbers(process).value("dtask_worker_channel_up") == 0)
        eventually(lambda: numbers(process).value(heard, outcome="failed") > 0)


def test_no_web_page_reads_them_and_nothing_else_is_asked(worker: WorkerProcess) -> None:
    url = f"http://{worker.address}/metrics"
    answer = httpx.get(url, headers={"origin": "https://example.org"}, verify=False)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    answer = httpx.get(url, params={"name": "x"}, verify=False)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")
    assert answer.json()["error"] == "name: there is no such parameter: expected none."
