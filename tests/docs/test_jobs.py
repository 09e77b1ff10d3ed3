"""Every example of docs/jobs.md is run, and every command there is one."""

import re
from pathlib import Path

from docs import pages
from docs.reader import follow
from dtask.cli import ending, main
from dtask.cli.entry import INTERRUPTED

PAGE = "docs/jobs.md"


def test_every_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert follow(PAGE, tmp_path) >= 12


def test_every_command_for_jobs_is_told() -> None:
    text = pages.page(PAGE).read_text()
    told = set(re.findall(r"dtask ([a-z]+)", text)) | set(re.findall(r"`([a-z]+) --wait`", text))
    sections = ("Run commands", "Look after jobs", "Look after queues and the store")
    wanted = {name for section in sections for name in main.SECTIONS[section]}
    assert wanted <= told


def test_every_exit_code_of_a_run_is_told() -> None:
    codes = {row[0] for row in pages.rows(pages.section(PAGE, "Exit codes"))}
    own = {ending.TIMED_OUT, ending.NOT_RUN, ending.NOT_STARTED, INTERRUPTED}
    assert codes == {*map(str, own), f"{ending.SIGNAL} + N"}
