"""A real browser for tests of the pages, and what holds for every page whatever it shows.

`page` is a fresh, signed-out browser page. When its test ends, nothing may have been written to the
console, no rule of the content policy broken, no exception left uncaught, and no other host asked.
A browser writes a line of its own for each answer of 400 and above and for a connection that is
refused; a test that causes one says so beforehand: `expected.add("400")`,
`expected.add("ERR_CONNECTION_REFUSED")`.
"""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import servers
from dashboard.site import ARGUMENTS, Crowd, Site, Watch
from programs import program


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def expected() -> set[str]:
    """Words that lines of the browser's console may hold in this test."""
    return set()


@pytest.fixture
def page(browser: Browser, expected: set[str]) -> Iterator[Page]:
    """A page 1,440 pixels wide, in the light theme, with nothing kept from before."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.set_default_timeout(servers.PATIENCE_S * 1000)
    page = context.new_page()
    watch = Watch.over(page)
    yield page
    context.close()
    watch.assert_quiet(expected)


@pytest.fixture(scope="session")
def empty_site() -> Iterator[Site]:
    """A scheduler that no worker ever reported to."""
    with servers.running_scheduler() as scheduler:
        yield Site(scheduler.url, scheduler.token)


@pytest.fixture(scope="module")
def small_site() -> Iterator[Site]:
    """A scheduler with five workers, one of them draining and one offline."""
    with servers.running_scheduler(suspect_after_s=3.0, offline_after_s=3.5) as scheduler:
        site = Site(scheduler.url, scheduler.token)
        servers.beat(site.url, "gone", token=site.token)
        site.beat("gpu-1", resource_tags=["gpu", "cuda-12.4"])
        site.beat("gpu-2", resource_tags=["gpu"], current_tasks=3)
        site.beat("cpu-1", resource_tags=["cpu"], draining=True)
        site.beat("cpu-2", resource_tags=["cpu"])
        with site.beating():
            while site.ask("GET", "/workers/gone").json()["status"] != "offline":
                pass
            yield site


@pytest.fixture(scope="session")
def crowd() -> Iterator[Crowd]:
    """Thousands of workers; they stay online without heartbeats."""
    settings = {"suspect_after_s": 86_400.0, "offline_after_s": 86_400.0}
    with servers.running_scheduler(**settings) as scheduler:
        headers = servers.bearer(scheduler.token)
        with httpx.Client(base_url=scheduler.url, headers=headers, verify=False) as client:
            crowd = Crowd(Site(scheduler.url, scheduler.token), client)
            crowd.gather()
            yield crowd


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A scheduler without workers or jobs, for the tests of a module."""
    with servers.running_scheduler() as scheduler:
        yield Site(scheduler.url, scheduler.token)
