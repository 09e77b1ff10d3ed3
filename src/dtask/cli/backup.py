"""`dtask backup`: a copy of the scheduler's store, while it runs."""

from pathlib import Path

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet


@click.command("backup")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def command(invocation: Invocation, file: Path) -> None:
    """Write a copy of all jobs, tasks, attempts and queues to a new file.

    The scheduler goes on meanwhile. Logs and files of tasks are not in it. To go back to it:
    stop the scheduler, put the copy in the place of dtask.db in its data directory, start it.
    """
    with invocation.client() as client:
        client.backup(file)
    size = file.stat().st_size
    if invocation.mode == "json":
        invocation.print_json({"file": str(file), "bytes": size})
    elif invocation.mode == "text":
        from dtask.cli import tables  # noqa: PLC0415 (commands start fast)

        click.echo(f"{file}: {tables.size(size)}.")
