"""`dtask queues` and `dtask queue`: lines of jobs, their limits and weights."""

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.errors import NotFound


@click.command("queues")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the names alone, one a line.")
@click.pass_obj
def queues(invocation: Invocation) -> None:
    """List the queues: what runs and waits in each, and its limits."""
    with invocation.client() as client:
        found = client.queues()
    if invocation.mode == "json":
        invocation.print_json(found)
    elif invocation.mode == "quiet":
        for one in found:
            click.echo(one.name)
    else:
        from dtask.cli import jobs, tables  # noqa: PLC0415 (commands start fast)

        click.echo("\n".join(tables.queues(found, width=jobs.window())))


@click.command("queue")
@click.argument("name", metavar="NAME")
@click.option(
    "--max-running", type=click.IntRange(0), metavar="N", help="Attempts at a time; 0: no limit."
)
@click.option(
    "--max-queued",
    type=click.IntRange(0),
    metavar="N",
    help="Tasks that may wait; a submit beyond is refused. 0: no limit.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="X",
    help="Share of the slots beside other queues.",
)
@click.option("--pause", is_flag=True, help="Start nothing; what runs goes on.")
@click.option("--resume", is_flag=True, help="End the pause.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def queue(
    invocation: Invocation,
    name: str,
    *,
    max_running: int | None,
    max_queued: int | None,
    weight: float | None,
    pause: bool,
    resume: bool,
) -> None:
    """Show a queue, or make or change one. What is left out stays as it is."""
    if pause and resume:
        raise click.UsageError("--pause and --resume exclude each other.")
    paused = True if pause else False if resume else None
    with invocation.client() as client:
        if (max_running, max_queued, weight, paused) == (None, None, None, None):
            named = [one for one in client.queues() if one.name == name]
            if not named:
                raise NotFound(
                    f"There is no queue {name!r}. To make it: dtask queue {name} --max-running 4",
                    code="unknown_queue",
                )
            found = named[0]
        else:
            found = client.set_queue(
                name, max_running=max_running, max_queued=max_queued, weight=weight, paused=paused
            )
    if invocation.mode == "json":
        invocation.print_json(found)
    elif invocation.mode == "text":
        from dtask.cli import jobs, tables  # noqa: PLC0415 (commands start fast)

        click.echo("\n".join(tables.queues([found], width=jobs.window())))
