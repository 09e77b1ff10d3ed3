"""`dtask up`: a scheduler and workers in one terminal, for trying things."""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dtask.addresses import DEFAULT_SCHEDULER, PORT_MAX
from dtask.errors import InvalidRequest
from dtask.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dtask.cli.local import LocalFleet, Service

#: Each service's name has a colour of its own, the scheduler the first.
COLOURS: Final = ("cyan", "green", "magenta", "blue", "bright_green", "bright_magenta")

#: Facts of a log line that its sentence says too, that are the same for all services here, or
#: that `dtask workers` shows better.
UNSAID: Final = frozenset(
    {"time", "level", "message", "change", "traceback", "scheduler", "schedulers"}
    | {"address", "tags", "max_tasks", "cluster_id"}
)

WORKERS_MAX: Final = 64


@click.command("up")
@click.option(
    "--workers",
    "count",
    type=click.IntRange(1, WORKERS_MAX),
    metavar="N",
    default=2,
    show_default=True,
    help="How many workers.",
)
@click.option(
    "--port",
    type=click.IntRange(0, PORT_MAX),
    metavar="PORT",
    default=8080,
    show_default=True,
    help="Port of the scheduler; 0 for any free one.",
)
@click.option(
    "--tags",
    multiple=True,
    metavar="TAGS",
    default=["auto"],
    show_default=True,
    help="What all workers are, such as gpu,cuda-12.0; auto: what this machine is.",
)
@click.option(
    "--max-tasks",
    type=click.IntRange(1, limits.MAX_TASKS_MAX),
    metavar="N",
    default=4,
    show_default=True,
    help="Slots of each worker.",
)
def command(count: int, port: int, tags: tuple[str, ...], max_tasks: int) -> None:
    """Run a scheduler and workers in this terminal.

    They listen on loopback. Ctrl-C stops all; a second one does not wait for running tasks.
    It is for trying things: jobs and logs are gone when it ends.
    """
    _check(tags)
    with tempfile.TemporaryDirectory(prefix="dtask-up-") as directory:
        names = [f"worker-{number}" for number in range(1, count + 1)]
        same = ["--max-tasks", str(max_tasks), "--tags", ",".join(tags), "--log-format", "json"]
        workers = {name: [*same, "--spool", str(Path(directory) / name)] for name in names}
        scheduler = ["--port", str(port), "--data", str(Path(directory) / "scheduler")]
        code = asyncio.run(_run(scheduler, workers))
    raise click.exceptions.Exit(code)


def _check(texts: tuple[str, ...]) -> None:
    """Raise UsageError for a tag that no worker can have, before anything is started."""
    from dtask.core.placement import tags  # noqa: PLC0415 (--help need not wait for it)

    try:
        for tag in (tag for text in texts for tag in tags.split(text)):
            tags.check_tag(tag, "--tags")
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None


class Lines:
    """Log lines of several services, each behind the time and its name."""

    def __init__(self, names: "Iterable[str]") -> None:
        listed = list(names)
        self._prefixes = {
            name: click.style(f"{name:{max(map(len, listed))}} |", fg=COLOURS[i % len(COLOURS)])
            for i, name in enumerate(listed)
        }

    def say(self, name: str, line: str) -> None:
        """Print one line of a log."""
        click.echo(f"{time.strftime('%H:%M:%S')} {self._prefixes[name]} {_readable(line)}")


async def _run(scheduler: list[str], workers: "Mapping[str, list[str]]") -> int:
    """Start all, wait for a signal or an end, stop all; the exit code."""
    from dtask.cli.local import LocalFleet  # noqa: PLC0415 (--help need not wait for it)

    fleet = LocalFleet(Lines(["scheduler", *workers]).say)
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            fleet.hurry()
            return
        asked.set()
        click.echo("Stopping: the workers first, when their tasks have ended.")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    living = asyncio.create_task(_live(fleet, scheduler, workers))
    asking = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait([living, asking], return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            return 0
        ended = living.result()
        click.echo(
            f"Error: {ended.name} has ended by itself (exit code {ended.process.returncode}): "
            f"stopping all.",
            err=True,
        )
        return 1
    finally:
        living.cancel()
        asking.cancel()
        await asyncio.gather(living, asking, return_exceptions=True)
        await fleet.stop()


async def _live(
    fleet: "LocalFleet", scheduler: list[str], workers: "Mapping[str, list[str]]"
) -> "Service":
    """Start all, say what can be tried, return the first service that ends."""
    url = await fleet.start_scheduler(*scheduler, "--log-format", "json")
    await fleet.start_workers(url, workers)
    await fleet.joined(url)
    click.echo(_ready(url, len(workers)))
    return await fleet.first_end()


def _ready(url: str, workers: int) -> str:
    """What to try, in commands that work as they stand."""
    found = shutil.which("dtask")
    name = "dtask" if found and Path(found).samefile(sys.argv[0]) else sys.argv[0]
    noun = "worker" if workers == 1 else "workers"
    lines = [
        "",
        f"Ready: a scheduler at {url} and {workers} {noun}.",
        f"Its dashboard: {url}/dashboard/ (`{name} dashboard` signs you in)",
        "In another terminal, try",
        *([] if url == DEFAULT_SCHEDULER else [f"  export DTASK_SCHEDULER={url}"]),
        f"  {name} run -- echo hello",
        f"  {name} dashboard",
        f"  {name} top",
        f"  {name} place",
        f'  curl {url}/api/v1/schedule -d \'{{"task_id":"task-001"}}\' \\',
        "       -H 'content-type: application/json'",
        "Ctrl-C stops all.",
        "",
    ]
    return "\n".join(lines)


def _readable(line: str) -> str:
    """A line of a JSON log as people read it; any other line as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    facts = "".join(f" {key}={value}" for key, value in record.items() if key not in UNSAID)
    colour = {"warning": "yellow", "error": "red"}.get(record.get("level", ""))
    return click.style(record.get("message", ""), fg=colour) + click.style(facts, dim=True)
