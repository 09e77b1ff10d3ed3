"""The list of jobs in a browser: 100,000 that have ended, and some that move."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard.cluster import Cluster, cluster
from dashboard.site import Site, assert_accessible, assert_no_sideways_scroll
from dtask.core.jobs.rows import WHOLE, Change, JobRow, TaskRow
from dtask.core.jobs.states import State
from dtask.store.sqlite import SqliteStore

ENDED = 100_000
SPEC = '{"tasks":{"main":{"command":["true"]}}}'


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler that keeps 100,000 jobs, each tenth of them failed, every third of `night`."""
    data = tmp_path_factory.mktemp("ended")
    fill(data)
    with cluster(data=data) as running:
        yield running


def fill(data: Path) -> None:
    store = SqliteStore(data / "dtask.db")
    rows: list[Change] = []
    yesterday = time.time() - 86_400  # older ones would not be kept
    for job_id in range(1, ENDED + 1):
        state = State.FAILED if job_id % 10 == 0 else State.SUCCEEDED
        queue = "night" if job_id % 3 == 0 else "default"
        name = f"render frame {job_id:06}"
        at = yesterday + job_id / 2
        rows.append(
            JobRow(
                job_id,
                name,
                queue,
                0,
                None,
                f"digest-{job_id}",
                state,
                at,
                at + 9,
                cancelled=False,
                spec=SPEC,
            )
        )
        rows.append(TaskRow(job_id, "main", WHOLE, state, None, None, number=1, ended_at=at + 9))
        if len(rows) >= 5_000:
            store.commit(rows)
            rows = []
    store.commit(rows)
    store.close()


def shown(page: Page) -> list[int]:
    """The numbers of the jobs on the page."""
    return [int(text) for text in page.locator(".jobs .job-number").all_inner_texts()]


def test_a_hundred_thousand_jobs_are_paged_through(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/jobs")
    expect(page.locator(".jobs tbody tr")).to_have_count(50)
    assert shown(page) == list(range(ENDED, ENDED - 50, -1))
    for turn in range(1, 4):
        page.get_by_role("button", name="Next").click()
        expect(page.locator(".job-number").first).to_have_text(str(ENDED - 50 * turn))
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".job-number").first).to_have_text(str(ENDED - 100))
    for turn in (3, 2, 1, 0):  # back through the pages as they were looked at
        page.go_back()
        expect(page.locator(".job-number").first).to_have_text(str(ENDED - 50 * turn))
    page.go_forward()
    expect(page.locator(".job-number").first).to_have_text(str(ENDED - 50))
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".job-number").first).to_have_text(str(ENDED))
    page.goto(f"{jobs.site.url}/dashboard/#/jobs?before=31")
    expect(page.locator(".jobs tbody tr")).to_have_count(30)
    assert shown(page) == list(range(30, 0, -1))
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_they_are_searched_by_name_and_by_number(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/jobs")
    search = page.get_by_role("searchbox", name="Name or number")
    search.fill("FRAME 00123")
    expect(page.locator(".jobs tbody tr")).to_have_count(10)
    assert shown(page) == list(range(1239, 1229, -1))
    search.fill("4711")
    expect(page.locator(".job-number").filter(has_text="4711")).not_to_have_count(0)
    assert 4711 in shown(page)
    search.fill("no job is called this")
    expect(page.locator(".empty")).to_contain_text("No job is like that")
    page.get_by_role("button", name="Show all jobs").click()
    expect(page.locator(".jobs tbody tr")).to_have_count(50)


def test_filters_are_part_of_the_address(jobs: Cluster, page: Page) -> None:
    jobs.site.ask("PUT", "/queues/night", json={})
    jobs.site.open(page, "/jobs")
    page.get_by_role("combobox", name="State").select_option("failed")
    page.get_by_role("combobox", name="Queue").select_option("night")
    expect(page.locator(".job-number").first).to_have_text("99990")
    assert shown(page)[:2] == [99_990, 99_960]
    assert page.url.endswith("#/jobs?state=failed&queue=night")
    page.reload()
    expect(page.locator(".job-number").first).to_have_text("99990")
    expect(page.locator(".jobs tbody tr").first).to_contain_text("1 failed")


def test_rows_move_while_they_are_looked_at(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/jobs?search=watched")
    expect(page.locator(".empty")).to_be_visible()
    script = jobs.gate("watched")
    job_id = jobs.submit(name="watched", command=["sh", "-c", script])
    row = page.locator(".jobs tbody tr")
    expect(row).to_contain_text("running")
    expect(row).to_contain_text("0 / 1")
    jobs.open_gate("watched")
    expect(row).to_contain_text("succeeded")
    expect(row).to_contain_text("1 / 1")
    row.get_by_role("link").click()
    assert page.url.endswith(f"#/jobs/{job_id}")


@pytest.mark.parametrize("width", [1440, 390])
def test_the_list_can_be_read_by_everybody(jobs: Cluster, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    jobs.site.open(page, "/jobs?state=failed&search=frame 0999")
    expect(page.locator(".jobs tbody tr")).to_have_count(10)
    assert_no_sideways_scroll(page)
    assert_accessible(page)


def test_without_jobs_it_teaches_how_to_submit_one(site: Site, page: Page) -> None:
    site.open(page, "/jobs")
    expect(page.locator(".empty")).to_contain_text("dtask submit -- echo hello")
    page.get_by_role("link", name="Submit a job").click()
    expect(page.locator("h1")).to_have_text("Submit")
