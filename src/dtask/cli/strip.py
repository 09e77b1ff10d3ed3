"""Lines of a screen, put together from texts and styles, each as wide as the screen at most."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from dtask.cli.escapes import plain

#: Cells between two columns.
GAP: Final = 2

#: A text and how it looks, in rich's words.
Styled = tuple[str, str]


class Glyphs(NamedTuple):
    """What is drawn with."""

    full: str
    empty: str
    steps: str
    cut: str
    dot: str


UNICODE: Final = Glyphs("█", "░", "▁▂▃▄▅▆▇█", "…", "·")
ASCII: Final = Glyphs("#", "-", ".:-=+*#@", "~", "-")


class Column(NamedTuple):
    """A column of a panel."""

    head: str
    cells: int
    right: bool = False


def cut(text: str, cells: int, glyphs: Glyphs) -> str:
    """A text of anybody's in so many cells at most."""
    text = plain(text)
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, max(0, cells - 1)).rstrip() + glyphs.cut if cells > 0 else ""


def assembled(parts: Iterable[Styled], width: int) -> Text:
    """A line of that many cells at most."""
    line = Text.assemble(*parts, no_wrap=True, overflow="crop")
    line.truncate(width)
    return line


def row(columns: Sequence[Column], values: Sequence[Sequence[Styled]], glyphs: Glyphs) -> Text:
    """A line of a panel: in each column one or more texts side by side."""
    parts: list[Styled] = []
    for column, texts in zip(columns, values, strict=True):
        left = column.cells
        shown: list[Styled] = []
        for text, style in texts:
            short = cut(text, left, glyphs)
            shown.append((short, style))
            left -= cell_len(short)
        space = (" " * left, "")
        parts += [space, *shown] if column.right else [*shown, space]
        parts.append((" " * GAP, ""))
    return Text.assemble(*parts[:-1], no_wrap=True, overflow="crop")


def bar(share: float, cells: int, style: str, glyphs: Glyphs) -> list[Styled]:
    """A bar for 0 to 1; not empty while there is something, not full while something lacks."""
    filled = max(round(share * cells), 1) if share > 0 else 0
    filled = cells if share >= 1 else min(filled, cells - 1)
    return [(glyphs.full * filled, style), (glyphs.empty * (cells - filled), "dim")]


def spread(counts: Sequence[int], glyphs: Glyphs) -> str:
    """A small column for each count, as high as it is large beside the others."""
    top = max(counts, default=0) or 1
    steps = glyphs.steps
    return "".join(
        " " if not count else steps[min(len(steps) - 1, count * len(steps) // (top + 1))]
        for count in counts
    )


def in_line(parts: Sequence[Styled], width: int, gap: str = "  ") -> list[Styled]:
    """As many of the parts, side by side, as fit into the width whole."""
    shown: list[Styled] = []
    left = width
    for text, style in parts:
        needed = cell_len(text) + (len(gap) if shown else 0)
        if needed > left:
            break
        if shown:
            shown.append((gap, ""))
        shown.append((text, style))
        left -= needed
    return shown
