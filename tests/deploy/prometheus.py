"""A Prometheus with our files, in which minutes are seconds."""

import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

import servers
from deploy.services import DEPLOY, copied, free_port, service
from programs import program

#: How often it scrapes, and the window of its rates: longer than a commit that fails, while which
#: no scrape is answered in time.
EVERY = "1s"
WINDOW = "15s"

#: A wait that is alarming when it is seconds.
WAIT_S = 3

#: Between two looks at it.
PAUSE_S = 0.2

#: How long after its cause an alert may take to fire: two scrapes and an evaluation.
SEEN_S = 3.0

#: Longest that anything may take to show; reached only when it is broken.
PATIENCE_S = 45.0

Rule = dict[str, Any]


def rules() -> list[Rule]:
    """The alerts."""
    parsed = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [rule for group in parsed["groups"] for rule in group["rules"]]


def operands() -> dict[str, str]:
    """What each alert compares, without that which it is compared with."""
    found = {}
    for rule in rules():
        for part in rule["expr"].split(" or "):
            query, compared = re.subn(r" (==|>) [0-9.]+$", "", part)
            assert compared == 1, part
            found[f"{rule['alert']}: {query}"] = quick(query)
    return found


def panels() -> dict[str, str]:
    """The queries of the dashboard."""
    dashboard = json.loads((DEPLOY / "grafana" / "dtask.json").read_text())
    return {
        f"{panel['title']}: {target['expr']}": quick(target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


def quick(query: str) -> str:
    """The same over a short time, for all schedulers and workers."""
    for old, new in (
        ("[5m]", f"[{WINDOW}]"),
        ("[$__rate_interval]", f"[{WINDOW}]"),
        ("$scheduler", ".*"),
        ("$worker", ".*"),
    ):
        query = query.replace(old, new)
    assert "$" not in query, query
    return query


class Prometheus:
    """One that runs."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._never = threading.Event()

    def has(self, query: str) -> bool:
        """Whether there is a number for it, of any series."""
        answer = self._http.get("/api/v1/query", params={"query": query})
        if answer.status_code == 503:  # it listens before it answers
            return False
        assert answer.status_code == 200, answer.text
        return any(
            not math.isnan(float(sample["value"][1])) for sample in answer.json()["data"]["result"]
        )

    def firing(self) -> set[str]:
        """The alerts that fire."""
        alerts = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def await_all(self, queries: dict[str, str]) -> None:
        """Wait until each query has data."""
        missing = dict(queries)
        deadline = time.monotonic() + PATIENCE_S
        while missing := {name: query for name, query in missing.items() if not self.has(query)}:
            assert time.monotonic() < deadline, sorted(missing)
            self._never.wait(PAUSE_S)

    def await_alert(self, name: str, cause: Callable[[], None]) -> None:
        """Bring it about, again and again, until it fires."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            cause()
            seen_by = time.monotonic() + SEEN_S
            while time.monotonic() < seen_by:
                if name in self.firing():
                    return
                self._never.wait(PAUSE_S)
            assert time.monotonic() < deadline, name


@contextmanager
def prometheus(directory: Path, scheduler: servers.SchedulerProcess) -> Iterator[Prometheus]:
    """One that scrapes this scheduler and its workers."""
    copied(
        "prometheus/prometheus.yml",
        directory / "prometheus.yml",
        {
            "scrape_interval: 15s": f"scrape_interval: {EVERY}\n  scrape_timeout: {EVERY}",
            "evaluation_interval: 15s": f"evaluation_interval: {EVERY}",
            "scheduler:8080": scheduler.url.removeprefix("http://"),
            "- files:": "- refresh_interval: 1s\n        files:",
        },
    )
    minutes = {"for: 1m": "for: 0s", "for: 2m": "for: 0s", "for: 5m": "for: 0s"}
    changes = {"[5m]": f"[{WINDOW}]", "> 3600": f"> {WAIT_S}", **minutes}
    copied("prometheus/alerts.yml", directory / "alerts.yml", changes)
    (directory / "token").write_text(scheduler.token)
    told = subprocess.run(
        [sys.executable, DEPLOY.parent / "cmd" / "dtask", "workers", "--json"],
        env=servers.clean_environment(scheduler.state_home) | {"DTASK_SCHEDULER": scheduler.url},
        capture_output=True,
        check=True,
    )
    targets = [{"targets": [worker["address"] for worker in json.loads(told.stdout)]}]
    (directory / "workers.json").write_text(json.dumps(targets))
    port = free_port()
    command = (
        program("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (
        service(*command, port=port, log=directory / "log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=False) as http,
    ):
        yield Prometheus(http)
