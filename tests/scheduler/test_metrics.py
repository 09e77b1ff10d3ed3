"""`GET /metrics` of a whole scheduler, read as Prometheus reads it."""

import subprocess
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import programs
import servers
from dtask.scheduler.metrics import METRICS

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[servers.RunningScheduler]:
    with servers.running_scheduler() as running:
        servers.beat(running.url)
        yield running


def test_every_metric_is_there_with_its_kind(scheduler: servers.RunningScheduler) -> None:
    answer = httpx.get(f"{scheduler.url}/metrics", verify=False)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    kinds = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(answer.text)
    }
    assert {name: kind for name, kind in kinds.items() if name.startswith("dtask_")} == {
        metric.name: metric.kind for metric in METRICS
    }
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= kinds.keys()


def test_names_and_units_are_as_prometheus_wants_them(scheduler: servers.RunningScheduler) -> None:
    promtool = programs.program("promtool")
    text = httpx.get(f"{scheduler.url}/metrics", verify=False).text
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
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
