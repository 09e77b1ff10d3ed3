"""`dtask attempts`, `logs`, `result`: what runs of a task did, wrote and left."""

import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import click

from dtask.cli import naming
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.core.jobs.names import Name, attempt_text

if TYPE_CHECKING:
    from dtask.cli.output import Stream
    from dtask.client import Client

#: Bytes of a result that are looked at to tell whether a terminal can show it.
_SHOWN_BYTES: Final = 1024 * 1024

#: What is said of a log that a backup, say, did not hold.
_GONE: Final = "What it wrote is not in the scheduler's data directory any more."


@click.command("attempts")
@click.argument("name", metavar="JOB[/TASK]", type=naming.ANY)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the names alone, one a line.")
@click.pass_obj
def attempts(invocation: Invocation, name: Name) -> None:
    """List the attempts of a task or an element, the newest first."""
    with invocation.client() as client:
        found = client.attempts(str(name))
        if invocation.mode == "json":
            invocation.print_json(found)
            return
        task = name.task or next(iter(client.job(name.job_id).tasks))
    named = [(attempt_text(name.job_id, task, one.index, one.number), one) for one in found]
    if invocation.mode == "quiet":
        for text, _ in named:
            click.echo(text)
    elif named:
        from dtask.cli import jobs, tables  # noqa: PLC0415 (commands start fast)

        click.echo("\n".join(tables.attempts(named, now=time.time(), width=jobs.window())))
    else:
        click.echo(f"{name.job_id}/{task} was not attempted yet. Why: dtask why {name.job_id}")


@click.command("logs")
@click.argument("name", metavar="JOB[/TASK]", type=naming.ANY)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with what it writes, and with its retries."
)
@click.option("--stderr", is_flag=True, help="What it wrote to standard error.")
@click.option(
    "--all", "both", is_flag=True, help="Both streams, each to the one of that name here."
)
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="Of this attempt.  [default: the last one]",
)
@SCHEDULER
@TOKEN_FILE
@click.pass_obj
def logs(
    invocation: Invocation,
    name: Name,
    *,
    follow: bool,
    stderr: bool,
    both: bool,
    attempt: int | None,
) -> None:
    """Print what a task wrote: 42 if it has one task, 42/train, 42/tile[7], 42/train#2.

    With -f it waits for the task to start, goes on over retries and ends with the task; Ctrl-C
    ends it sooner, and not the task. A terminal is sent no escape sequences but colours.
    """
    if stderr and both:
        raise click.UsageError("--stderr and --all exclude each other.")
    if attempt is not None:
        if name.number is not None:
            raise click.UsageError(f"{name} names an attempt: leave out --attempt.")
        name = Name(name.job_id, name.task, name.index, attempt)
    with invocation.client() as client:
        if name.task is None:
            name = Name(name.job_id, _only_task(client, name.job_id), None, name.number)
        source: Stream = "stderr" if stderr else "stdout"
        if both:
            copied = _copy_both(client, name, follow=follow)
        else:
            copied = {source: _copy(client, name, source, "stdout", follow=follow)}
        if not follow:  # then the lines of what is missing stand in the log itself
            _say_what_is_missing(client, name, copied)


@click.command("result")
@click.argument("name", metavar="JOB[/TASK]", type=naming.ANY)
@SCHEDULER
@TOKEN_FILE
@click.pass_obj
def result(invocation: Invocation, name: Name) -> None:
    """Print what a task left in the file that DTASK_RESULT named."""
    with invocation.client() as client:
        found = client.result(str(name))
    if sys.stdout.isatty() and not _is_text(found):
        raise click.ClickException(
            f"The result has {len(found):,} bytes and is no text: send it to a file, as in "
            f"`dtask result {name} > FILE`."
        )
    sys.stdout.buffer.write(found)
    sys.stdout.buffer.flush()


def _copy(client: "Client", name: Name, source: "Stream", target: "Stream", *, follow: bool) -> int:
    """Copy a stream; how many bytes it had."""
    from dtask.cli.output import Outlet  # noqa: PLC0415 (commands start fast)

    outlet = Outlet(target)
    count = 0
    for piece in client.logs(str(name), stream=source, follow=follow):
        outlet.write(piece)
        count += len(piece)
    outlet.close()
    return count


def _say_what_is_missing(client: "Client", name: Name, copied: "dict[Stream, int]") -> None:
    for one in client.attempts(str(name)):
        if name.number in (None, one.number):
            written = {"stdout": one.stdout_bytes, "stderr": one.stderr_bytes}
            if any(written[stream] and not count for stream, count in copied.items()):
                click.echo(f"dtask: {_GONE}", err=True)
            if one.truncated:
                click.echo("dtask: It wrote more than is kept: what is over is left out.", err=True)
            if one.log_lost:
                click.echo("dtask: Some of what it wrote was lost with its worker.", err=True)
            return


def _copy_both(client: "Client", name: Name, *, follow: bool) -> "dict[Stream, int]":
    """Copy both streams at once; how many bytes each had. Raises what went wrong with either."""
    failed: list[BaseException] = []
    copied: dict[Stream, int] = {}

    def beside() -> None:
        try:
            copied["stderr"] = _copy(client, name, "stderr", "stderr", follow=follow)
        except BaseException as error:  # noqa: BLE001 (raised below, where a user is told)
            failed.append(error)

    thread = threading.Thread(target=beside, daemon=True)
    thread.start()
    copied["stdout"] = _copy(client, name, "stdout", "stdout", follow=follow)
    thread.join()
    if failed:
        raise failed[0]
    return copied


def _only_task(client: "Client", job_id: int) -> str:
    tasks = list(client.job(job_id).tasks)
    if len(tasks) > 1:
        shown = ", ".join(f"{job_id}/{task}" for task in tasks[:8])
        more = ", ..." if len(tasks) > 8 else ""  # noqa: PLR2004 (as above)
        raise click.UsageError(f"Job {job_id} has {len(tasks)} tasks: name one, {shown}{more}.")
    return tasks[0]


def _is_text(raw: bytes) -> bool:
    try:
        text = raw[:_SHOWN_BYTES].decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\n\t\r" for char in text)
