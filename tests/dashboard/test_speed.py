"""Pages stay quick with 5,000 workers and 100,000 tasks.

Machines that run tests are shared, so of a few tries one has to be quick enough; an update is
measured in the time of the page's own thread.
"""

import pytest
from playwright.sync_api import Browser, CDPSession, Page

from dashboard.site import Crowd

#: What the pages promise.
USABLE_MS = 1_500
UPDATE_MS = 50
TRIES = 5
UPDATES = 4
ROUNDS = 3

#: Growth of the heap over a dozen updates that is no leak: lines of charts, compiled code. It is
#: 20 to 140 KB; what leaks 40 KB with each takes 48 MB in ten minutes.
FLAT_BYTES = 500_000

_COUNT_UPDATES = """
  window.updates = 0;
  const add = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function (type, listener) {
    const counted = (event) => { listener(event); window.updates += 1; };
    return add.call(this, type, type === "update" ? counted : listener);
  };
"""


def test_the_first_page_is_usable_soon(browser: Browser, crowd: Crowd) -> None:
    taken: list[float] = []
    while not taken or (taken[-1] >= USABLE_MS and len(taken) < TRIES):
        context = browser.new_context()  # nothing is kept of the visit before
        page = context.new_page()
        page.goto(crowd.site.link())
        page.locator(".picture canvas").wait_for()
        taken.append(page.evaluate("performance.now()"))
        context.close()
    assert min(taken) < USABLE_MS, taken


@pytest.mark.parametrize(
    ("path", "there"), [("/", ".picture canvas"), ("/workers?sort=load", "tbody tr")]
)
def test_an_update_costs_little_and_leaves_nothing_behind(
    page: Page, crowd: Crowd, path: str, there: str
) -> None:
    page.add_init_script(_COUNT_UPDATES)
    crowd.site.open(page, path)
    page.locator(there).first.wait_for()
    look = page.context.new_cdp_session(page)
    look.send("Performance.enable", {"timeDomain": "threadTicks"})
    costs = [_cost_ms(page, look, crowd) for _ in range(ROUNDS)]
    before = _heap_bytes(look)
    costs += [_cost_ms(page, look, crowd) for _ in range(ROUNDS)]
    grown = _heap_bytes(look) - before
    assert min(costs) < UPDATE_MS, costs
    assert grown < FLAT_BYTES


def _cost_ms(page: Page, look: CDPSession, crowd: Crowd) -> float:
    """What an update takes of the page's thread, on average, while a thousand workers change."""
    before = _measured(look, "TaskDuration")
    seen = page.evaluate("window.updates")
    for number in range(UPDATES):
        crowd.stir()
        page.wait_for_function("wanted => window.updates > wanted", arg=seen + number)
    spent_s = _measured(look, "TaskDuration") - before
    return spent_s / (page.evaluate("window.updates") - seen) * 1000


def _heap_bytes(look: CDPSession) -> float:
    look.send("HeapProfiler.collectGarbage")
    return _measured(look, "JSHeapUsedSize")


def _measured(look: CDPSession, name: str) -> float:
    metrics = look.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in metrics if each["name"] == name)
