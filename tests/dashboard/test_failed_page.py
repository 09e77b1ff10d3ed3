"""What failed, in a browser: alike as one, and retried together."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from dashboard.cluster import Cluster, cluster
from dashboard.site import Site, assert_accessible, assert_no_sideways_scroll


@pytest.fixture(scope="module")
def jobs() -> Iterator[Cluster]:
    """A scheduler and a worker, for all of these tests."""
    with cluster() as running:
        yield running


def group(page: Page, name: str) -> Locator:
    return page.locator(".failure").filter(has=page.locator("h2", has_text=name))


def fail(jobs: Cluster, name: str, times: int, script: str) -> list[int]:
    numbers = [jobs.submit(name=name, command=["sh", "-c", script]) for _ in range(times)]
    for number in numbers:
        jobs.await_state(number, "failed")
    return numbers


def test_failures_that_are_alike_are_one_and_are_retried_together(
    jobs: Cluster, page: Page
) -> None:
    numbers = fail(jobs, "nightly", 3, f"test -e {jobs.room}/mended || exit 7")
    (other,) = fail(jobs, "killed", 1, f"test -e {jobs.room}/mended || kill -9 $$")
    lost = jobs.submit(name="not there", command=["/no/such/program"])
    jobs.await_state(lost, "failed")
    jobs.site.open(page, "/failed")
    nightly = group(page, "nightly")
    expect(nightly).to_contain_text("exit code 7")
    expect(nightly).to_contain_text("3 times in 3 jobs")
    for number in numbers:
        expect(nightly.get_by_role("link", name=str(number), exact=True)).to_be_visible()
    expect(group(page, "killed")).to_contain_text("signal 9 (SIGKILL)")
    expect(group(page, "killed")).to_contain_text(str(other))
    expect(group(page, "not there")).to_contain_text("could not be started")
    expect(group(page, "not there").locator("pre")).to_contain_text("/no/such/program")

    (jobs.room / "mended").touch()
    nightly.get_by_role("button", name="Retry 3").click()
    page.get_by_role("button", name="Retry 3 jobs").click()
    expect(nightly).to_have_count(0)
    for number in numbers:
        jobs.await_state(number, "succeeded")
    expect(group(page, "killed")).to_be_visible()


def test_what_is_refused_in_a_retry_of_many_is_told(
    jobs: Cluster, page: Page, expected: set[str]
) -> None:
    numbers = fail(jobs, "twice", 2, f"test -e {jobs.room}/twice || exit 5; {jobs.gate('go')}")
    jobs.site.open(page, "/failed")
    expect(group(page, "twice")).to_contain_text("2 times")
    expected.add("404")
    # As if one were forgotten between the question and the answer.
    page.route(
        f"**/jobs/{numbers[0]}/retry",
        lambda route: route.continue_(url=route.request.url.replace(f"/{numbers[0]}/", "/98765/")),
    )
    (jobs.room / "twice").touch()
    group(page, "twice").get_by_role("button", name="Retry 2").click()
    page.get_by_role("button", name="Retry 2 jobs").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 of 2 jobs started over, 1 refused.")
    expect(dialog.get_by_role("alert")).to_contain_text("There is no job 98765")
    dialog.get_by_role("button", name="Close").click()
    expect(group(page, "twice")).to_contain_text("1 time in 1 job")
    jobs.open_gate("go")
    jobs.await_state(numbers[1], "succeeded")


@pytest.mark.parametrize("width", [1440, 390])
def test_failures_can_be_read_by_everybody(jobs: Cluster, page: Page, width: int) -> None:
    fail(jobs, "a-name-without-any-space-in-it-that-goes-on-and-on-and-on-and-on", 1, "exit 9")
    page.set_viewport_size({"width": width, "height": 900})
    jobs.site.open(page, "/failed")
    expect(page.locator(".failure").first).to_be_visible()
    assert_no_sideways_scroll(page)
    assert_accessible(page)


def test_without_failures_it_says_so(site: Site, page: Page) -> None:
    site.open(page, "/failed")
    expect(page.locator(".empty")).to_contain_text("No failed jobs")
    assert_accessible(page)
