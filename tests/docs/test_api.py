"""Every example of docs/api.md, run in its order against a real scheduler and a real worker."""

from pathlib import Path

from docs import answers, pages
from docs.reader import reader


def test_every_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    shown = 0
    with reader(tmp_path) as one:
        for block, answer in pages.examples("docs/api.md"):
            printed = one.run(block)
            if answer is not None:
                answers.check(answer, printed)
                shown += 1
    assert shown >= 20
