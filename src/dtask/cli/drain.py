"""`dtask drain` and `dtask undrain`: an operator's word whether a worker takes new tasks."""

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet


@click.command("drain")
@click.argument("worker_id", metavar="WORKER")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def drain(invocation: Invocation, worker_id: str) -> None:
    """Send a worker no new tasks.

    Those it holds go on to their end. It stays drained until `dtask undrain`, also when the
    scheduler is restarted meanwhile.
    """
    with invocation.client() as client:
        worker = client.drain(worker_id)
    if invocation.mode == "json":
        invocation.print_json(worker)
    elif invocation.mode == "text":
        click.echo(f"{worker_id} takes no new tasks. {_held(worker.current_tasks)}")


@click.command("undrain")
@click.argument("worker_id", metavar="WORKER")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def undrain(invocation: Invocation, worker_id: str) -> None:
    """Send a drained worker tasks again."""
    with invocation.client() as client:
        worker = client.undrain(worker_id)
    if invocation.mode == "json":
        invocation.print_json(worker)
    elif invocation.mode == "text":
        if worker.draining:
            click.echo(f"{worker_id} still drains by its own word: it is about to stop.")
        else:
            free = "slot is free" if worker.available == 1 else "slots are free"
            click.echo(f"{worker_id} takes tasks again: {worker.available} {free}.")


def _held(count: int) -> str:
    if not count:
        return "It holds none: it can be stopped."
    noun = "task goes" if count == 1 else "tasks go"
    return f"{count} {noun} on to the end."
