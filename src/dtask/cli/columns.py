"""Columns side by side: a head and rows of cells, for a terminal of some width or for none.

Lines are plain strings with the terminal's colour codes.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import click
from rich.cells import cell_len, set_cell_size

#: Cells between two columns, and those that the last column gets at least.
GAP: Final = 2
LAST_CELLS_MIN: Final = 16


class Cell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    fg: str | None = None
    dim: bool = False
    bold: bool = False
    right: bool = False

    def styled(self, cells: int) -> str:
        """The text in that many cells, coloured."""
        text = self.text
        space = " " * (cells - cell_len(text))
        if text and (self.fg or self.dim or self.bold):
            text = click.style(text, fg=self.fg, dim=self.dim or None, bold=self.bold or None)
        return space + text if self.right else text + space


def lines(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, width: int | None = None
) -> list[str]:
    """A head and one line a row; columns in which nothing stands are left out.

    With a `width` the last column is shortened to it.
    """
    kept = [i for i, _ in enumerate(heads) if any(row[i].text for row in rows)]
    heads = [heads[i] for i in kept]
    body = [[row[i] for i in kept] for row in rows]
    if width is not None and heads:
        taken = sum(_width(heads[i], [row[i] for row in body]) + GAP for i in range(len(heads) - 1))
        room = max(width - taken, LAST_CELLS_MIN)
        body = [[*row[:-1], shortened(row[-1], room)] for row in body]
    widths = [_width(head, [row[i] for row in body]) for i, head in enumerate(heads)]
    first = [Cell(head, dim=True) for head in heads]
    gap = " " * GAP
    return [
        gap.join(cell.styled(cells) for cell, cells in zip(row, widths, strict=True)).rstrip()
        for row in (first, *body)
    ]


def shortened(cell: Cell, room: int) -> Cell:
    """The cell in `room` cells at most, an ellipsis at its end if it was cut."""
    if cell_len(cell.text) <= room:
        return cell
    return cell._replace(text=set_cell_size(cell.text, room - 1).rstrip() + "…")


def _width(head: str, column: Sequence[Cell]) -> int:
    return max([len(head), *(cell_len(cell.text) for cell in column)])
