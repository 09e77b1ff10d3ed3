"""The table of workers, and one worker."""

import re

from playwright.sync_api import Page, expect

from dashboard.site import Crowd, Site, assert_accessible
from workers import worker_process


def test_without_workers_it_teaches_how_to_start_one(page: Page, empty_site: Site) -> None:
    empty_site.open(page, "/workers")
    expect(page.get_by_role("main")).to_contain_text(f"--scheduler {empty_site.url} --tags cpu")
    assert_accessible(page)


def test_a_requirement_shows_who_would_match_and_what_the_others_miss(
    page: Page, small_site: Site
) -> None:
    small_site.open(page, "/workers")
    page.get_by_label("Requirement").fill("gpu,cuda>=12.0")
    expect(page.get_by_text("1 of 5 workers would match")).to_be_visible()
    rows = page.get_by_role("row")
    expect(rows.nth(1)).to_contain_text("gpu-1")
    expect(page.get_by_role("row", name="gpu-2")).to_contain_text(
        re.compile(r"misses\s*cuda>=12.0")
    )
    expect(page.get_by_role("row", name="cpu-1")).to_contain_text("gpu")
    page.get_by_label("Show").select_option("matching")
    expect(rows).to_have_count(2)
    assert "requires=gpu" in page.url
    page.reload()
    expect(rows).to_have_count(2)
    assert_accessible(page)


def test_a_wrong_requirement_is_answered_with_the_sentence_of_the_api(
    page: Page, small_site: Site, expected: set[str]
) -> None:
    expected.add("400")
    small_site.open(page, "/workers?requires=cuda>>1")
    field = page.get_by_label("Requirement")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".wrong")).to_contain_text("cuda>>1")
    expect(page.get_by_role("row")).to_have_count(6)
    field.fill("gpu")
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("2 of 5 workers would match")).to_be_visible()


def test_the_table_filters_and_sorts(page: Page, small_site: Site) -> None:
    small_site.open(page, "/workers")
    rows = page.get_by_role("row")
    page.get_by_role("button", name="Slots taken").click()
    page.get_by_role("button", name="Slots taken").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Slots taken")
    expect(rows.nth(1)).to_contain_text(re.compile("gpu-2"))
    page.get_by_label("Status").select_option("offline")
    expect(rows).to_have_count(2)
    page.get_by_label("Status").select_option("")
    page.get_by_role("searchbox", name="Worker").fill("cpu")
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox", name="Worker").fill("nobody")
    expect(page.get_by_text("No worker is like this")).to_be_visible()


def test_thousands_of_workers_are_pages_of_a_table(page: Page, crowd: Crowd) -> None:
    crowd.site.open(page, "/workers")
    expect(page.get_by_text("1 to 50 of 5,000")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(51)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("51 to 100 of 5,000")).to_be_visible()
    expect(page.get_by_role("row", name="w-0050")).to_be_visible()
    page.get_by_role("searchbox", name="Worker").fill("w-4999")
    expect(page.get_by_text("1 to 1 of 1")).to_be_visible()


def test_a_worker_is_drained_and_undrained_after_a_question(page: Page, small_site: Site) -> None:
    small_site.open(page, "/workers/gpu-1")
    page.get_by_role("button", name="Drain", exact=True).click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("It gets no new tasks")
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(question).to_have_count(0)
    assert small_site.ask("GET", "/workers/gpu-1").json()["draining"] is False
    page.get_by_role("button", name="Drain", exact=True).click()
    question.get_by_role("button", name="Drain", exact=True).click()
    expect(page.locator(".page-lead")).to_contain_text("draining")
    assert small_site.ask("GET", "/workers/gpu-1").json()["draining"] is True
    page.get_by_role("button", name="Undrain").click()
    question.get_by_role("button", name="Undrain").click()
    expect(page.locator(".page-lead")).not_to_contain_text("draining")


def test_a_worker_shows_what_it_holds(page: Page, small_site: Site) -> None:
    placed = small_site.ask(
        "POST", "/schedule", json={"task_id": "backup <b>", "required_tags": ["cuda>=12"]}
    ).json()
    assert placed["worker_id"] == "gpu-1"
    small_site.open(page, "/workers/gpu-1")
    row = page.get_by_role("row", name="backup <b>")
    expect(row).to_contain_text("placed by a client")
    expect(row).to_contain_text(str(placed["fence"]))
    expect(page.get_by_role("region", name="Load")).to_be_visible()
    small_site.ask("DELETE", "/schedule/backup <b>")
    expect(page.get_by_text("It runs nothing")).to_be_visible()


def test_its_tasks_lead_to_their_jobs(page: Page, site: Site) -> None:
    job = {"name": "nap", "command": ["sleep", "60"], "tags": ["cpu"], "array": 2}
    with worker_process("--id", "real", "--tags", "cpu", scheduler=site.url, token=site.token):
        number = site.ask("POST", "/jobs", json=job).json()["job_id"]
        site.open(page, "/workers/real")
        page.get_by_role("link", name=f"{number}/main[1]#1").click()
        expect(page.get_by_role("heading", name="nap", level=1)).to_be_visible()
        assert f"#/jobs/{number}?task=main&index=1" in page.url
        site.ask("DELETE", f"/jobs/{number}")


def test_a_worker_that_is_not_known_says_so(
    page: Page, small_site: Site, expected: set[str]
) -> None:
    expected.add("404")
    small_site.open(page, "/workers/nobody%2Fhere")
    expect(page.get_by_role("heading", name="nobody/here")).to_be_visible()
    expect(page.get_by_text("This worker is not known")).to_be_visible()
