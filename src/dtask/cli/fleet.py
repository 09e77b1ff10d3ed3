"""The fleet as a table for a terminal: one line a worker, and a line that sums them up.

Lines are plain strings with the terminal's colour codes, because a fleet may have 50,000 workers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import click
from rich.cells import cell_len

from dtask.client import Worker
from dtask.core.placement.events import Status

COLOURS: Final[dict[Status, str]] = {"online": "green", "suspect": "yellow", "offline": "red"}

#: Cells of a load bar, and of one in a narrow window.
BAR_CELLS: Final = 10
BAR_CELLS_MIN: Final = 5
#: Load from which a bar is yellow; a full one is red.
BUSY: Final = 0.75

#: Cells that tags get at least, and the space between two columns.
TAGS_CELLS_MIN: Final = 12
GAP: Final = 2

#: An online worker was heard within this many seconds, unless the scheduler was told otherwise.
ONLINE_S: Final = 10.0

HEADS: Final = ("WORKER", "ADDRESS", "TAGS", "LOAD", "TASKS", "STATUS", "NOTES")


class Cell(NamedTuple):
    """What stands in one place of the table."""

    text: str
    cells: int
    #: With colour codes.
    styled: str


Columns = dict[str, list[Cell]]


def table(
    workers: Sequence[Worker], *, now: float, width: int | None, ascii_only: bool
) -> list[str]:
    """A head and one line a worker, in `width` cells; None: as wide as it gets, nothing shortened.

    In a narrow window tags are shortened first, then bars, and at last addresses are left out.
    Ids are never cut: they are wanted whole, to be copied.
    `now` is this machine's time, epoch seconds.
    """
    columns = _columns(workers, _scheduler_now(workers, now), ascii_only=ascii_only)
    room = _room(columns, width)
    if room is not None and room < TAGS_CELLS_MIN:
        columns["LOAD"] = [_bar(worker.load, BAR_CELLS_MIN, ascii_only) for worker in workers]
        room = _room(columns, width)
    if room is not None and room < TAGS_CELLS_MIN:
        del columns["ADDRESS"]
        room = _room(columns, width)
    if room is not None:
        room = max(room, TAGS_CELLS_MIN)
    columns["TAGS"] = [_cell(shortened(worker.resource_tags, room)) for worker in workers]
    return _lines(columns)


def summary(workers: Iterable[Worker]) -> str:
    """`4 workers: 3 online, 1 offline. 5 of 24 slots taken, 2 draining.`."""
    listed = list(workers)
    states = Counter(worker.status for worker in listed)
    usable = [worker for worker in listed if worker.status != "offline" and not worker.draining]
    taken = sum(worker.current_tasks for worker in usable)
    slots = sum(worker.max_tasks for worker in usable)
    draining = sum(worker.draining for worker in listed)
    parts = [
        click.style(f"{states[name]:,} {name}", fg=colour)
        for name, colour in COLOURS.items()
        if states[name]
    ]
    return (
        f"{len(listed):,} worker{'' if len(listed) == 1 else 's'}: {', '.join(parts)}. "
        f"{taken:,} of {slots:,} slots taken{f', {draining:,} draining' if draining else ''}."
    )


def shortened(tags: Sequence[str], room: int | None) -> str:
    """As many of the tags as fit into `room` cells, and how many more there are."""
    whole = " ".join(tags)
    if room is None or cell_len(whole) <= room:
        return whole
    for count in range(len(tags) - 1, 0, -1):
        text = f"{' '.join(tags[:count])} +{len(tags) - count}"
        if cell_len(text) <= room:
            return text
    return f"{len(tags)} tag{'' if len(tags) == 1 else 's'}"


def age(seconds: float) -> str:
    """`3s`, `5m`, `2h` or `4d`."""
    for unit, per in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * per:
            return f"{seconds / per:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _columns(workers: Sequence[Worker], now: float, *, ascii_only: bool) -> Columns:
    """All columns but TAGS; NOTES only if there are any."""
    columns = {
        "WORKER": [_cell(worker.worker_id, bold=True) for worker in workers],
        "ADDRESS": [_cell(worker.address) for worker in workers],
        "LOAD": [_bar(worker.load, BAR_CELLS, ascii_only) for worker in workers],
        "TASKS": [_cell(f"{worker.current_tasks}/{worker.max_tasks}") for worker in workers],
        "STATUS": [_status(worker, now) for worker in workers],
    }
    notes = [_cell(_notes(worker), fg="yellow") for worker in workers]
    return columns | {"NOTES": notes} if any(note.text for note in notes) else columns


def _cell(text: str, *, fg: str | None = None, bold: bool | None = None) -> Cell:
    styled = click.style(text, fg=fg, bold=bold) if text and (fg or bold) else text
    return Cell(text, cell_len(text), styled)


def _bar(load: float, cells: int, ascii_only: bool) -> Cell:
    """A bar of `cells` for `load`, 0 to 1; whatever is above fills it."""
    full, empty = ("#", "-") if ascii_only else ("█", "░")
    # Not empty while a slot is taken, not full while one is free.
    taken = max(round(load * cells), 1) if load > 0 else 0
    taken = min(taken, cells if load >= 1 else cells - 1)
    colour = "red" if load >= 1 else "yellow" if load >= BUSY else "green"
    done, left = full * taken, empty * (cells - taken)
    return Cell(done + left, cells, click.style(done, fg=colour) + click.style(left, dim=True))


def _status(worker: Worker, now: float) -> Cell:
    ago = age(now - worker.last_heartbeat)
    styled = click.style(worker.status, fg=COLOURS[worker.status])
    text = f"{worker.status} {ago}"
    return Cell(text, len(text), f"{styled} {click.style(ago, dim=True)}")


def _notes(worker: Worker) -> str:
    """What is out of the ordinary."""
    notes = []
    if worker.draining:
        notes.append("draining: its spool is full" if _is_full(worker) else "draining")
    if not worker.trusted:
        notes.append("untrusted")
    if worker.reported_tasks is not None and worker.reported_tasks != worker.current_tasks:
        notes.append(f"reports {worker.reported_tasks}")
    return ", ".join(notes)


def _is_full(worker: Worker) -> bool:
    """Whether its disk is why it takes no tasks."""
    return worker.metrics.get("spool_full") is True


def _room(columns: Columns, width: int | None) -> int | None:
    """Cells that these columns leave to TAGS."""
    if width is None:
        return None
    return width - sum(_width(head, column) + GAP for head, column in columns.items())


def _width(head: str, column: Iterable[Cell]) -> int:
    return max(len(head), *(cell.cells for cell in column))


def _lines(columns: Columns) -> list[str]:
    """The columns side by side, each as wide as its widest cell."""
    shown = [head for head in HEADS if head in columns]
    widths = [_width(head, columns[head]) for head in shown]
    heads = [Cell(head, len(head), click.style(head, dim=True)) for head in shown]
    lines = []
    for row in (heads, *zip(*(columns[head] for head in shown), strict=True)):
        line = ""
        for head, cell, width in zip(shown, row, widths, strict=True):
            space = " " * (width - cell.cells)
            line += f"{space}{cell.styled}" if head == "TASKS" else f"{cell.styled}{space}"
            line += " " * GAP
        lines.append(line.rstrip())
    return lines


def _scheduler_now(workers: Iterable[Worker], now: float) -> float:
    """This machine's time, moved to where the scheduler's clock must be if the two disagree."""
    heard = [worker.last_heartbeat for worker in workers if worker.status == "online"]
    if not heard:
        return now
    latest = max(heard)
    return min(max(now, latest), latest + ONLINE_S)
