"""One job in a browser: its graph, its log, what can be done to it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from dashboard.cluster import Cluster, cluster
from dashboard.site import assert_accessible, assert_no_sideways_scroll

#: A name, a tag and a word that would do something if they were ever taken for markup.
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def jobs() -> Iterator[Cluster]:
    """A scheduler and a worker, for all of these tests."""
    with cluster() as running:
        yield running


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def box(page: Page, task: str) -> Locator:
    """A task in the graph."""
    return page.locator(f'[data-task="{task}"]')


def log(page: Page) -> Locator:
    return page.locator(".log-body")


def test_a_graph_turns_green_while_it_is_watched(jobs: Cluster, page: Page) -> None:
    tasks = {
        "first": {"command": sh(jobs.gate("first"))},
        "tile": {"command": sh(jobs.gate("tile")), "array": 3, "needs": ["first"]},
        "last": {"command": ["true"], "needs": ["tile"]},
    }
    job_id = jobs.submit(name="render", tasks=tasks)
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(box(page, "first")).to_have_attribute("data-state", "running")
    expect(box(page, "last")).to_have_attribute("data-state", "pending")
    expect(page.locator(".graph-way")).to_have_count(2)
    jobs.open_gate("first")
    expect(box(page, "first")).to_have_attribute("data-state", "succeeded")
    expect(box(page, "tile")).to_have_attribute("data-state", "running")
    expect(box(page, "tile")).to_contain_text("0 / 3")
    jobs.open_gate("tile")
    for task in tasks:
        expect(box(page, task)).to_have_attribute("data-state", "succeeded")
    expect(page.locator(".job-state")).to_have_text("succeeded")
    expect(page.locator(".job-lead .progress-numbers")).to_have_text("5 / 5")
    green = page.locator("body").evaluate(
        "body => getComputedStyle(body).getPropertyValue('--ok-soft').trim()"
    )
    expect(box(page, "last").locator(".graph-rect")).to_have_css("fill", rgb(green))


def test_a_graph_is_gone_through_by_keys_and_is_there_as_a_list(jobs: Cluster, page: Page) -> None:
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    tasks = {name: {"command": ["true"], "needs": names} for name, names in needs.items()}
    job_id = jobs.submit(tasks=tasks)
    jobs.await_state(job_id, "succeeded", "d")
    jobs.site.open(page, f"/jobs/{job_id}")
    box(page, "a").focus()
    for key, task in (("ArrowRight", "b"), ("ArrowDown", "c"), ("ArrowRight", "d")):
        page.keyboard.press(key)
        expect(box(page, task)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Log of d")).to_be_visible()
    page.get_by_role("button", name="Tasks", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="d", exact=True))
    expect(row).to_contain_text("b, c")
    assert page.url.endswith(f"/jobs/{job_id}?task=d&view=tasks")


def test_a_log_is_followed_while_it_is_written(jobs: Cluster, page: Page) -> None:
    script = f"echo first; {jobs.gate('log')}; echo; printf '\\033[31mred\\033[0m '; echo second"
    job_id = jobs.submit(command=sh(script))
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(log(page)).to_have_text("first")
    expect(page.locator(".log-standing")).to_contain_text("Following it as it is written")
    jobs.open_gate("log")
    expect(log(page).locator(".ansi-ink-1")).to_have_text("red")
    expect(log(page)).to_contain_text("red second")
    expect(page.locator(".log-standing")).to_contain_text("The attempt has ended; this is all")
    expect(page.locator(".log-standing")).to_contain_text("3 lines, 27 B read")


def test_a_log_goes_on_after_the_scheduler_was_killed(
    jobs: Cluster, page: Page, expected: set[str]
) -> None:
    job_id = jobs.submit(command=sh(f"echo before; {jobs.gate('killed')}; echo after"))
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(log(page)).to_have_text("before")
    expected.add("net::ERR_")
    jobs.processes.kill_scheduler()
    expect(page.locator(".log-standing")).to_contain_text("The connection broke: trying again")
    jobs.processes.start_scheduler()
    jobs.processes.await_workers(1)
    expect(page.locator(".log-standing")).to_contain_text("Following it as it is written")
    jobs.open_gate("killed")
    expect(page.locator(".log-standing")).to_contain_text("this is all")
    assert log(page).locator(".log-line").all_inner_texts() == ["before", "after"]
    expect(page.locator(".job-state")).to_have_text("succeeded")


def test_a_log_lets_go_of_its_connection_while_nobody_looks(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=sh(f"echo before; {jobs.gate('seen')}; echo after"))
    page.clock.install()
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(log(page)).to_have_text("before")
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, arg=True)
    page.clock.fast_forward("00:31")
    expect(page.locator(".log-standing")).to_contain_text("Not followed while nobody looked")
    jobs.open_gate("seen")
    jobs.await_state(job_id, "succeeded")
    page.evaluate(hide, arg=False)
    expect(page.locator(".log-standing")).to_contain_text("this is all")
    assert log(page).locator(".log-line").all_inner_texts() == ["before", "after"]


def test_a_log_that_goes_on_and_on_takes_no_more_memory(jobs: Cluster, page: Page) -> None:
    write = "for i in $(seq 40); do seq 400; sleep 0.05; done; echo round"
    job_id = jobs.submit(command=sh(f"{write} 1; {jobs.gate('more')}; {write} 2; {write} 3"))
    jobs.site.open(page, f"/jobs/{job_id}")
    log(page).get_by_text("round 1", exact=True).wait_for()
    before = heap_bytes(page)
    jobs.open_gate("more")
    log(page).get_by_text("round 3", exact=True).wait_for()
    assert heap_bytes(page) - before < 5 * 1024**2  # all that was drawn meanwhile is some 40 MiB


def test_a_log_is_searched_and_the_other_stream_is_shown(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=sh("seq 1 5000; echo 'oh NO' >&2"))
    jobs.await_state(job_id, "succeeded")
    jobs.site.open(page, f"/jobs/{job_id}")
    search = page.get_by_role("searchbox", name="Search in the log")
    search.fill("499")
    expect(page.locator(".log-search")).to_contain_text("1 of 15")
    expect(log(page).locator(".current")).to_have_text("499")
    search.press("Shift+Enter")
    expect(log(page).locator(".current")).to_have_text("4999")
    expect(log(page).locator(".current")).to_be_in_viewport()
    page.get_by_role("button", name="stderr").click()
    search.fill("no")
    expect(log(page).locator("mark")).to_have_text("NO")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_text() == "oh NO\n"
    assert download.value.suggested_filename == f"{job_id}-main-attempt-1-stderr.log"


def test_markup_and_commands_to_a_terminal_are_shown_and_never_run(
    jobs: Cluster, page: Page
) -> None:
    script = "printf '%s\\n\\033]0;title\\007\\033[2Jafter\\n' \"$0\"; exit 3"
    command = ["sh", "-c", script, MARKUP]
    job_id = jobs.submit(name=MARKUP, tasks={"a": {"command": command}, "b": {"command": ["true"]}})
    jobs.await_state(job_id, "failed", "a")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator("h1")).to_have_text(MARKUP)
    expect(log(page)).to_contain_text(MARKUP)
    expect(log(page)).to_contain_text("after")
    expect(page.locator(".command-line")).to_contain_text(MARKUP)
    for path in ("/jobs", "/failed"):
        page.goto(f"{jobs.site.url}/dashboard/#{path}")
        expect(page.locator("main")).to_contain_text(MARKUP)
    assert dialogs == []
    assert page.locator("main img, main script").count() == 0


def test_bytes_that_are_no_text_and_a_line_without_end_do_no_harm(
    jobs: Cluster, page: Page
) -> None:
    script = (
        "head -c 200000 /dev/urandom; echo; head -c 20000000 /dev/zero | tr '\\0' x; echo; "
        "seq 1 12000; echo the end"
    )
    job_id = jobs.submit(command=sh(script))
    jobs.await_state(job_id, "succeeded")
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator(".log-standing")).to_contain_text("this is all")
    expect(page.locator(".log-note")).to_contain_text("are not shown.")
    expect(page.locator(".log-note")).to_contain_text("earlier lines left the page")
    page.locator(".log-to-end").click()
    expect(log(page).get_by_text("the end", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Show the beginning").click()
    expect(page.locator(".log-note")).to_contain_text("The first 4 MiB of it.")
    expect(log(page)).to_contain_text(re.compile(r"xxx … [\d,]+ more characters"))
    assert page.evaluate("document.querySelectorAll('.log-line').length") < 11_000


def test_a_job_is_cancelled_and_retried_after_a_question(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(name="to be stopped", command=sh(jobs.gate("stop")))
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator(".job-state")).to_have_text("running")
    expect(page.get_by_role("button", name="Retry failed")).to_be_disabled()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep as it is").click()
    assert jobs.processes.state(job_id) == "running"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(page.locator(".job-state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
    jobs.open_gate("stop")
    page.get_by_role("button", name="Retry all").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry all").click()
    expect(page.locator(".job-state")).to_have_text("succeeded")


def test_what_failed_is_retried_and_its_attempts_are_told(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=sh(f"echo attempt $DTASK_NUMBER; test -e {jobs.room}/mended"))
    jobs.await_state(job_id, "failed")
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator(".why")).to_contain_text("ended with exit code 1.")
    (jobs.room / "mended").touch()
    page.get_by_role("button", name="Retry failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry failed").click()
    expect(page.locator(".job-state")).to_have_text("succeeded")
    expect(log(page)).to_have_text("attempt 2")
    page.get_by_role("combobox", name="Attempt").select_option("1")
    expect(log(page)).to_have_text("attempt 1")
    page.get_by_role("button", name="Attempts").click()
    rows = page.locator(".views tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("failed")
    expect(rows.nth(1)).to_contain_text("exit code 1")


def test_what_waits_says_why(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=["true"], tags=["tpu"])
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator(".why")).to_contain_text("No worker can take it (tpu).")
    expect(page.locator(".run-log")).to_contain_text("It has not been run yet: there is no log.")
    jobs.site.beat("tensors", resource_tags=["tpu"])  # the job has not changed, but the reason has
    expect(page.locator(".why")).to_contain_text("1 has no open channel")
    jobs.site.ask("DELETE", f"/jobs/{job_id}")
    expect(page.locator(".job-state")).to_have_text("cancelled")


def test_an_array_is_a_grid_whose_cells_open_elements(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=sh("echo item {}; test {} != 2"), array=6)
    jobs.await_state(job_id, "failed")
    jobs.site.open(page, f"/jobs/{job_id}")
    grid = page.locator(".grid-canvas")
    grid.hover(position={"x": 45, "y": 8})
    expect(page.locator(".grid-told")).to_have_text("main[2] 1 failed")
    grid.click(position={"x": 45, "y": 8})
    expect(log(page)).to_have_text("item 2")
    grid.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(log(page)).to_have_text("item 3")
    page.get_by_text("As a list").click()
    expect(page.locator(".elements tbody tr")).to_have_count(1)
    expect(page.locator(".elements tbody")).to_contain_text("main[2]")


def test_a_million_elements_are_cells_of_many_that_open(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(command=["true"], tags=["no-such-tag"], array=1_000_000)
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(page.locator(".grid-told")).to_contain_text(re.compile(r"A cell stands for [\d,]+ "))
    page.locator(".grid-canvas").click(position={"x": 12, "y": 4})
    expect(page.locator(".grid-range")).to_contain_text(re.compile(r"Elements [\d,]+ to [\d,]+"))
    page.get_by_label("Element", exact=True).fill("999999")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_role("heading", name="Log of main[999999]")).to_be_visible()
    jobs.site.ask("DELETE", f"/jobs/{job_id}")


def test_an_attempt_that_is_chosen_in_a_long_list_comes_into_sight(
    jobs: Cluster, page: Page
) -> None:
    job_id = jobs.submit(command=sh("echo item {}"), array=20)
    jobs.await_state(job_id, "succeeded")
    jobs.site.open(page, f"/jobs/{job_id}?view=attempts")
    page.get_by_role("link", name="[7]#1").click()
    expect(log(page)).to_have_text("item 7")
    expect(log(page)).to_be_in_viewport()


def test_attempts_are_bars_in_time(jobs: Cluster, page: Page) -> None:
    job_id = jobs.submit(
        tasks={
            "flaky": {
                "command": sh("test $DTASK_NUMBER = 2"),
                "retry": {"max": 1, "backoff_s": 0},
            },
            "then": {"command": ["true"], "needs": ["flaky"]},
        }
    )
    jobs.await_state(job_id, "succeeded", "then")
    jobs.site.open(page, f"/jobs/{job_id}?view=timeline")
    bars = page.locator(".timeline-bar")
    expect(bars).to_have_count(3)
    expect(page.locator(".timeline-bar.is-failed")).to_have_count(1)
    page.locator(".timeline-bar.is-failed").click()
    expect(page.get_by_role("heading", name="Attempt 1")).to_be_visible()


def test_a_job_that_is_not_there_is_said_to_be_so(
    jobs: Cluster, page: Page, expected: set[str]
) -> None:
    expected.add("404")
    jobs.site.open(page, "/jobs/987654")
    expect(page.locator("main")).to_contain_text("There is no job 987654")
    page.goto(f"{jobs.site.url}/dashboard/#/jobs/render")
    expect(page.locator("main")).to_contain_text("Jobs have numbers, such as 42.")


@pytest.mark.parametrize("width", [1440, 390])
def test_one_job_can_be_read_by_everybody(jobs: Cluster, page: Page, width: int) -> None:
    line = r"\033[3%smink\033[0m \033[4%smpaper\033[0m\n"
    script = f"for i in 1 2 3 4 5 6 7; do printf '{line}' $i $i; done; exit 4"
    job_id = jobs.submit(
        name="a job with a name that is rather long, as they are when programs make them",
        tasks={
            "prepare-with-a-long-name": {"command": sh(script)},
            "tile": {"command": sh("test $DTASK_INDEX != 3"), "array": 40},
            "join": {"command": ["true"], "needs": ["prepare-with-a-long-name", "tile"]},
        },
    )
    jobs.await_state(job_id, "skipped", "join")
    page.set_viewport_size({"width": width, "height": 900})
    jobs.site.open(page, f"/jobs/{job_id}")
    expect(log(page)).to_contain_text("paper")
    queries = ("", "?view=tasks", "?view=timeline", "?view=attempts", "?task=tile&index=3")
    for query in queries:
        page.goto(f"{jobs.site.url}/dashboard/#/jobs/{job_id}{query}")
        expect(page.locator(".views")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        assert_no_sideways_scroll(page)
        if query == queries[-1] or (width > 1000 and query != queries[1]):
            assert_accessible(page)


def heap_bytes(page: Page) -> int:
    """What the scripts of the page hold, without what nobody refers to any more."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    used: int = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used


def rgb(colour: str) -> str:
    """`#rrggbb` as a browser gives it back."""
    values = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgb({', '.join(map(str, values))})"
