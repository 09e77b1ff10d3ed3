"""`dtask workers`: who is there, what they are, how much they have to do."""

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet


@click.command("workers")
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAGS",
    help="Only those that have it: gpu, 'gpu|tpu', '!spot', 'cuda>=12.0'; repeated, all of them.",
)
@click.option(
    "--status", type=click.Choice(["online", "suspect", "offline"]), help="Only those that are so."
)
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the ids alone, one a line.")
@click.pass_obj
def command(
    invocation: Invocation, tags: tuple[str, ...], status: str | None, *, watch: bool
) -> None:
    """Show the workers: tags, load, status.

    TASKS counts the slots that are taken, also by placements that have not started yet.
    STATUS tells how long ago the last heartbeat came.
    """
    if watch and invocation.mode != "text":
        raise click.UsageError("--watch shows a table: leave out --json and --quiet.")
    tag = ",".join(tags) or None
    nobody = _nobody(invocation.url, filtered=bool(tag or status))
    with invocation.client() as client:
        if watch:
            from dtask.cli import screen  # noqa: PLC0415 (--help need not wait for it)

            screen.watch(lambda: client.workers(tag=tag, status=status), nobody=nobody)
            return
        found = client.workers(tag=tag, status=status)
    if invocation.mode == "json":
        invocation.print_json(found)
    elif invocation.mode == "quiet":
        for worker in found:
            click.echo(worker.worker_id)
    elif found:
        from dtask.cli import screen  # noqa: PLC0415 (same)

        screen.show(found)
    else:
        click.echo(nobody)


def _nobody(url: str, *, filtered: bool) -> str:
    """What to say when there are no workers."""
    if filtered:
        return "No worker is like that. Without --tag and --status, all are listed."
    return (
        f"The scheduler at {url} knows no worker yet. To start one:\n"
        f"  dtask-worker --scheduler {url} --tags auto --max-tasks 4"
    )
