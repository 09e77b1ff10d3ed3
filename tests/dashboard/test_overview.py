"""The overview with no worker, with a few, and with thousands."""

import pytest
from playwright.sync_api import Page, expect

from dashboard.site import Crowd, Site, assert_accessible, assert_no_sideways_scroll


def test_without_workers_it_teaches_how_to_start_one(page: Page, empty_site: Site) -> None:
    empty_site.open(page)
    fleet = page.get_by_role("region", name="Fleet")
    expect(fleet).to_contain_text(f"dtask-worker --scheduler {empty_site.url}")
    expect(page.get_by_role("region", name="Needs attention")).to_contain_text("Nothing does.")
    assert_accessible(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert_no_sideways_scroll(page)


def test_a_few_workers_are_tiles_with_their_names_and_their_state(
    page: Page, small_site: Site
) -> None:
    small_site.open(page)
    fleet = page.get_by_role("region", name="Fleet")
    expect(fleet.get_by_role("listitem")).to_have_count(5)
    busy = fleet.get_by_role("link", name="gpu-2")
    expect(busy).to_contain_text("3 / 4")
    expect(fleet.get_by_role("link", name="gone")).to_contain_text("offline")
    expect(fleet.get_by_role("link", name="cpu-1")).to_contain_text("draining")
    small_site.beat("gpu-2", resource_tags=["gpu"], current_tasks=4)
    expect(busy).to_contain_text("4 / 4")
    busy.click()
    expect(page.get_by_role("heading", name="gpu-2", level=1)).to_be_visible()


def test_the_figures_and_queues_are_those_of_the_scheduler(page: Page, small_site: Site) -> None:
    small_site.ask("PUT", "/queues/nightly", json={"max_running": 7, "paused": True})
    small_site.ask("POST", "/jobs", json={"command": ["true"], "queue": "nightly", "array": 12})
    small_site.open(page)
    nightly = page.get_by_role("row", name="nightly")
    expect(nightly).to_contain_text("paused")
    expect(nightly.get_by_role("cell").nth(0)).to_have_text("12")
    expect(nightly.get_by_role("cell").nth(2)).to_have_text("0 of 7")
    expect(page.get_by_role("region", name="Tasks by state")).to_contain_text("queued12")
    assert_accessible(page)


@pytest.mark.parametrize("path", ["/", "/workers", "/workers/gpu-1"])
def test_pages_fit_narrow_screens(page: Page, small_site: Site, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    small_site.open(page, path)
    page.locator(".panel").first.wait_for()
    assert_no_sideways_scroll(page)
    assert_accessible(page)


def test_markup_in_names_and_tags_is_shown_and_never_run(page: Page, site: Site) -> None:
    evil = "<img/src=x/onerror=alert(1)>"
    tag = "<script>alert(2)</script>".replace("<", "{").replace(">", "}")  # reserved in tags
    site.beat(evil, resource_tags=[tag], metrics={"<b>hot</b>": "<i>very</i>"})
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    site.open(page)
    page.get_by_role("link", name=evil).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(evil)
    expect(page.get_by_role("main")).to_contain_text("<b>hot</b>")
    assert page.locator("main img, main b:text('hot')").count() == 0


def test_thousands_of_workers_are_one_picture_for_eyes_keys_and_readers(
    page: Page, crowd: Crowd
) -> None:
    crowd.site.open(page)
    fleet = page.get_by_role("region", name="Fleet")
    expect(fleet).to_contain_text("5,000 workers, 5,000 online")
    picture = fleet.get_by_role("listbox")
    option = fleet.get_by_role("option")
    picture.focus()
    expect(option).to_have_text("w-0000: online, 0 of 4 slots taken")
    page.keyboard.press("End")
    expect(option).to_have_text("w-4999: online, 3 of 4 slots taken")
    page.keyboard.press("ArrowLeft")
    expect(option).to_have_attribute("aria-posinset", "4999")
    page.keyboard.press("Home")
    picture.hover(position={"x": 4, "y": 4})
    expect(fleet.locator(".tip")).to_contain_text("w-0000")
    assert_accessible(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="w-0001", level=1)).to_be_focused()


def test_the_picture_shows_load_in_colours(page: Page, crowd: Crowd) -> None:
    """The middles of the first four cells: idle, a quarter, half, and three quarters taken."""
    crowd.site.open(page)
    page.locator(".picture canvas").wait_for()
    colours = page.evaluate(
        """async (count) => {
          const { arrange, corner } = await import("./cells.js");
          const canvas = document.querySelector(".picture canvas");
          const grid = arrange(count, canvas.clientWidth);
          const row = canvas.getContext("2d").getImageData(0, grid.size / 2, canvas.width, 1).data;
          return [0, 1, 2, 3].map((cell) => {
            const middle = Math.round(corner(grid, cell)[0] + grid.size / 2);
            return row.slice(middle * 4, middle * 4 + 4).join();
          });
        }""",
        crowd.WORKERS,
    )
    assert len(set(colours)) == len(colours)
