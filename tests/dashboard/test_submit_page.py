"""Submitting in a browser: a command, a file, and what is wrong with them."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from dashboard.cluster import Cluster, cluster
from dashboard.site import assert_accessible, assert_no_sideways_scroll


@pytest.fixture(scope="module")
def jobs() -> Iterator[Cluster]:
    """A scheduler and a worker, for all of these tests."""
    with cluster() as running:
        yield running


def submit(page: Page) -> None:
    page.get_by_role("button", name="Submit", exact=True).click()


def number(page: Page) -> int:
    """Of the job that the page has gone to."""
    page.wait_for_url("**/#/jobs/*")
    return int(page.url.rpartition("/")[2])


def test_a_command_is_submitted_with_all_that_the_form_has(jobs: Cluster, page: Page) -> None:
    jobs.site.ask("PUT", "/queues/night", json={})
    jobs.site.open(page, "/submit")
    page.get_by_label("Command").fill("sh -c 'echo \"$DTASK_ITEM $EPOCHS\"'")
    expect(page.locator(".word-list li")).to_have_text(["sh", "-c", 'echo "$DTASK_ITEM $EPOCHS"'])
    page.get_by_text("More").click()
    values = {
        "Name": "sweep",
        "Queue": "night",
        "Tags": "!tpu, !fpga",
        "Priority": "7",
        "Timeout": "1h30m",
        "Retries": "2",
        "Array": "north\nsouth",
        "Variables": "EPOCHS=3",
    }
    for label, value in values.items():
        page.get_by_label(label, exact=True).fill(value)
    submit(page)
    job_id = number(page)
    expect(page.locator(".job-state")).to_have_text("succeeded")
    job = jobs.site.ask("GET", f"/jobs/{job_id}").json()
    assert (job["name"], job["queue"], job["priority"]) == ("sweep", "night", 7)
    assert job["tasks"]["main"]["counts"] == {"succeeded": 2}
    spec = jobs.site.ask("GET", f"/jobs/{job_id}/tasks/main").json()["spec"]
    assert spec["tags"] == ["!tpu", "!fpga"]
    assert spec["timeout_s"] == 5400
    assert spec["retry"]["max"] == 2
    log = jobs.site.ask("GET", f"/jobs/{job_id}/tasks/main/log?index=1").text
    assert log == "south 3\n"


def test_a_shell_is_offered_where_one_is_meant(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/submit")
    page.get_by_label("Command").fill("echo hello | tr a-z A-Z")
    expect(page.locator(".field-note")).to_contain_text("No shell looks at this: a pipe")
    page.get_by_label("Run it by a shell").check()
    submit(page)
    job_id = number(page)
    jobs.await_state(job_id, "succeeded")
    expect(page.locator(".log-body")).to_have_text("HELLO")
    expect(page.locator("h1")).to_have_text("echo hello | tr a-z A-Z")


def test_clicking_twice_is_one_job(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/submit")
    page.get_by_label("Command").fill("true twice")
    page.evaluate(
        """() => {
            const form = document.querySelector("form");
            form.requestSubmit();
            form.requestSubmit();
        }"""
    )
    job_id = number(page)
    jobs.await_state(job_id, "succeeded")
    found = jobs.site.ask("GET", "/jobs?search=true twice").json()
    assert [job["job_id"] for job in found] == [job_id]


def test_what_is_wrong_in_a_field_is_said_beside_it(
    jobs: Cluster, page: Page, expected: set[str]
) -> None:
    jobs.site.open(page, "/submit")
    submit(page)
    command = page.get_by_label("Command")
    expect(command).to_be_focused()
    expect(command).to_have_accessible_description(
        "Expected a command, such as: python train.py --epochs 3"
    )
    command.fill("true")
    page.get_by_label("Timeout").fill("soon")
    page.get_by_label("Retries").fill("-1")
    submit(page)
    expect(page.get_by_label("Timeout")).to_have_accessible_description(
        "Expected a duration such as 90, 5m, 2h or 1h30m."
    )
    expect(page.get_by_label("Timeout")).to_be_focused()
    page.get_by_label("Timeout").fill("")
    expect(page.get_by_label("Retries")).to_have_accessible_description(
        "Expected a whole number from 0 to 1,000."
    )
    page.get_by_label("Retries").fill("")
    page.get_by_label("Tags", exact=True).fill("gpu>>3")
    expected.update({"400", "404"})
    submit(page)
    expect(page.get_by_label("Tags", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"^'>3' in 'gpu>>3'|^'gpu>>3'"))
    page.get_by_label("Tags", exact=True).fill("")
    page.get_by_label("Queue", exact=True).fill("nowhere")
    submit(page)
    expect(page.get_by_role("alert")).to_contain_text("There is no queue 'nowhere'")
    expect(page.get_by_label("Queue", exact=True)).to_have_attribute("aria-invalid", "true")


WRONG = """\
name: render
tasks:
  prepare:
    command: [true]
  tile:
    command: [true]
    needs: [prepared]
"""


def test_what_the_api_refuses_in_a_file_is_shown_at_its_line(
    jobs: Cluster, page: Page, expected: set[str]
) -> None:
    jobs.site.open(page, "/submit?as=file")
    editor = page.get_by_label("Job file, YAML or JSON")
    editor.fill(WRONG)
    expect(page.locator(".file-said")).to_have_text("2 tasks.")
    expected.add("400")
    submit(page)
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("Line 7: tasks.tile.needs: there is no task 'prepared' in this job.")
    expect(page.locator(".line-numbers .wrong")).to_have_text("7")
    alert.get_by_role("button", name="Line 7").click()
    assert page.evaluate("getSelection().toString()") == "    needs: [prepared]"
    editor.fill(WRONG.replace("prepared", "prepare").replace("tile:", "tile:\n    need: [x]"))
    submit(page)
    expect(alert).to_contain_text("Line 6: tasks.tile.need: there is no such field")
    editor.fill(WRONG.replace("prepared", "tile"))
    submit(page)
    expect(alert).to_contain_text("Line 7: tasks: they need each other in a cycle")
    editor.fill(WRONG.replace("prepared", "prepare"))
    expect(alert).to_have_count(0)
    submit(page)
    job_id = number(page)
    jobs.await_state(job_id, "succeeded", "tile")


def test_what_is_no_yaml_is_told_while_it_is_typed(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/submit?as=file")
    editor = page.get_by_label("Job file, YAML or JSON")
    editor.fill("name: x\ntasks: {a: {command: [true]}\n")
    expect(page.locator(".file-said")).to_contain_text("Line 3: Flow map")
    expect(page.locator(".line-numbers .wrong")).to_have_text("3")
    editor.fill("")
    editor.press_sequentially("tasks:\na:\ncommand: [echo, <b>hi</b>]")
    assert editor.input_value() == "tasks:\n  a:\n    command: [echo, <b>hi</b>]"


def test_the_example_and_a_file_of_the_disk_can_be_submitted(jobs: Cluster, page: Page) -> None:
    jobs.site.open(page, "/submit?as=file")
    page.get_by_role("button", name="Insert an example").click()
    expect(page.locator(".file-said")).to_have_text("3 tasks, 18 elements in all.")
    page.get_by_label("Open a file…").set_input_files(
        {
            "name": "job.json",
            "mimeType": "application/json",
            "buffer": b'{"name":"from a file","command":["true"]}',
        }
    )
    expect(page.locator(".file-said")).to_have_text("One command.")
    submit(page)
    jobs.await_state(number(page), "succeeded")
    expect(page.locator("h1")).to_have_text("from a file")


@pytest.mark.parametrize("width", [1440, 390])
def test_submitting_can_be_done_by_everybody(jobs: Cluster, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    jobs.site.open(page, "/submit")
    page.get_by_text("More").click()
    submit(page)
    assert_no_sideways_scroll(page)
    assert_accessible(page)
    page.get_by_role("button", name="Job file").click()
    page.get_by_role("button", name="Insert an example").click()
    expect(page.locator(".file-said")).not_to_be_empty()
    assert_no_sideways_scroll(page)
    assert_accessible(page)
