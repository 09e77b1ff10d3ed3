"""Pages of Markdown as the tests need them: fenced blocks, sections, tables, code spans."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tidy.sources import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where to look when it fails."""
        return f"{self.page}:{self.line}"


def page(name: str) -> Path:
    """`README.md`, `docs/api.md`."""
    return ROOT / name


def blocks(name: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page(name).read_text()
    found = _FENCE.finditer(text)
    return [Block(name, text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in found]


def examples(name: str) -> Iterator[tuple[Block, Block | None]]:
    """What a page has its readers run, and what they will see: the next block, if it is one.

    `sh` and `python` blocks are run, `text`, `json` and `http` blocks are what comes out. A block
    of any other language is only to be read.
    """
    all_blocks = blocks(name)
    for block, after in zip(all_blocks, [*all_blocks[1:], None], strict=True):
        if block.language in ("sh", "python"):
            answered = after is not None and after.language in ("text", "json", "http")
            yield block, after if answered else None


def section(name: str, title: str) -> str:
    """The text under the heading `title`, down to the next heading that is not below it."""
    text = _FENCE.sub("", page(name).read_text())
    headings = list(_HEADING.finditer(text))
    for i, heading in enumerate(headings):
        if heading[2] == title:
            ends = (h.start() for h in headings[i + 1 :] if len(h[1]) <= len(heading[1]))
            return text[heading.end() : next(ends, len(text))]
    raise AssertionError(f"{name} has no heading {title!r}")


def titles(text: str) -> list[str]:
    """All headings in a text."""
    return [match[2] for match in _HEADING.finditer(text)]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows in a text, heads and rules left out."""
    found = []
    lines = text.splitlines()
    for i, line in enumerate(lines):
        is_rule = re.fullmatch(r"\|[-| ]+\|", line) is not None
        is_head = i + 1 < len(lines) and re.fullmatch(r"\|[-| ]+\|", lines[i + 1]) is not None
        if line.startswith("|") and not is_rule and not is_head:
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.strip().replace("\\|", "|") for cell in cells])
    return found


def codes(text: str) -> list[str]:
    """All code spans in a text."""
    return _CODE.findall(text)


def first_codes(text: str) -> list[str]:
    """The code spans in the first cells of all tables: the names that the tables are about."""
    return [code for row in rows(text) for code in codes(row[0])]
