"""The head of `dtask top`: who is asked, the sums, the rates, and what needs attention."""

from typing import Final

from rich.text import Text

from dtask.cli import ending, fleet, strip
from dtask.cli.board import Board
from dtask.cli.escapes import plain
from dtask.cli.seconds import told
from dtask.cli.strip import Glyphs, Styled
from dtask.client.picture import Picture
from dtask.core.jobs.states import State
from dtask.wire.live import Attention

#: Cells of the bar of slots, and of the labels on the left.
BAR_CELLS: Final = 20
LABEL_CELLS: Final = 9
#: Columns of the picture of loads.
LOADS: Final = 10

_LIVE_STATES: Final = (State.RUNNING, State.SCHEDULED, State.QUEUED, State.PENDING)
_ENDS: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED)


class Headlines:
    """Draws them for one board as it is at `now`, by the scheduler's clock."""

    def __init__(self, board: Board, *, now: float, clock: str, glyphs: Glyphs) -> None:
        self._board = board
        self._picture: Picture = board.picture
        self._now = now
        self._clock = clock
        self._glyphs = glyphs

    def draw(self, *, width: int, attention: int) -> list[Text]:
        """The lines, of which at most `attention` are about what needs attention."""
        return [
            self._title(width),
            _line("Workers", self._workers(), width),
            self._slots(width),
            _line("Tasks", self._tasks(), width),
            _line("Rates", self._rates(), width),
            *self._attention(width, attention),
        ]

    def _title(self, width: int) -> Text:
        if not self._picture.connected:
            text = f" NOT CONNECTED, as of {self._board.heard_at}, asking again. "
            line = strip.assembled([(text + plain(self._picture.trouble or ""), "")], width)
            line.truncate(width, pad=True)
            line.stylize("bold black on yellow")
            return line
        up = told(round(max(0.0, self._now - self._picture.started_at)))
        left = strip.in_line(
            [
                ("dtask top", "bold"),
                (plain(self._board.url), "cyan"),
                (f"dtask {plain(self._picture.version)}", "dim"),
                (f"up {up}", "dim"),
            ],
            width - len(self._clock) - 2,
        )
        line = strip.assembled(left, width)
        line.pad_right(max(1, width - line.cell_len - len(self._clock)))
        line.append(self._clock, "dim")
        return line

    def _workers(self) -> list[Styled]:
        counts = self._picture.totals.workers
        shown: list[Styled] = [
            (f"{counts.online:,} online", fleet.COLOURS["online"] if counts.online else "dim"),
            (f"{counts.suspect:,} suspect", fleet.COLOURS["suspect"] if counts.suspect else "dim"),
            (f"{counts.offline:,} offline", fleet.COLOURS["offline"] if counts.offline else "dim"),
            (f"{counts.draining:,} draining", "magenta" if counts.draining else "dim"),
        ]
        if self._picture.totals.warming_up:
            shown.append(("just started: not all may be known", "yellow"))
        return shown

    def _slots(self, width: int) -> Text:
        totals = self._picture.totals
        share = totals.occupied / totals.slots if totals.slots else 0.0
        style = "red" if share >= 1 else "yellow" if share >= fleet.BUSY else "green"
        parts = strip.bar(share, BAR_CELLS, style, self._glyphs)
        told_share = f" {share:.0%}" if totals.slots else ""
        parts.append((f"{told_share}  {totals.occupied:,} of {totals.slots:,} taken", ""))
        line = strip.assembled([(f"{'Slots':{LABEL_CELLS}}", "dim"), *parts], width)
        loads = strip.assembled(
            [
                ("  workers from idle ", "dim"),
                (strip.spread(self._loads(), self._glyphs), "cyan"),
                (" to full", "dim"),
            ],
            width,
        )
        if len(self._picture.workers) > LOADS and line.cell_len + loads.cell_len <= width:
            line.append_text(loads)
        return line

    def _loads(self) -> list[int]:
        """How many workers that are not offline have a load in each tenth."""
        counts = [0] * LOADS
        for worker in self._picture.workers.values():
            if worker.status != "offline":
                counts[min(LOADS - 1, int(worker.load * LOADS))] += 1
        return counts

    def _tasks(self) -> list[Styled]:
        tasks, ended = self._picture.totals.tasks, self._picture.totals.ended
        if tasks is None:
            return [("can't be read: the scheduler's store fails", "red")]
        shown = [_count(tasks.get(state, 0), state) for state in _LIVE_STATES]
        shown += [_count(count, state) for state in _ENDS if (count := ended.get(state))]
        return shown

    def _rates(self) -> list[Styled]:
        totals = self._picture.totals
        rates, p99_ms = totals.rates, totals.placement_p99_ms
        shown = [(f"{_rate(rates.placements)} placements/s", "bold" if rates.placements else "dim")]
        if p99_ms is not None:
            shown.append((f"p99 {p99_ms:.3g} ms", ""))
        return [
            *shown,
            (f"{_rate(rates.refusals)} refusals/s", "yellow" if rates.refusals else "dim"),
            (f"{_rate(rates.starts)} starts/s", "" if rates.starts else "dim"),
            (f"{_rate(rates.ends)} ends/s", "" if rates.ends else "dim"),
            (f"{_rate(rates.heartbeats)} heartbeats/s", "dim"),
        ]

    def _attention(self, width: int, lines: int) -> list[Text]:
        found = self._picture.totals.attention
        if not found:
            return [_line("", [("Nothing needs attention.", "green")], width)]
        shown = found[:lines]
        more = f"  ({len(found) - len(shown)} more: a)" if len(shown) < len(found) else ""
        return [
            self._warning(one, more if one is shown[-1] else "", width - LABEL_CELLS)
            for one in shown
        ]

    def _warning(self, one: Attention, more: str, room: int) -> Text:
        mark, style = ("!!", "bold red") if one.level == "serious" else ("!", "yellow")
        sentence = strip.cut(one.sentence, max(0, room - len(more)), self._glyphs)
        return strip.assembled(
            [(f"{mark:>{LABEL_CELLS - 1}} ", style), (sentence, style), (more, "dim")],
            room + LABEL_CELLS,
        )


def _line(label: str, parts: list[Styled], width: int) -> Text:
    return strip.assembled(
        [(f"{label:{LABEL_CELLS}}", "dim"), *strip.in_line(parts, width - LABEL_CELLS)], width
    )


def _count(count: int, state: State) -> Styled:
    style = ending.COLOURS[state] or ""
    return f"{count:,} {state}", style if count else "dim"


def _rate(rate: float) -> str:
    """`<0.1`, `0.3`, `12`, `1,234`."""
    if 0 < rate < 0.1:  # noqa: PLR2004 (tenths are told)
        return "<0.1"
    return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:,.0f}"  # noqa: PLR2004 (tenths say nothing above)
