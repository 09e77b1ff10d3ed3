"""The README is done as it says, from top to bottom; and its links lead somewhere."""

import re
from pathlib import Path

from docs import pages
from docs.reader import follow
from tidy.sources import ROOT


def test_every_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert follow("README.md", tmp_path) >= 5


def test_what_is_linked_is_there() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_what_is_linked_within_a_page_is_there() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text()
        anchors = {
            re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in pages.titles(text)
        }
        linked = re.findall(r"\]\(#([^)]*)\)", text)
        broken += [f"{path.relative_to(ROOT)}: #{name}" for name in linked if name not in anchors]
    assert broken == []
