"""Signing in and out, losing the scheduler, and what is around every page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import servers
from dashboard.site import Site, assert_accessible, assert_no_sideways_scroll

#: What a browser does when another tab is chosen, or this one again.
_HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_link_signs_in_and_leaves_no_code_in_the_address(page: Page, site: Site) -> None:
    page.goto(site.link())
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert page.url == f"{site.url}/dashboard/#/"
    page.reload()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()


def test_a_link_signs_in_once(page: Page, site: Site, expected: set[str]) -> None:
    expected.add("403")
    link = site.link()
    site.ask("POST", "/session", json={"code": link.partition("#code=")[2]})
    page.goto(link)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("dtask dashboard")


def test_whoever_is_not_signed_in_is_told_how_to_be(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/dashboard/#/workers")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("dtask dashboard")
    assert_accessible(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert_no_sideways_scroll(page)


def test_signing_out_ends_the_session(page: Page, site: Site) -> None:
    site.open(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_who_could_not_be_signed_out_is_told_so(page: Page, site: Site, expected: set[str]) -> None:
    expected.add("ERR_FAILED")
    site.open(page)
    page.route("**/api/v1/session", lambda route: route.abort())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_contain_text("Still signed in")
    expect(page.locator(".pulse.live")).to_be_visible()


def test_signing_out_in_one_tab_signs_out_the_others(page: Page, site: Site) -> None:
    site.open(page)
    other = page.context.new_page()
    other.goto(f"{site.url}/dashboard/")
    other.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_that_ended_leads_to_the_sign_in_page(
    page: Page, site: Site, expected: set[str]
) -> None:
    expected.add("401")
    site.open(page)
    page.context.clear_cookies()
    page.evaluate("location.hash = '#/jobs'")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_theme_is_the_systems_until_one_is_chosen(page: Page, site: Site) -> None:
    site.open(page)
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Use the light theme").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")


def test_the_keyboard_goes_to_the_page_and_its_heading_is_read(page: Page, site: Site) -> None:
    site.open(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.get_by_role("link", name="Workers", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="Workers", level=1)).to_be_focused()
    expect(page).to_have_title("Workers · dtask")
    page.go_back()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_focused()


def test_an_address_without_a_page_says_so(page: Page, site: Site) -> None:
    site.open(page, "/no/such/page")
    expect(page.get_by_role("heading", name="No such page")).to_be_visible()
    page.get_by_role("link", name="Go to the overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_lost_scheduler_is_told_of_and_so_is_its_return(
    page: Page, expected: set[str], tmp_path: Path
) -> None:
    expected.update({"ERR_", "Failed to load resource"})
    told = page.get_by_role("status")
    data = tmp_path / "data"
    with servers.running_scheduler(data=data) as scheduler:
        site = Site(scheduler.url, scheduler.token)
        site.open(page)
        site.beat("only")
        expect(page.get_by_role("link", name="only")).to_be_visible()
        port = int(scheduler.url.rpartition(":")[2])
    expect(told).to_contain_text("Connection lost. Showing the state of")
    expect(page.get_by_text("Not live")).to_be_visible()
    expect(page.get_by_role("link", name="only")).to_be_visible()
    page.get_by_role("link", name="Workers", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("could not be loaded from the scheduler")
    with servers.running_scheduler(data=data, port=port):
        expect(page.get_by_text("No worker has reported yet")).to_be_visible()
        expect(page.locator(".pulse.live")).to_be_visible()


def test_a_tab_that_nobody_sees_lets_its_stream_go(page: Page, site: Site) -> None:
    page.clock.install()
    site.open(page)
    page.evaluate(_HIDE, arg=True)
    page.clock.run_for(31_000)
    expect(page.get_by_text("Not live")).to_be_visible()
    site.beat("seen-later")
    page.evaluate(_HIDE, arg=False)
    expect(page.locator(".pulse.live")).to_be_visible()
    expect(page.get_by_role("link", name="seen-later")).to_be_visible()


@pytest.mark.parametrize("wrong_by_s", [-86_400, 3_600])
def test_ages_are_right_whatever_the_clock_of_the_browser(
    page: Page, site: Site, wrong_by_s: int
) -> None:
    page.add_init_script(
        f"const now = Date.now.bind(Date); Date.now = () => now() + {wrong_by_s * 1000};"
    )
    site.beat("punctual")
    site.open(page, "/workers/punctual")
    expect(page.locator(".page-lead time")).to_have_text(re.compile(r"^(now|\d s ago)$"))
