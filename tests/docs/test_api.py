"""Every example of docs/api.md, run in its order against a real scheduler and a real worker."""

from pathlib import Path

from docs.reader import follow


def test_every_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert follow("docs/api.md", tmp_path) >= 20
