"""One screen of `dtask top`: the head, the panels in the room that is left, the keys."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from dtask.cli import strip
from dtask.cli.board import Board, Panel
from dtask.cli.headlines import Headlines
from dtask.cli.panels import Panels, beside
from dtask.cli.strip import GAP, Glyphs, Styled

#: From this width on workers stand on the left, queues and jobs on the right.
SIDE_CELLS: Final = 150
#: One line of what needs attention for so many lines of the screen.
LINES_EACH: Final = 10
#: Parts of the room that each gets if they want more than there is.
_WEIGHTS: Final = {Panel.WORKERS: 2, Panel.QUEUES: 1, Panel.JOBS: 1}
#: Rows of each panel where there is no screen to fill.
ROWS: Final = 20

_KEYS: Final = (
    ("q", "quit"),
    ("Tab", "panel"),
    ("arrows", "scroll"),
    ("/", "filter"),
    ("z", "zoom"),
    ("a", "warnings"),
)


class Frame:
    """Draws a board as it is at `now`, by the scheduler's clock. `clock`: the time of day here."""

    def __init__(self, board: Board, *, now: float, clock: str, glyphs: Glyphs) -> None:
        self._board = board
        self._head = Headlines(board, now=now, clock=clock, glyphs=glyphs)
        self._panels = Panels(board, now=now, glyphs=glyphs)
        self._glyphs = glyphs

    def screen(self, width: int, height: int) -> list[Text]:
        """As many lines as the screen has, at most."""
        attention = height if self._board.all_attention else max(1, height // LINES_EACH)
        head = self._head.draw(width=width, attention=attention)[:height]
        room = max(0, height - len(head) - 1)
        body = self._body(width, room)
        if not self._board.picture.connected:
            for line in (*head[1:], *body):
                line.stylize("dim")
        body += [Text("") for _ in range(room - len(body))]
        lines = [*head, *body, self._foot(width)][:height]
        for line in lines:
            line.truncate(width)
        return lines

    def print_out(self, width: int) -> list[Text]:
        """As many lines as it takes, but no more than ROWS of each panel."""
        lines = self._head.draw(width=width, attention=ROWS)
        for panel in Panel:
            rows = min(ROWS, max(1, len(self._board.view_of(panel).rows)))
            drawn = self._panels.draw(panel, width=width, height=rows + 1, blocks=1)
            lines += [Text(""), *drawn]
        return lines

    def _body(self, width: int, room: int) -> list[Text]:
        if self._board.zoomed:
            return self._stacked([self._board.focus], width, room)
        if width < SIDE_CELLS:
            return self._stacked(list(Panel), width, room)
        half = (width - GAP) // 2
        left = self._stacked([Panel.WORKERS], half, room)
        return beside([left, self._stacked([Panel.QUEUES, Panel.JOBS], half, room)], width)

    def _stacked(self, panels: Sequence[Panel], width: int, room: int) -> list[Text]:
        wanted = [1 + max(1, len(self._board.view_of(panel).rows)) for panel in panels]
        heights = shares(wanted, [_WEIGHTS[panel] for panel in panels], room)
        space = [Text("")] if room - sum(heights) >= len(panels) else []
        lines: list[Text] = []
        for panel, height in zip(panels, heights, strict=True):
            if height:
                lines += [*self._panels.draw(panel, width=width, height=height), *space]
        return lines

    def _foot(self, width: int) -> Text:
        view = self._board.view
        if self._board.typing:
            cursor = (" ", "reverse")
            hint = ("   Enter keeps it, Esc shows all", "dim")
            return strip.assembled([(f"/{view.filter}", "bold"), cursor, hint], width)
        parts: list[Styled] = []
        for key, does in (*_KEYS, ("s", f"sort: {view.order}")):
            parts += [(key, "bold"), (f" {does}  ", "dim")]
        return strip.assembled(parts, width)


def shares(wanted: Sequence[int], weights: Sequence[int], room: int) -> list[int]:
    """Who gets how much of the room: all that they want, or their part of what is left."""
    given = [0] * len(wanted)
    modest_first = sorted(range(len(wanted)), key=lambda i: wanted[i] / weights[i])
    left, parts = room, sum(weights)
    for i in modest_first:
        given[i] = min(wanted[i], left * weights[i] // parts)
        left -= given[i]
        parts -= weights[i]
    return given
