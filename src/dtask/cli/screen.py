"""The fleet on standard output: once, or again and again in place."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click

from dtask.cli import fleet
from dtask.client import Worker
from dtask.errors import Unavailable

#: Seconds between two looks. Workers heartbeat every three.
WATCH_S: Final = 1.0

#: Lines of the window that rows can't have: a message, head, rest, summary, cursor.
OTHER_LINES: Final = 5


def show(workers: Sequence[Worker]) -> None:
    """Print the fleet once."""
    click.echo("\n".join([*_table(workers, time.time()), fleet.summary(workers)]))


def watch(look: Callable[[], Sequence[Worker]], *, nobody: str) -> None:
    """Show the fleet, in place if the terminal can, until Ctrl-C, which is the way to end it.

    `nobody` stands for an empty fleet. Raises what the first `look` raises; a scheduler that does
    not answer later is asked again.
    """
    from rich.console import Console  # noqa: PLC0415 (70 ms that showing once need not pay)
    from rich.live import Live  # noqa: PLC0415 (same)
    from rich.text import Text  # noqa: PLC0415 (same)

    looks = _looks(look, nobody)
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        if not sys.stdout.isatty() or console.is_dumb_terminal:  # nowhere to go back to
            for text in looks:
                click.echo(text)
        with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
            for text in looks:
                live.update(Text.from_ansi(text, overflow="ignore", no_wrap=True), refresh=True)


def _looks(look: Callable[[], Sequence[Worker]], nobody: str) -> Iterator[str]:
    found, seen_at = look(), time.time()
    trouble = ""
    while True:
        rows = len(found)
        if sys.stdout.isatty():
            rows = min(rows, max(1, shutil.get_terminal_size().lines - OTHER_LINES))
        lines = [trouble] if trouble else []
        lines += [*_table(found[:rows], seen_at), fleet.summary(found)] if found else [nobody]
        if rows < len(found):
            lines.insert(-1, f"and {len(found) - rows:,} more, for a higher window")
        yield "\n".join(lines)
        time.sleep(WATCH_S)
        try:
            found, seen_at = look(), time.time()
            trouble = ""
        except Unavailable:
            seen = time.strftime("%H:%M:%S", time.localtime(seen_at))
            trouble = click.style(f"The scheduler does not answer. Seen at {seen}:", fg="yellow")


def _table(workers: Sequence[Worker], now: float) -> list[str]:
    return fleet.table(
        workers,
        now=now,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        ascii_only=not sys.stdout.encoding.lower().startswith("utf"),
    )
