"""`dtask top`: the fleet and its work at a glance, live.

What is shown is `board`'s, how it looks `frame`'s; here are the terminal, the keys, the stream,
and the end.
"""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation
from dtask.core.jobs.states import State
from dtask.errors import Busy, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from dtask.cli.strip import Glyphs
    from dtask.client import AsyncClient
    from dtask.client.job_results import JobSummary
    from dtask.client.picture import Picture

#: Running jobs that are asked for, the newest.
JOBS_MAX: Final = 200
#: Seconds between two looks at jobs that change all the time.
JOBS_S: Final = 1.0
#: Seconds after which ages are drawn anew though nothing happened.
TICK_S: Final = 1.0
#: Width where there is no terminal, unless COLUMNS says otherwise.
COLUMNS: Final = 100


@click.command("top")
@click.option("--once", is_flag=True, help="Print one picture; so where there is no terminal.")
@SCHEDULER
@TOKEN_FILE
@JSON
@click.pass_obj
def command(invocation: Invocation, *, once: bool) -> None:
    """Show the fleet and its work, live: workers, queues, running jobs, rates.

    q or Ctrl-C quits; Tab, the arrow keys, s, / and z choose what is seen.
    """
    from rich.console import Console  # noqa: PLC0415 (70 ms that --help need not pay)

    console = Console(highlight=False)
    lively = sys.stdout.isatty() and not console.is_dumb_terminal
    if once or invocation.mode == "json" or not lively:
        _print_once(invocation, console)
    else:
        asyncio.run(_show(invocation, console))


def _print_once(invocation: Invocation, console: "Console") -> None:
    from dtask.cli.board import Board  # noqa: PLC0415 (same)
    from dtask.cli.frame import Frame  # noqa: PLC0415 (same)

    with invocation.client() as client:
        picture = next(client.live())
        known = picture.totals.jobs is not None
        jobs = client.jobs(state=State.RUNNING, limit=JOBS_MAX) if known else []
    if invocation.mode == "json":
        invocation.print_json(_as_dict(picture, jobs))
        return
    board = Board(invocation.url, picture)
    board.jobs.fill(jobs, more=len(jobs) == JOBS_MAX)
    clock = time.strftime("%H:%M:%S")
    frame = Frame(board, now=picture.now, clock=clock, glyphs=_glyphs())
    console.width = shutil.get_terminal_size((COLUMNS, 0)).columns
    for line in frame.print_out(console.width):
        line.rstrip()
        console.print(line)


def _as_dict(picture: "Picture", jobs: "list[JobSummary]") -> dict[str, Any]:
    """The picture as the snapshot of `GET /api/v1/live` has it, with objects for workers."""
    from msgspec import structs  # noqa: PLC0415 (same)

    return {
        "now": picture.now,
        "started_at": picture.started_at,
        "version": picture.version,
        "workers": [structs.asdict(worker) for worker in picture.workers.values()],
        "totals": picture.totals,
        "running_jobs": jobs,
    }


async def _show(invocation: Invocation, console: "Console") -> None:
    async with invocation.async_client() as client, aclosing(client.live()) as pictures:
        # Before the screen is taken: where nobody answers, that is said in a sentence.
        first = await anext(pictures)
        await _Top(invocation.url, client, pictures, first, console).run()


class _Top:
    """The live view, from its start to its end."""

    def __init__(
        self,
        url: str,
        client: "AsyncClient",
        pictures: "AsyncGenerator[Picture, None]",
        first: "Picture",
        console: "Console",
    ) -> None:
        from dtask.cli.board import Board  # noqa: PLC0415 (same)
        from dtask.cli.full_screen import FullScreen  # noqa: PLC0415 (same)
        from dtask.cli.keys import Keyboard  # noqa: PLC0415 (same)

        self._client = client
        self._pictures = pictures
        self._board = Board(url, first)
        self._board.show(first, at=time.strftime("%H:%M:%S"))
        self._heard_at = time.monotonic()
        self._screen = FullScreen(console)
        self._keyboard = Keyboard()
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        #: There is something to draw, running jobs to ask for; and the end.
        self._changed = asyncio.Event()
        self._stale = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Show it until somebody has seen enough. Raises what ends the stream."""
        self._stale.set()
        signals = self._screen.signals(
            end=self._over.set, changed=self._changed.set, keys=self._typed.put_nowait
        )
        works = (self._over.wait, self._follow, self._ask_jobs, self._take_keys, self._draw)
        with signals, self._screen.taken():
            doing = [asyncio.create_task(work()) for work in works]
            try:
                done, _ = await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in doing:
                    task.cancel()
                await asyncio.gather(*doing, return_exceptions=True)
        for task in done:
            task.result()

    async def _follow(self) -> None:
        async for picture in self._pictures:
            self._board.show(picture, at=time.strftime("%H:%M:%S"))
            self._heard_at = time.monotonic()
            self._changed.set()
            if picture.jobs or picture.more_jobs:
                self._stale.set()

    async def _ask_jobs(self) -> None:
        """Keep the running jobs as fresh as makes sense."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            if self._board.picture.totals.jobs is None:
                self._board.jobs.fill([])
            else:
                with contextlib.suppress(Busy, Unavailable):  # the stream tells, too
                    found = await self._client.jobs(state=State.RUNNING, limit=JOBS_MAX)
                    self._board.jobs.fill(found, more=len(found) == JOBS_MAX)
            self._changed.set()
            await asyncio.sleep(JOBS_S)

    async def _take_keys(self) -> None:
        while True:
            raw = await self._typed.get()
            if not raw or any(self._board.press(key) for key in self._keyboard.feed(raw)):
                return
            self._changed.set()

    async def _draw(self) -> None:
        from dtask.cli.frame import Frame  # noqa: PLC0415 (same)

        glyphs = _glyphs()
        while True:
            self._changed.clear()
            picture = self._board.picture
            # What is not heard any more does not grow older: it is shown as it was.
            passed_s = time.monotonic() - self._heard_at if picture.connected else 0.0
            now, clock = picture.now + passed_s, time.strftime("%H:%M:%S")
            frame = Frame(self._board, now=now, clock=clock, glyphs=glyphs)
            try:
                self._screen.draw(frame.screen(*self._screen.size))
            except OSError:
                return  # the terminal is gone
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()


def _glyphs() -> "Glyphs":
    from dtask.cli import strip  # noqa: PLC0415 (same)

    return strip.UNICODE if sys.stdout.encoding.lower().startswith("utf") else strip.ASCII
