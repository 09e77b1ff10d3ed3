"""`dtask events`: what moves, as it happens."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import click

from dtask.cli import naming
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation
from dtask.core.jobs.names import Name, attempt_text
from dtask.core.jobs.states import ENDS

if TYPE_CHECKING:
    from dtask.client.job_results import Event

#: Silence after which all is told that is kept.
QUIET_S: Final = 0.5
#: The id before the first one.
FIRST: Final = "0"


@click.command("events")
@click.argument("name", metavar="[JOB]", type=naming.JOB, required=False)
@click.option("-f", "--follow", is_flag=True, help="From now on, until Ctrl-C.")
@SCHEDULER
@TOKEN_FILE
@JSON
@click.pass_obj
def command(invocation: Invocation, name: Name | None, *, follow: bool) -> None:
    """Print what moved: jobs, tasks and elements, a line for each; with --json an object each.

    Without -f those that the scheduler still keeps, 10,000 at most.
    """
    asyncio.run(_print(invocation, None if name is None else name.job_id, follow=follow))


async def _print(invocation: Invocation, job_id: int | None, *, follow: bool) -> None:
    async with invocation.async_client() as client:
        if job_id is not None:
            await client.job(job_id)  # one that is not there has no events, ever
        events = client.events(after=None if follow else FIRST, job=job_id)
        while True:
            try:
                async with asyncio.timeout(None if follow else QUIET_S):
                    event = await anext(events)
            except TimeoutError:
                return
            if invocation.mode == "json":
                invocation.print_json_line(event)
            else:
                click.echo(_line(event))


def _line(event: "Event") -> str:
    from dtask.cli import ending  # noqa: PLC0415 (commands start fast)

    at = time.strftime("%H:%M:%S", time.localtime(event.at))
    if event.task is None:
        name = f"{event.job_id}"
    else:
        name = attempt_text(event.job_id, event.task, event.index, event.number)
    said = [] if event.worker_id is None else [f"on {event.worker_id}"]
    if event.state in ENDS or event.cause is not None:
        how = ending.told(event)
        said += [how] if how != str(event.state) and event.task is not None else []
    state = click.style(f"{event.state:9}", fg=ending.COLOURS[event.state])
    return f"{click.style(at, dim=True)}  {state}  {name}  {', '.join(said)}".rstrip()
