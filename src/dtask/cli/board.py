"""What `dtask top` shows of a fleet and how: the panel in front, sorting, filters, scrolling.

Keys change it; nothing here draws, reads or waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from dtask.cli.escapes import plain
from dtask.client.job_results import JobSummary
from dtask.client.picture import LiveWorker, Picture
from dtask.core.jobs.events import QueueView

T = TypeVar("T")

#: Longest filter that can be typed.
FILTER_CHARS_MAX: Final = 64


class Panel(StrEnum):
    """The parts of the screen that can be scrolled, sorted and filtered."""

    WORKERS = "workers"
    QUEUES = "queues"
    JOBS = "jobs"


#: Those who need a look first.
_TROUBLE: Final = {"offline": 0, "suspect": 1, "online": 2}

#: By panel: names of orders, the usual one first, and the key of each.
_Orders = dict[str, Callable[[Any], Any]]
_WORKER_ORDERS: Final[_Orders] = {
    "trouble": lambda one: (
        _TROUBLE[one.status] + (0.5 if one.draining else 1),
        -one.load,
        one.worker_id,
    ),
    "load": lambda one: (-one.load, one.worker_id),
    "free slots": lambda one: (
        one.status == "offline",
        one.status != "online" or one.draining,
        one.current_tasks - one.max_tasks,
        one.worker_id,
    ),
    "name": lambda one: one.worker_id,
}
_QUEUE_ORDERS: Final[_Orders] = {
    "waiting": lambda one: (-one.queued, -one.running, one.name),
    "oldest": lambda one: (one.oldest_queued_at or float("inf"), one.name),
    "running": lambda one: (-one.running, one.name),
    "name": lambda one: one.name,
}
_JOB_ORDERS: Final[_Orders] = {
    "newest": lambda one: -one.job_id,
    "oldest": lambda one: one.job_id,
    "failures": lambda one: (-one.tasks.failed if one.tasks else 0, -one.job_id),
    "name": lambda one: (one.name, -one.job_id),
}


@dataclass(slots=True)
class View(Generic[T]):
    """One panel: its rows, and which of them are shown in which order."""

    orders: _Orders
    #: What a filter looks at.
    text: Callable[[T], str]
    order: str = field(init=False)
    filter: str = ""
    #: Rows above the first one shown, and how many fit.
    offset: int = 0
    page: int = 1
    #: There are others that were not asked for.
    more: bool = False
    _rows: Sequence[T] = ()
    _chosen: list[T] | None = None

    def __post_init__(self) -> None:
        self.order = next(iter(self.orders))

    @property
    def total(self) -> int:
        """How many rows there are, filtered out or not."""
        return len(self._rows)

    @property
    def rows(self) -> list[T]:
        """The rows that pass the filter, in order."""
        if self._chosen is None:
            sought = self.filter.casefold()
            self._chosen = sorted(
                (row for row in self._rows if sought in self.text(row).casefold()),
                key=self.orders[self.order],
            )
        return self._chosen

    def fill(self, rows: Sequence[T], *, more: bool = False) -> None:
        """These are the rows now; `more`: there are others."""
        self._rows, self._chosen, self.more = rows, None, more

    def fit(self, page: int) -> list[T]:
        """So many rows have room: those that are shown."""
        self.page = max(1, page)
        self.scroll(0)
        return self.rows[self.offset : self.offset + page]

    def scroll(self, rows: int) -> None:
        """Move down by so many rows, or up, as far as there are any."""
        self.offset = max(0, min(self.offset + rows, len(self.rows) - self.page))

    def sort_otherwise(self) -> None:
        """Take the next order."""
        names = list(self.orders)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self._chosen, self.offset = None, 0

    def seek(self, text: str) -> None:
        """Show what has this text in its name alone."""
        self.filter = text[:FILTER_CHARS_MAX]
        self._chosen, self.offset = None, 0


class Board:
    """All of it."""

    def __init__(self, url: str, picture: Picture) -> None:
        self.url = url
        self.picture = picture
        #: When it was lost, as people tell the time.
        #: When a scheduler was heard the last time.
        self.heard_at = ""
        self.focus = Panel.WORKERS
        #: The panel in front has all the room.
        self.zoomed = False
        #: All that needs attention is shown, however much it is.
        self.all_attention = False
        #: Letters go to the filter.
        self.typing = False
        self.workers = View[LiveWorker](_WORKER_ORDERS, lambda one: one.worker_id)
        self.queues = View[QueueView](_QUEUE_ORDERS, lambda one: one.name)
        self.jobs = View[JobSummary](_JOB_ORDERS, lambda one: f"{one.job_id} {plain(one.name)}")
        self.show(picture)

    def show(self, picture: Picture, *, at: str = "") -> None:
        """This is the picture now; `at`: the time of day."""
        if picture.connected:
            self.heard_at = at
        if picture.workers is not self.picture.workers or not self.workers.total:
            self.workers.fill(list(picture.workers.values()))
        self.queues.fill(picture.totals.queues or ())
        self.picture = picture

    @property
    def view(self) -> View[Any]:
        """The panel in front."""
        return self.view_of(self.focus)

    def view_of(self, panel: Panel) -> View[Any]:
        """That panel."""
        views: dict[Panel, View[Any]] = {
            Panel.WORKERS: self.workers,
            Panel.QUEUES: self.queues,
            Panel.JOBS: self.jobs,
        }
        return views[panel]

    def press(self, key: str) -> bool:
        """Do what a key stands for; whether that is the end."""
        if self.typing:
            self._type(key)
        elif key == "q":
            return True
        elif key in _MOVES:
            self.view.scroll(_MOVES[key](self.view))
        elif key in _ACTS:
            _ACTS[key](self)
        return False

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.typing = False
        if key == "escape":
            self.view.seek("")
        elif key == "backspace":
            self.view.seek(self.view.filter[:-1])
        elif key in ("up", "down", "pageup", "pagedown"):
            self.view.scroll(_MOVES[key](self.view))
        elif len(key) == 1 and key.isprintable():
            self.view.seek(self.view.filter + key)

    def turn(self, step: int) -> None:
        """Bring the next panel to the front, or with -1 the one before."""
        panels = list(Panel)
        self.focus = panels[(panels.index(self.focus) + step) % len(panels)]

    def zoom(self) -> None:
        """Give the panel in front all the room, or take it away again."""
        self.zoomed = not self.zoomed

    def warn(self) -> None:
        """Show all that needs attention, or what there is room for."""
        self.all_attention = not self.all_attention

    def back(self) -> None:
        """Undo what narrows the view: first the filter, then the zoom."""
        if self.view.filter:
            self.view.seek("")
        else:
            self.zoomed = False

    def start_typing(self) -> None:
        """Letters go to the filter from now on."""
        self.typing = True


#: Rows that a key scrolls by.
_MOVES: Final[dict[str, Callable[[View[Any]], int]]] = {
    "up": lambda _: -1,
    "k": lambda _: -1,
    "down": lambda _: 1,
    "j": lambda _: 1,
    "pageup": lambda view: -view.page,
    "pagedown": lambda view: view.page,
    " ": lambda view: view.page,
    "home": lambda view: -view.offset,
    "g": lambda view: -view.offset,
    "end": lambda view: len(view.rows),
    "G": lambda view: len(view.rows),
}

_ACTS: Final[dict[str, Callable[[Board], None]]] = {
    "tab": lambda board: board.turn(1),
    "backtab": lambda board: board.turn(-1),
    "s": lambda board: board.view.sort_otherwise(),
    "/": Board.start_typing,
    "z": Board.zoom,
    "enter": Board.zoom,
    "a": Board.warn,
    "escape": Board.back,
}
