"""`GET /metrics` of a whole scheduler: every metric changes when what it tells of happens."""

import asyncio
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import programs
import servers
import workers
from dtask.clock import SystemClock
from dtask.core.cluster import Cluster
from dtask.core.jobs.events import SetQueue
from dtask.core.jobs.rows import Change
from dtask.errors import Busy
from dtask.exposition import SCRAPES_MAX
from dtask.scheduler import metrics as metrics_module
from dtask.scheduler.loop import Loop
from dtask.scheduler.metrics import METRICS, Metrics
from dtask.store.memory import MemoryStore
from dtask.wire.frames import StartedFrame
from scheduler.peer import attached, beat, ended
from scraping import Scrape, kinds, scrape

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[servers.RunningScheduler]:
    with servers.running_scheduler() as running:
        servers.beat(running.url)
        yield running


def until(url: str, holds: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape that is as wanted."""
    give_up_at = time.monotonic() + servers.PATIENCE_S
    while not holds(seen := scrape(url)):
        assert time.monotonic() < give_up_at, "it never came true"
        threading.Event().wait(0.02)
    return seen


def ask(running: servers.RunningScheduler, method: str, path: str, **options: Any) -> Any:
    """What an operator's request is answered."""
    headers = servers.bearer(running.token)
    url = f"{running.url}/api/v1{path}"
    answer = httpx.request(method, url, headers=headers, verify=False, timeout=30, **options)
    assert answer.status_code < 300, answer.text
    return answer.json()


def submit(running: servers.RunningScheduler, line: str = "true", **fields: Any) -> int:
    job_id: int = ask(running, "POST", "/jobs", json={"command": ["sh", "-c", line], **fields})[
        "job_id"
    ]
    return job_id


# The form


def test_every_metric_is_there_with_its_kind(scheduler: servers.RunningScheduler) -> None:
    answer = httpx.get(f"{scheduler.url}/metrics", verify=False)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    scraped = scrape(scheduler.url)
    assert kinds(scraped) == {metric.name: metric.kind for metric in METRICS}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= scraped.names()


def test_names_and_units_are_as_prometheus_wants_them(scheduler: servers.RunningScheduler) -> None:
    checked = subprocess.run(
        [programs.program("promtool"), "check", "metrics"],
        input=scrape(scheduler.url).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_who_prefers_open_metrics_gets_that(scheduler: servers.RunningScheduler) -> None:
    answer = httpx.get(f"{scheduler.url}/metrics", headers={"accept": OPEN_METRICS}, verify=False)
    assert answer.headers["content-type"].startswith(OPEN_METRICS)
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("version", ["x", "1.x", "1.0.0.é", "9" * 5000, ""])
def test_a_version_that_is_none_is_no_error(
    scheduler: servers.RunningScheduler, version: str
) -> None:
    for kind in ("application/openmetrics-text", "text/plain"):
        accept = f"{kind};version={version}".encode("latin-1")
        answer = httpx.get(f"{scheduler.url}/metrics", headers={"accept": accept}, verify=False)
        assert answer.status_code == 200
        assert "dtask_warming_up 0.0\n" in answer.text


def test_no_worker_task_or_job_makes_a_series(scheduler: servers.RunningScheduler) -> None:
    before = scrape(scheduler.url).samples.keys()
    for i in range(20):
        servers.beat(scheduler.url, f"bound-{i}", resource_tags=[f"tag-{i}"])
        place(scheduler.url, f"bound-{i}")
        submit(scheduler, name=f"name-{i}", tags=[f"nobody-{i}"])
    assert scrape(scheduler.url).samples.keys() == before


def test_a_queue_makes_its_own(scheduler: servers.RunningScheduler) -> None:
    before = scrape(scheduler.url).samples.keys()
    ask(scheduler, "PUT", "/queues/night", json={"weight": 2})
    more = scrape(scheduler.url).samples.keys() - before
    assert {name for name, labels in more} == {"dtask_tasks", "dtask_queue_oldest_wait_seconds"}
    assert {dict(labels)["queue"] for _, labels in more} == {"night"}


# Placement


def place(url: str, task_id: str, **fields: Any) -> httpx.Response:
    body = {"task_id": task_id, "required_tags": [], **fields}
    return httpx.post(f"{url}/api/v1/schedule", json=body, verify=False)


def test_a_placement_and_a_refusal_count_with_their_latency() -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url, max_tasks=1)
        assert place(running.url, "t1").status_code == 200
        assert place(running.url, "t2").status_code == 503
        seen = scrape(running.url)
        assert seen.value("dtask_placements_total", outcome="placed") == 1
        assert seen.value("dtask_placements_total", outcome="refused") == 1
        assert seen.value("dtask_placement_seconds_bucket", le="+Inf") == 2
        assert seen.value("dtask_placement_seconds_bucket", le="2.5") == 2
        assert 0 < seen.value("dtask_placement_seconds_sum") < 2
        assert seen.value("dtask_heartbeats_total") == 1


def test_the_questions_of_a_batch_count_without_a_latency() -> None:
    tasks = [{"task_id": f"t{i}"} for i in range(3)]
    with servers.running_scheduler() as running:
        servers.beat(running.url, max_tasks=2)
        url = f"{running.url}/api/v1/schedule"
        httpx.post(url, json={"tasks": tasks, "all_or_nothing": True}, verify=False)
        seen = scrape(running.url)
        assert seen.value("dtask_placements_total", outcome="refused") == 3
        httpx.post(url, json={"tasks": tasks}, verify=False)
        httpx.post(url, json={"tasks": tasks[:2], "all_or_nothing": True}, verify=False)
        seen = scrape(running.url)
        assert seen.value("dtask_placements_total", outcome="refused") == 4
        assert seen.value("dtask_placements_total", outcome="placed") == 4
        assert seen.value("dtask_placement_seconds_count") == 0


def test_slots_and_leases_are_counted() -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url, "w1", max_tasks=4, current_tasks=1)
        servers.beat(running.url, "w2", max_tasks=2)
        place(running.url, "t")
        seen = scrape(running.url)
        assert seen.value("dtask_slots") == 6
        assert seen.value("dtask_slots_occupied") == 2
        assert seen.value("dtask_leases") == 1


def test_workers_are_counted_by_status() -> None:
    def by_status(seen: Scrape) -> list[float]:
        statuses = ("online", "suspect", "offline")
        return [seen.value("dtask_workers", status=status) for status in statuses]

    with servers.running_scheduler(suspect_after_s=0.4, offline_after_s=0.8) as running:
        servers.beat(running.url)
        assert by_status(scrape(running.url)) == [1, 0, 0]
        until(running.url, lambda seen: by_status(seen) == [0, 1, 0])
        gone = until(running.url, lambda seen: by_status(seen) == [0, 0, 1])
        assert gone.value("dtask_slots") == 0


def test_a_drained_worker_counts_as_draining() -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url)
        ask(running, "POST", "/workers/w1/drain")
        assert scrape(running.url).value("dtask_workers_draining") == 1


def test_a_warm_up_is_told() -> None:
    with servers.running_scheduler(warm_up_s=60.0) as running:
        assert scrape(running.url).value("dtask_warming_up") == 1


# Jobs


def test_a_job_counts_from_its_submit_to_its_end(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with servers.running_scheduler() as running:
        job_id = submit(running, f"echo hello; until [ -e {gate} ]; do sleep 0.02; done")
        seen = scrape(running.url)
        assert seen.value("dtask_jobs_submitted_total") == 1
        assert seen.value("dtask_jobs_live") == 1
        assert seen.value("dtask_tasks", state="queued", queue="default") == 1
        until(
            running.url,
            lambda seen: seen.value("dtask_queue_oldest_wait_seconds", queue="default") > 0,
        )
        with workers.worker_process(scheduler=running.url):
            seen = until(
                running.url,
                lambda seen: (
                    seen.value("dtask_log_bytes_total") == 6
                    and seen.value("dtask_tasks", state="running", queue="default") == 1
                ),
            )
            gate.touch()
            assert seen.value("dtask_workers_attached") == 1
            assert seen.value("dtask_queue_oldest_wait_seconds", queue="default") == 0
            assert seen.value("dtask_attempts_started_total") == 1
            assert seen.value("dtask_dispatch_seconds_count") == 1
            assert seen.value("dtask_dispatch_seconds_sum") > 0
            assert seen.value("dtask_channel_received_bytes_total") > 0
            assert seen.value("dtask_channel_sent_bytes_total") > 0
            assert seen.value("dtask_store_commit_seconds_count") > 0
            assert ask(running, "GET", f"/jobs/{job_id}?wait_s=20")["state"] == "succeeded"
            seen = scrape(running.url)
        assert seen.value("dtask_attempts_ended_total") == 1
        assert seen.value("dtask_tasks_ended_total", state="succeeded") == 1
        assert (seen.value("dtask_jobs_live"), seen.value("dtask_jobs_kept")) == (0, 1)


def test_a_job_that_is_known_by_its_key_counts_once(scheduler: servers.RunningScheduler) -> None:
    before = scrape(scheduler.url).value("dtask_jobs_submitted_total")
    assert submit(scheduler, key="once") == submit(scheduler, key="once")
    assert scrape(scheduler.url).value("dtask_jobs_submitted_total") == before + 1


def test_a_retry_counts_as_one() -> None:
    with (
        servers.running_scheduler() as running,
        workers.worker_process(scheduler=running.url),
    ):
        job_id = submit(running, "exit 1", retry={"max": 1, "backoff_s": 0.1})
        assert ask(running, "GET", f"/jobs/{job_id}?wait_s=20")["state"] == "failed"
        seen = scrape(running.url)
        assert seen.value("dtask_attempts_retried_total") == 1
        assert seen.value("dtask_attempts_ended_total") == 2
        assert seen.value("dtask_tasks_ended_total", state="failed") == 1


def test_a_lost_attempt_counts_and_so_does_a_report_that_comes_too_late() -> None:
    with servers.running_scheduler() as running:
        job_id = submit(running, tags=["w1"])
        beat(running, "w1")
        with attached(running, "w1") as (first, _):
            fence = first.start().fence
            first.say(StartedFrame(fence, 1.0))
            first.until_heard()
        with attached(running, "w1") as (second, _):  # it holds nothing any more
            assert second.start().fence != fence
            second.say(ended(fence))
            second.until_heard()
            seen = scrape(running.url)
        assert seen.value("dtask_attempts_started_total") == 1
        assert seen.value("dtask_attempts_lost_total") == 1
        assert seen.value("dtask_attempts_requeued_total") == 1
        assert seen.value("dtask_reports_refused_total") == 1
        assert ask(running, "GET", f"/jobs/{job_id}")["state"] in ("scheduled", "queued")


def test_who_reads_events_is_counted(scheduler: servers.RunningScheduler) -> None:
    headers = servers.bearer(scheduler.token)
    with (
        httpx.stream("GET", f"{scheduler.url}/api/v1/events", headers=headers, verify=False),
        httpx.stream("GET", f"{scheduler.url}/api/v1/live", headers=headers, verify=False),
    ):
        assert scrape(scheduler.url).value("dtask_feed_readers") == 2
    until(scheduler.url, lambda seen: seen.value("dtask_feed_readers") == 0)


# Store and loop


def test_a_store_that_fails_is_told_and_all_else_is_there(tmp_path: Path) -> None:
    with servers.running_scheduler(data=tmp_path) as running:
        servers.beat(running.url)
        of_store = set(kinds(scrape(running.url)))
        store: Any = running.server._data.store
        store._writer.execute("PRAGMA max_page_count = 1")
        body = {"command": ["true"], "env": {"TEXT": "x" * 30_000}}
        headers = servers.bearer(running.token)
        answer = httpx.post(f"{running.url}/api/v1/jobs", json=body, headers=headers, verify=False)
        assert answer.status_code == 503
        place(running.url, "t")
        seen = until(running.url, lambda seen: seen.value("dtask_store_commits_failed_total") > 0)
        assert seen.value("dtask_placements_total", outcome="placed") == 1
        assert of_store - set(kinds(seen)) <= OF_THE_STORE


def test_a_loop_that_stands_still_is_late_and_has_stalled() -> None:
    with servers.scheduler_process() as running:
        until(running.url, lambda seen: seen.value("dtask_loop_lag_seconds_count") > 0)
        running.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(1.6)
        running.process.send_signal(signal.SIGCONT)
        seen = until(running.url, lambda seen: seen.value("dtask_loop_lag_seconds_sum") > 1)
        assert seen.value("dtask_loop_stalled_seconds_total") > 0
        late = seen.value("dtask_loop_lag_seconds_bucket", le="+Inf")
        assert seen.value("dtask_loop_lag_seconds_bucket", le="1.0") < late


#: What is left out while the store does not answer.
OF_THE_STORE = {
    "dtask_jobs_live",
    "dtask_jobs_kept",
    "dtask_tasks",
    "dtask_queue_oldest_wait_seconds",
}


class Disk(MemoryStore):
    """A store whose commits can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def commit(self, changes: Iterable[Change]) -> None:
        """Not before the disk is open."""
        self.open.wait(servers.PATIENCE_S)
        super().commit(changes)


@asynccontextmanager
async def hanging() -> AsyncIterator[tuple[Metrics, Disk]]:
    """Metrics of a loop whose disk hangs in a commit."""
    clock, disk = SystemClock(), Disk()
    loop = Loop(Cluster(clock.now()), clock, disk)
    await loop.load()
    running = asyncio.create_task(loop.run())
    metrics = Metrics(loop, clock)
    waiting = loop.post(SetQueue("night", weight=2.0))
    try:
        yield metrics, disk
    finally:
        disk.open.set()
        await waiting
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        metrics.stop()
        loop.stop()


def test_a_disk_that_hangs_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "STORE_S", 0.05)

    async def story() -> None:
        async with hanging() as (metrics, disk):
            text = (await metrics.page(""))[0].decode()
            assert "dtask_store_up 0.0\n" in text
            assert all(f"# TYPE {name} " not in text for name in OF_THE_STORE)
            disk.open.set()
            text = (await metrics.page(""))[0].decode()
            while "dtask_store_up 0.0\n" in text:
                text = (await metrics.page(""))[0].decode()
            assert 'dtask_tasks{queue="night",state="queued"} 0.0\n' in text

    asyncio.run(story())


def test_so_many_scrapes_wait_and_no_more() -> None:
    async def story() -> None:
        async with hanging() as (metrics, disk):
            scrapes = [asyncio.create_task(metrics.page("")) for _ in range(SCRAPES_MAX)]
            await asyncio.wait(scrapes, timeout=0)
            with pytest.raises(Busy):
                await metrics.page("")
            disk.open.set()
            await asyncio.gather(*scrapes)
            await metrics.page("")

    asyncio.run(story())


# Prometheus itself


@contextmanager
def prometheus(directory: Path, target: str, token_file: Path) -> Iterator[str]:
    """A Prometheus that scrapes one target with a token; its URL."""
    config = f"""
scrape_configs:
  - job_name: dtask
    scrape_interval: 1s
    authorization:
      credentials_file: {token_file}
    static_configs:
      - targets: ["{target}"]
"""
    (directory / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            programs.program("prometheus"),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(servers.PATIENCE_S)


def test_prometheus_reads_them_with_the_token(tmp_path: Path) -> None:
    with servers.running_scheduler(require_token=True) as running:
        token_file = tmp_path / "token"
        token_file.write_text(running.token + "\n")
        target = running.url.removeprefix("http://")
        assert httpx.get(f"{running.url}/metrics", verify=False).status_code == 401
        with prometheus(tmp_path, target, token_file) as url:
            found: list[Any] = []
            give_up_at = time.monotonic() + servers.PATIENCE_S
            while not found:
                assert time.monotonic() < give_up_at
                with suppress(httpx.TransportError):
                    query = {"query": "dtask_store_up"}
                    answer = httpx.get(f"{url}/api/v1/query", params=query, verify=False)
                    if answer.status_code == 200:  # it says 503 while it starts
                        found = answer.json()["data"]["result"]
                threading.Event().wait(0.05)
            assert found[0]["value"][1] == "1"
