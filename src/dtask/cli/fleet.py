"""The fleet as a table for a terminal: one line a worker, and a line that sums them up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from dtask.client import Worker
from dtask.core.placement.events import Status

COLOURS: Final[dict[Status, str]] = {"online": "green", "suspect": "yellow", "offline": "red"}

#: Cells of a load bar.
BAR_CELLS: Final = 10
#: Load from which a bar is yellow; a full one is red.
BUSY: Final = 0.75

#: Cells that tags get at least, and the space between two columns.
TAGS_CELLS_MIN: Final = 12
GAP: Final = 2

#: An online worker was heard within this many seconds, unless the scheduler was told otherwise.
ONLINE_S: Final = 10.0

Cells = tuple[str | Text, ...]


def table(workers: Sequence[Worker], *, now: float, width: int | None, ascii_only: bool) -> Table:
    """One line a worker, in `width` cells; None: as wide as it gets, with nothing shortened.

    `now` is this machine's time, epoch seconds.
    """
    now = _scheduler_now(workers, now)
    noted = any(_notes(worker) for worker in workers)
    heads = ("WORKER", "ADDRESS", "LOAD", "TASKS", "STATUS", *(("NOTES",) if noted else ()))
    lines = [_cells(worker, now, ascii_only=ascii_only, noted=noted) for worker in workers]
    room = None if width is None else max(TAGS_CELLS_MIN, width - _taken(heads, lines))
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for head in (*heads[:2], "TAGS", *heads[2:]):
        grid.add_column(head, no_wrap=True, justify="right" if head == "TASKS" else "left")
    for worker, (name, address, *rest) in zip(workers, lines, strict=True):
        grid.add_row(name, address, Text(shortened(worker.resource_tags, room)), *rest)
    return grid


def summary(workers: Iterable[Worker]) -> Text:
    """`4 workers: 3 online, 1 offline. 5 of 24 slots taken, 2 draining.`."""
    listed = list(workers)
    states = Counter(worker.status for worker in listed)
    usable = [worker for worker in listed if worker.status != "offline" and not worker.draining]
    taken = sum(worker.current_tasks for worker in usable)
    slots = sum(worker.max_tasks for worker in usable)
    text = Text(f"{len(listed):,} worker{'' if len(listed) == 1 else 's'}: ")
    parts = [Text(f"{states[name]:,} {name}", COLOURS[name]) for name in COLOURS if states[name]]
    text.append_text(Text(", ").join(parts)).append(f". {taken:,} of {slots:,} slots taken")
    if draining := sum(worker.draining for worker in listed):
        text.append(f", {draining:,} draining")
    return text.append(".")


def shortened(tags: Sequence[str], room: int | None) -> str:
    """As many of the tags as fit into `room` cells, and how many more there are."""
    whole = " ".join(tags)
    if room is None or cell_len(whole) <= room:
        return whole
    for count in range(len(tags) - 1, 0, -1):
        text = f"{' '.join(tags[:count])} +{len(tags) - count}"
        if cell_len(text) <= room:
            return text
    return f"{len(tags)} tags"


def age(seconds: float) -> str:
    """`3s`, `5m`, `2h` or `4d`."""
    for unit, per in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * per:
            return f"{seconds / per:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def bar(load: float, *, ascii_only: bool) -> Text:
    """A bar for `load`, 0 to 1; whatever is above fills it."""
    full, empty = ("#", "-") if ascii_only else ("█", "░")
    # Not empty while a slot is taken, not full while one is free.
    cells = round(load * BAR_CELLS)
    cells = max(cells, 1) if load > 0 else 0
    cells = min(cells, BAR_CELLS if load >= 1 else BAR_CELLS - 1)
    colour = "red" if load >= 1 else "yellow" if load >= BUSY else "green"
    return Text(full * cells, colour).append(empty * (BAR_CELLS - cells), "dim")


def _cells(worker: Worker, now: float, *, ascii_only: bool, noted: bool) -> Cells:
    status = Text(worker.status, COLOURS[worker.status])
    cells: Cells = (
        Text(worker.worker_id, "bold"),
        Text(worker.address),
        bar(worker.load, ascii_only=ascii_only),
        Text(f"{worker.current_tasks}/{worker.max_tasks}"),
        status.append(f" {age(now - worker.last_heartbeat)}", "dim"),
    )
    return (*cells, Text(_notes(worker), "yellow")) if noted else cells


def _notes(worker: Worker) -> str:
    """What is out of the ordinary."""
    notes = []
    if worker.draining:
        notes.append("draining")
    if not worker.trusted:
        notes.append("untrusted")
    if worker.reported_tasks is not None and worker.reported_tasks != worker.current_tasks:
        notes.append(f"reports {worker.reported_tasks}")
    return ", ".join(notes)


def _taken(heads: Sequence[str], lines: Iterable[Cells]) -> int:
    """Cells that the columns other than TAGS take, with the gaps around all columns."""
    widths = [cell_len(head) for head in heads]
    for line in lines:
        widths = [max(w, cell_len(str(cell))) for w, cell in zip(widths, line, strict=True)]
    return sum(widths) + GAP * (len(heads) + 1)


def _scheduler_now(workers: Iterable[Worker], now: float) -> float:
    """This machine's time, moved to where the scheduler's clock must be if the two disagree."""
    heard = [worker.last_heartbeat for worker in workers if worker.status == "online"]
    if not heard:
        return now
    latest = max(heard)
    return min(max(now, latest), latest + ONLINE_S)
