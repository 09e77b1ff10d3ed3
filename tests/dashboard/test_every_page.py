"""Every page, of a fleet of nobody, of five and of thousands with 100,000 tasks that wait."""

from playwright.sync_api import Page, expect

from dashboard.site import Crowd, Site, assert_accessible, assert_no_sideways_scroll

PATHS = ("/", "/workers", "/workers?requires=cpu", "/jobs", "/failed", "/submit", "/submit?as=file")


def assert_readable(page: Page, site: Site, paths: tuple[str, ...]) -> None:
    """Each is there, fits wide and narrow windows, and can be read by everybody, light and dark."""
    site.open(page)
    for path in paths:
        page.evaluate("path => { location.hash = path; }", f"#{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        expect(page.locator("main .panel").first).to_be_visible()
        assert_accessible(page)
        for width in (390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert_no_sideways_scroll(page)


def test_with_nobody(page: Page, empty_site: Site) -> None:
    assert_readable(page, empty_site, PATHS)


def test_with_five(page: Page, small_site: Site) -> None:
    job = small_site.ask("POST", "/jobs", json={"command": ["true"], "tags": ["nowhere"]}).json()
    assert_readable(page, small_site, (*PATHS, "/workers/gpu-1", f"/jobs/{job['job_id']}"))


def test_with_thousands(page: Page, crowd: Crowd) -> None:
    assert_readable(page, crowd.site, (*PATHS, "/workers/w-0007", "/jobs/1", "/jobs/1?index=99999"))
