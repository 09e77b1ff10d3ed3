"""A scheduler as somebody with a browser meets it, and a watch over what that browser reports."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Error, Page, Request

import servers

ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: What axe-core calls bad enough to fail; "moderate" and "minor" are advice.
_SERIOUS: Final = {"serious", "critical"}


@dataclass(frozen=True)
class Site:
    """Where the pages are, and who may sign in there."""

    url: str
    token: str
    #: The last heartbeat of each worker that `beat`.
    beats: dict[str, dict[str, Any]] = field(default_factory=dict)

    def link(self) -> str:
        """A link that signs in, as `dtask dashboard` opens it."""
        code = self.ask("POST", "/sign-in-codes").json()["code"]
        return f"{self.url}/dashboard/#code={code}"

    def open(self, page: Page, path: str = "/") -> None:
        """Sign `page` in and go to a page, such as `/workers`; wait until its data are live."""
        page.goto(self.link())
        page.locator(".pulse.live").wait_for()
        if path != "/":
            page.evaluate("hash => { location.hash = hash; }", f"#{path}")
        page.locator("main h1").wait_for()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The API's answer to an operator: `ask("GET", "/workers")`."""
        headers = servers.bearer(self.token)
        answer = httpx.request(
            method, f"{self.url}/api/v1{path}", headers=headers, verify=False, **request
        )
        return answer.raise_for_status()

    def beat(self, worker_id: str, **fields: Any) -> None:
        """One heartbeat of a trusted worker."""
        self.beats[worker_id] = fields
        servers.beat(self.url, worker_id, token=self.token, **fields).raise_for_status()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """All workers that `beat` so far go on with it, those that come later too."""
        over = Event()

        def beat() -> None:
            while not over.wait(0.5):
                for worker_id, fields in list(self.beats.items()):
                    servers.beat(self.url, worker_id, token=self.token, **fields)

        with ThreadPoolExecutor(1) as pool:
            beats = pool.submit(beat)
            yield
            over.set()
            beats.result()


@dataclass
class Crowd:
    """A scheduler with thousands of workers and a job of 100,000 tasks that wait."""

    site: Site
    client: httpx.Client
    turns: int = 0

    #: `w-0000` and on, each of four slots.
    WORKERS: ClassVar[int] = 5_000
    TASKS: ClassVar[int] = 100_000
    #: How many get a task for a second in one `stir`.
    STIRRED: ClassVar[int] = 1_000

    def gather(self) -> None:
        """Let all of them heartbeat, and the job wait."""
        for number in range(self.WORKERS):
            self._beat(number, number % 4)
        job = {"command": ["true"], "array": self.TASKS, "tags": ["no-such-tag"]}
        self.client.post("/api/v1/jobs", json=job).raise_for_status()

    def stir(self) -> None:
        """Change the load of many in one step, and again a second later when the leases end."""
        self.turns += 1
        names = [f"{self.turns}-{number}" for number in range(self.STIRRED)]
        tasks = [{"task_id": name, "required_tags": ["cpu"], "ttl_s": 1} for name in names]
        self.client.post("/api/v1/schedule", json={"tasks": tasks}).raise_for_status()

    def _beat(self, number: int, taken: int) -> None:
        body = {
            "worker_id": f"w-{number:04}",
            "address": f"10.0.{number // 250}.{number % 250}:1",
            "resource_tags": ["cpu", "zone=eu" if number % 2 else "zone=us"],
            "max_tasks": 4,
            "current_tasks": taken,
        }
        self.client.post("/api/v1/heartbeat", json=body).raise_for_status()


@dataclass
class Watch:
    """What a page should not do."""

    console: list[str] = field(default_factory=list)
    uncaught: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    @classmethod
    def over(cls, page: Page) -> Watch:
        """Watch a page from now on."""
        watch = cls()
        page.on("console", watch._spoken)
        page.on("pageerror", watch._failed)
        page.on("request", watch._asked)
        return watch

    def assert_quiet(self, expected: set[str]) -> None:
        """Nothing was wrong but what was expected, and one host was asked at most."""
        strange = [line for line in self.console if not any(word in line for word in expected)]
        assert not strange, "\n".join(strange)
        assert not self.uncaught, "\n".join(self.uncaught)
        assert len(self.hosts) <= 1, self.hosts

    def _spoken(self, message: ConsoleMessage) -> None:
        self.console.append(f"{message.type}: {message.text}")

    def _failed(self, error: Error) -> None:
        self.uncaught.append(f"{error.message}\n{error.stack}")

    def _asked(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in {"http", "https", "ws", "wss"}:
            self.hosts.add(url.netloc)


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious on the page, in either theme."""
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        found = Axe().run(page).response["violations"]
        serious = [
            f"{theme}: {each['id']}: {each['help']}: {[node['html'] for node in each['nodes'][:3]]}"
            for each in found
            if each["impact"] in _SERIOUS
        ]
        assert not serious, "\n".join(serious)


def assert_no_sideways_scroll(page: Page) -> None:
    """The page fits its window, once that has settled; what is wider scrolls inside itself."""
    page.wait_for_function(
        "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
