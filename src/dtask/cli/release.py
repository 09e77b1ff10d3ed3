"""`dtask release`: give back the slot that is held for a task."""

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet


@click.command("release")
@click.argument("task_id", metavar="TASK")
@click.option(
    "--fence",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Only the placement with this fence; a newer one stays.",
)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def command(invocation: Invocation, task_id: str, fence: int | None) -> None:
    """Give back the slot that is held for a task.

    Do so when the task will not run after all. Else the slot is free when the worker says that
    the task has ended, or when the placement expires.
    """
    with invocation.client() as client:
        client.release(task_id, fence=fence)
    if invocation.mode == "json":
        invocation.print_json({"status": "released", "task_id": task_id})
    elif invocation.mode == "text":
        click.echo(f"The slot of {task_id} is free again.")
