"""Prometheus scrapes a scheduler and its workers under load, and every alert is made to fire."""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import servers
import workers
from deploy.prometheus import operands, panels, prometheus, rules
from deploy.services import DEPLOY
from docs import pages
from dtask import Client, DtaskError
from dtask.store.file import BUSY_S
from programs import program

#: Connections, and questions that each of them sends at once: more than is answered in 0.1 s.
CROWD = 40
QUESTIONS = 400


def promtool(*arguments: str | Path) -> str:
    ended = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_promtool_finds_no_fault_with_the_configuration(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alerts.yml"):
        (tmp_path / name).write_text((DEPLOY / "prometheus" / name).read_text())
    (tmp_path / "token").write_text("a-token-for-tests-only")
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")


def test_each_alert_fires_on_what_it_is_for_and_not_before() -> None:
    tests = DEPLOY / "prometheus" / "alerts_test.yml"
    assert "SUCCESS" in promtool("test", "rules", tests)
    fired = {
        case["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules()}


def test_each_alert_has_a_paragraph_that_says_what_to_do() -> None:
    section = pages.section("docs/operations.md", "What to watch")
    told = [title for title in pages.titles(section) if title.startswith("Dtask")]
    assert told == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_dashboard_and_the_alerts_use_only_metrics_that_are_told_of() -> None:
    rows = pages.rows(pages.section("docs/operations.md", "Metrics"))
    told = {row[0].strip("`") for row in rows}
    used = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for query in (*operands().values(), *panels().values())
        for name in re.findall(r"\bdtask_\w+", query)
    }
    assert used - told == set()
    assert told - used - {"metric", "dtask_warming_up", "dtask_attempts_ended_total"} == set()


def test_the_panels_of_the_dashboard_have_their_places() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dtask.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.e2e
def test_every_query_has_data_and_every_alert_fires_on_its_condition(tmp_path: Path) -> None:
    program("prometheus")
    options = ("--suspect-after", "1", "--offline-after", "2", "--warm-up", "0.1")
    with ExitStack() as stack:
        scheduler = stack.enter_context(servers.scheduler_process(*options, files_max=4096))
        asked = {"scheduler": scheduler.url, "token": scheduler.token}
        fleet = [
            stack.enter_context(workers.worker_process("--interval", "0.5", **asked))
            for _ in range(2)
        ]
        seen = stack.enter_context(prometheus(tmp_path, scheduler))
        client = stack.enter_context(Client(scheduler.url, token=scheduler.token))
        stack.enter_context(load(scheduler))
        seen.await_all(operands() | panels())
        causes = Causes(scheduler, client, fleet)
        # A scheduler that is down is last: it has no other alert any more.
        for alert, cause in causes.by_alert.items():
            seen.await_alert(alert, cause)
        assert causes.by_alert.keys() == {rule["alert"] for rule in rules()}
        for worker in fleet:  # else each waits for the scheduler, which will not be back
            worker.process.kill()


@contextmanager
def load(scheduler: servers.SchedulerProcess) -> Iterator[None]:
    """Placements, and jobs that write, fail, are tried again and come to nothing."""
    stop = threading.Event()

    def main() -> None:
        with Client(scheduler.url, token=scheduler.token, patience_s=0.1) as client:
            while not stop.wait(0.02):
                with suppress(DtaskError):  # of alerts that are being brought about
                    some_work(client)

    thread = threading.Thread(target=main, name="load")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(servers.PATIENCE_S)


def some_work(client: Client) -> None:
    client.release(client.place().task_id)
    client.submit(["sh", "-c", "echo written; exit 1"], retry={"max": 1, "backoff_s": 0})
    client.submit(["true"])


class Causes:
    """How each alert is brought about."""

    def __init__(
        self,
        scheduler: servers.SchedulerProcess,
        client: Client,
        fleet: list[workers.WorkerProcess],
    ) -> None:
        self._scheduler = scheduler
        self._client = client
        self._fleet = fleet
        self._database = scheduler.state_home / "dtask" / "scheduler" / "dtask.db"
        self._never = threading.Event()
        self.by_alert: dict[str, Callable[[], None]] = {
            "DtaskOldestWait": self._wait,
            "DtaskScheduleRefusals": self._refuse,
            "DtaskWorkersOffline": self._lose,
            "DtaskPlacementSlow": self._crowd,
            "DtaskLoopLag": self._stop,
            "DtaskStoreSlow": self._slow_down,
            "DtaskStoreFailing": self._fail,
            "DtaskSchedulerDown": self._kill,
        }

    def _wait(self) -> None:
        """A job that no worker can take."""
        self._client.submit(["true"], tags=["nowhere"], key="waits")

    def _refuse(self) -> None:
        body = {"tasks": [{"task_id": f"t{i}", "required_tags": ["nowhere"]} for i in range(1000)]}
        assert self._post("schedule", body).is_success

    def _lose(self) -> None:
        """One worker of two is killed."""
        self._fleet[0].process.kill()

    def _crowd(self) -> None:
        """Many ask at once, and the last of them waits for all others."""
        body = b'{"task_id":"crowd","required_tags":["nowhere"]}'
        head = (
            "POST /api/v1/schedule HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        questions = (head.encode() + body) * QUESTIONS
        host, port = self._scheduler.url.removeprefix("http://").split(":")
        with ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_connection((host, int(port))))
                for _ in range(CROWD)
            ]
            for each in sockets:
                each.sendall(questions)
            for each in sockets:
                each.shutdown(socket.SHUT_WR)
                while each.recv(2**20):
                    pass

    def _stop(self) -> None:
        """The process stands still for a moment."""
        self._scheduler.process.send_signal(signal.SIGSTOP)
        self._never.wait(0.5)
        self._scheduler.process.send_signal(signal.SIGCONT)

    def _slow_down(self) -> None:
        """Another writes to the database, and takes its time, again and again."""
        with ThreadPoolExecutor(1) as pool:
            for _ in range(5):
                with self._held():
                    answer = pool.submit(self._post, "jobs", {"command": ["true"]})
                    self._never.wait(0.5)
                assert answer.result().is_success

    def _fail(self) -> None:
        """It takes more time than a commit waits."""
        with self._held():
            answer = self._post("jobs", {"command": ["true"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_failed")

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody else writes to the database."""
        with closing(sqlite3.connect(self._database, timeout=BUSY_S)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.rollback()

    def _kill(self) -> None:
        self._scheduler.process.kill()

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        url, headers = f"{self._scheduler.url}/api/v1/{path}", servers.bearer(self._scheduler.token)
        return httpx.post(url, json=body, headers=headers, timeout=2 * BUSY_S, verify=False)
