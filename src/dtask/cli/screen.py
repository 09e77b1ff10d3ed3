"""The fleet on standard output: once, or again and again in place.

This module imports rich, so commands import it when they have something to show.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live

from dtask.cli import fleet
from dtask.client import Worker
from dtask.errors import Unavailable

#: Seconds between two looks. Workers heartbeat every three.
WATCH_S: Final = 1.0

#: Lines of the window that rows can't have: summary, head, rest, cursor.
OTHER_LINES: Final = 4

#: Cells of a line that no window bounds.
WIDE: Final = 10_000


def show(workers: Sequence[Worker]) -> None:
    """Print the fleet once."""
    console = _console()
    console.print(_table(console, workers))
    console.print(fleet.summary(workers))


def watch(look: Callable[[], Sequence[Worker]], *, nobody: str) -> None:
    """Show the fleet, in place if this is a terminal, until Ctrl-C, which is the way to end it.

    `nobody` stands for an empty fleet. Raises what the first `look` raises; a scheduler that does
    not answer later is asked again.
    """
    console = _console()
    screens = _screens(console, look, nobody)
    with contextlib.suppress(KeyboardInterrupt):
        if not console.is_terminal:
            for screen in screens:
                console.print(screen)
        with Live(console=console, auto_refresh=False) as live:
            for screen in screens:
                live.update(screen, refresh=True)


def _screens(
    console: Console, look: Callable[[], Sequence[Worker]], nobody: str
) -> Iterator[RenderableType]:
    found = look()
    trouble = ""
    while True:
        rows = console.height - OTHER_LINES if console.is_terminal else len(found)
        parts: list[RenderableType] = [trouble] if trouble else []
        if found:
            parts += [fleet.summary(found), _table(console, found[: max(1, rows)])]
        else:
            parts.append(nobody)
        if (rest := len(found) - max(1, rows)) > 0:
            parts.append(f"and {rest:,} more: a higher window has room for them")
        yield Group(*parts)
        time.sleep(WATCH_S)
        try:
            found = look()
            trouble = ""
        except Unavailable as error:
            trouble = f"{error} Asking again; last seen:"


def _table(console: Console, workers: Sequence[Worker]) -> RenderableType:
    return fleet.table(
        workers,
        now=time.time(),
        width=console.width if console.is_terminal else None,
        ascii_only=console.options.ascii_only,
    )


def _console() -> Console:
    """Standard output: as wide as the window, or as wide as it takes if there is none."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    return console
