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


def table(workers: Sequence[Worker], *, now: float, width: int | None, ascii_only: bool) -> Table:
    """One line a worker, in `width` cells; None: as wide as it gets, with nothing shortened.

    In a narrow window tags are shortened first, then bars, and at last addresses are left out.
    `now` is this machine's time, epoch seconds.
    """
    columns = _columns(workers, _scheduler_now(workers, now), ascii_only=ascii_only)
    room = _room(columns, width)
    if room is not None and room < TAGS_CELLS_MIN:
        columns["LOAD"] = _bars(workers, BAR_CELLS_MIN, ascii_only=ascii_only)
        room = _room(columns, width)
    if room is not None and room < TAGS_CELLS_MIN:
        del columns["ADDRESS"]
        room = _room(columns, width)
    if room is not None:
        room = max(room, TAGS_CELLS_MIN)
    columns["TAGS"] = [Text(shortened(worker.resource_tags, room)) for worker in workers]
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    shown = [head for head in HEADS if head in columns]
    for head in shown:
        # An id is wanted whole, to be copied: it alone is folded when it is too long.
        grid.add_column(
            head,
            no_wrap=head != "WORKER",
            overflow="fold" if head == "WORKER" else "ellipsis",
            justify="right" if head == "TASKS" else "left",
        )
    for row in zip(*(columns[head] for head in shown), strict=True):
        grid.add_row(*row)
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


def bar(load: float, cells: int, *, ascii_only: bool) -> Text:
    """A bar of `cells` for `load`, 0 to 1; whatever is above fills it."""
    full, empty = ("#", "-") if ascii_only else ("█", "░")
    # Not empty while a slot is taken, not full while one is free.
    taken = max(round(load * cells), 1) if load > 0 else 0
    taken = min(taken, cells if load >= 1 else cells - 1)
    colour = "red" if load >= 1 else "yellow" if load >= BUSY else "green"
    return Text(full * taken, colour).append(empty * (cells - taken), "dim")


def _columns(workers: Sequence[Worker], now: float, *, ascii_only: bool) -> dict[str, list[Text]]:
    """All columns but TAGS; NOTES only if there are any."""
    columns = {
        "WORKER": [Text(worker.worker_id, "bold") for worker in workers],
        "ADDRESS": [Text(worker.address) for worker in workers],
        "LOAD": _bars(workers, BAR_CELLS, ascii_only=ascii_only),
        "TASKS": [Text(f"{worker.current_tasks}/{worker.max_tasks}") for worker in workers],
        "STATUS": [
            Text(worker.status, COLOURS[worker.status]).append(
                f" {age(now - worker.last_heartbeat)}", "dim"
            )
            for worker in workers
        ],
    }
    notes = [Text(_notes(worker), "yellow") for worker in workers]
    return columns | {"NOTES": notes} if any(notes) else columns


def _bars(workers: Sequence[Worker], cells: int, *, ascii_only: bool) -> list[Text]:
    return [bar(worker.load, cells, ascii_only=ascii_only) for worker in workers]


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


def _room(columns: dict[str, list[Text]], width: int | None) -> int | None:
    """Cells that these columns leave to TAGS."""
    if width is None:
        return None
    taken = (max(map(cell_len, (head, *map(str, cells)))) for head, cells in columns.items())
    return width - sum(taken) - GAP * len(columns)


def _scheduler_now(workers: Iterable[Worker], now: float) -> float:
    """This machine's time, moved to where the scheduler's clock must be if the two disagree."""
    heard = [worker.last_heartbeat for worker in workers if worker.status == "online"]
    if not heard:
        return now
    latest = max(heard)
    return min(max(now, latest), latest + ONLINE_S)
