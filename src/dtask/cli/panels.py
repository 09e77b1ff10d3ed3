"""The panels of `dtask top`: workers, queues and jobs, each a heading and rows."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from dtask.cli import fleet, strip
from dtask.cli.board import Board, Panel, View
from dtask.cli.seconds import told
from dtask.cli.strip import GAP, Column, Glyphs, Styled
from dtask.client.job_results import JobSummary
from dtask.client.picture import LiveWorker
from dtask.core.jobs.events import QueueView

#: Cells of a bar: this share of the panel, and of one with more columns, within these bounds.
BAR_SHARE: Final = 0.2
BAR_SHARE_JOBS: Final = 0.12
BAR_CELLS_MIN: Final = 5
BAR_CELLS_MAX: Final = 30

#: Cells of a name at least.
NAME_CELLS_MIN: Final = 12
#: Cells of a worker's row where a large fleet stands in several columns.
BLOCK_CELLS: Final = 64

#: Columns beside the name, and the cells of all columns of each row.
Row = Sequence[Sequence[Styled]]
Table = tuple[list[Column], list[Row]]

_TITLES: Final = {
    Panel.WORKERS: "WORKERS",
    Panel.QUEUES: "QUEUES",
    Panel.JOBS: "RUNNING JOBS",
}
_NOTHING: Final = {
    Panel.WORKERS: "No worker has come yet. Start one: dtask-worker --scheduler {url} --tags auto",
    Panel.QUEUES: "There is no queue.",
    Panel.JOBS: "No job runs. To submit one: dtask submit -- COMMAND",
}
_UNREAD: Final = "Can't be read: the scheduler's store fails."


class Panels:
    """Draws the panels of a board as they are at `now`, by the scheduler's clock."""

    def __init__(self, board: Board, *, now: float, glyphs: Glyphs) -> None:
        self._board = board
        self._now = now
        self._glyphs = glyphs

    def draw(self, panel: Panel, *, width: int, height: int, blocks: int = 0) -> list[Text]:
        """Its heading and rows, `height` lines at most, in so many columns; 0: as many as fit."""
        view = self._board.view_of(panel)
        rows = height - 1
        if not blocks:  # a large fleet stands in several, if there is room
            split = panel is Panel.WORKERS and len(view.rows) > rows
            blocks = max(1, (width + GAP) // (BLOCK_CELLS + GAP)) if split else 1
        cells = (width - GAP * (blocks - 1)) // blocks
        tables: dict[Panel, Callable[[list[Any], int], Table]] = {
            Panel.WORKERS: self._workers,
            Panel.QUEUES: self._queues,
            Panel.JOBS: self._jobs,
        }
        others, values = tables[panel](view.fit(rows * blocks), cells)
        columns = [_first(_title(panel, view), others, cells), *others]
        lines = [strip.row(columns, one, self._glyphs) for one in values]
        if not lines and rows:
            lines = [self._nothing(panel, width)]
        parts = [lines[start : start + rows] for start in range(0, len(lines), max(1, rows))]
        return [self._heading(panel, columns, blocks, width), *beside(parts, width)]

    def _workers(self, shown: list[LiveWorker], width: int) -> Table:
        bar_cells = _bar_cells(width, BAR_SHARE)
        columns = [
            Column("LOAD", bar_cells),
            Column("TASKS", max([5, *(len(_slots(one)) for one in shown)]), right=True),
            Column("STATUS", 11),
        ]
        return columns, [self._worker(one, bar_cells) for one in shown]

    def _worker(self, one: LiveWorker, bar_cells: int) -> Row:
        style = "red" if one.load >= 1 else "yellow" if one.load >= fleet.BUSY else "green"
        status: list[Styled] = [(one.status, fleet.COLOURS[one.status])]
        if one.status != "online":
            status.append((f" {fleet.age(self._now - one.last_heartbeat)}", ""))
        elif one.draining:
            status = [("draining", "magenta")]
        return (
            [(one.worker_id, "")],
            strip.bar(one.load, bar_cells, style, self._glyphs),
            [(_slots(one), "")],
            status,
        )

    def _queues(self, shown: list[QueueView], _width: int) -> Table:
        columns = [
            Column("RUNNING", max([7, *(len(_running(one)) for one in shown)]), right=True),
            Column("QUEUED", max([7, *(len(f"{one.queued:,}") for one in shown)]), right=True),
            Column("PENDING", max([7, *(len(f"{one.pending:,}") for one in shown)]), right=True),
            Column("WAITS", 12, right=True),
            Column("", 6),
        ]
        return columns, [self._queue(one) for one in shown]

    def _queue(self, one: QueueView) -> Row:
        since = one.oldest_queued_at
        return (
            [(one.name, "bold")],
            [(_running(one), "cyan" if one.running else "dim")],
            [(f"{one.queued:,}", "yellow" if one.queued else "dim")],
            [(f"{one.pending:,}", "" if one.pending else "dim")],
            [("" if since is None else _age(self._now - since), "")],
            [("paused" if one.paused else "", "magenta")],
        )

    def _jobs(self, shown: list[JobSummary], width: int) -> Table:
        bar_cells = _bar_cells(width, BAR_SHARE_JOBS)
        columns = [
            Column("QUEUE", max([5, *(min(12, cell_len(one.queue)) for one in shown)])),
            Column("DONE", bar_cells),
            Column("", max([5, *(len(_done(one)) for one in shown)]), right=True),
            Column("FAILED", 6, right=True),
            Column("AGE", 10, right=True),
        ]
        return columns, [self._job(one, bar_cells) for one in shown]

    def _job(self, one: JobSummary, bar_cells: int) -> Row:
        tasks = one.tasks
        share = tasks.ended / tasks.total if tasks and tasks.total else 0.0
        return (
            [(str(one.job_id), "bold"), (f" {one.name}", "")],
            [(one.queue, "")],
            strip.bar(share, bar_cells, "cyan", self._glyphs) if tasks else [],
            [(_done(one), "")],
            [(f"{tasks.failed:,}" if tasks and tasks.failed else "", "red")],
            [(_age(self._now - one.submitted_at), "")],
        )

    def _heading(self, panel: Panel, columns: Sequence[Column], blocks: int, width: int) -> Text:
        heads = [[(column.head, "")] for column in columns]
        first = strip.row(columns, heads, self._glyphs)
        other = strip.row(columns, [[("", "")], *heads[1:]], self._glyphs)
        (heading,) = beside([[first], *[[other]] * (blocks - 1)], width)
        heading.truncate(width, pad=True)
        heading.stylize("reverse" if panel is self._board.focus else "underline")
        return heading

    def _nothing(self, panel: Panel, width: int) -> Text:
        view = self._board.view_of(panel)
        if view.total:
            sentence = f"None has {view.filter!r} in its name. Esc shows all."
        elif panel is not Panel.WORKERS and self._board.picture.totals.queues is None:
            sentence = _UNREAD
        else:
            sentence = _NOTHING[panel].format(url=self._board.url)
        return strip.assembled([(sentence, "dim")], width)


def _first(title: str, others: Sequence[Column], width: int) -> Column:
    """The column of names: what the others leave."""
    taken = sum(column.cells + GAP for column in others)
    return Column(title, max(NAME_CELLS_MIN, width - taken))


def _title(panel: Panel, view: View[Any]) -> str:
    """`WORKERS 9-16 of 5,000 /gpu`."""
    count = len(view.rows)
    more = "+" if view.more else ""
    told_count = f"{count:,}{more}"
    if count > view.page:
        last = min(count, view.offset + view.page)
        told_count = f"{view.offset + 1:,}-{last:,} of {told_count}"
    sought = f" /{view.filter}" if view.filter else ""
    return f"{_TITLES[panel]} {told_count}{sought}"


def beside(parts: Sequence[Sequence[Text]], width: int) -> list[Text]:
    """Columns of lines side by side, all of one width."""
    if len(parts) <= 1:
        return [line for part in parts for line in part]
    cells = (width - GAP * (len(parts) - 1)) // len(parts)
    lines = []
    for row in zip_longest(*parts, fillvalue=Text()):
        line = Text(no_wrap=True, overflow="crop")
        for number, text in enumerate(row):
            line.append(" " * (number * (cells + GAP) - line.cell_len))
            line.append_text(text)
        lines.append(line)
    return lines


def _bar_cells(width: int, share: float) -> int:
    return max(BAR_CELLS_MIN, min(BAR_CELLS_MAX, int(width * share)))


def _slots(one: LiveWorker) -> str:
    return f"{one.current_tasks}/{one.max_tasks}"


def _running(one: QueueView) -> str:
    return f"{one.running:,}" if one.max_running is None else f"{one.running:,}/{one.max_running:,}"


def _done(one: JobSummary) -> str:
    if one.tasks is None:  # too many to be counted each time
        return ""
    return f"{_short(one.tasks.ended)}/{_short(one.tasks.total)}"


def _short(count: int) -> str:
    """`9,999`, `12.3k`, `347k`, `1.5M`."""
    if count < 10_000:  # noqa: PLR2004 (four digits fit)
        return f"{count:,}"
    number, unit = (count / 1e3, "k") if count < 1e6 else (count / 1e6, "M")  # noqa: PLR2004 (same)
    return f"{number:.0f}{unit}" if number >= 100 else f"{number:.1f}{unit}"  # noqa: PLR2004 (same)


def _age(seconds: float) -> str:
    return told(round(max(0.0, seconds)))
