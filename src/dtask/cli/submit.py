"""`dtask submit`: hand over a command, a script or a graph of tasks."""

from typing import Unpack

import click

from dtask.cli import asking, draft, submitting
from dtask.cli.asking import Asked
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet


@click.command(
    "submit",
    cls=submitting.Worded,
    params=[*asking.OPTIONS, asking.STDIN, *asking.ARRAY],
    options_metavar="[OPTIONS]",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND... | FILE")
@click.option("--wait", is_flag=True, help="Wait for the end; exit with 1 if it did not succeed.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("As without it: the number is all that is printed.")
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    dashes: int | None,
    *,
    wait: bool,
    **asked: Unpack[Asked],
) -> None:
    """Submit a job and print its number. Then it is on disk, and will be done.

    After `--` stands a command. A FILE whose name ends in .yaml, .yml or .json is a job, with
    tasks, arrays and needs as the API takes them, and files by their local paths. Any other is a
    script that begins with #! or holds lines `#DTASK --tags gpu --timeout 2h`; options here win,
    and what stands after `--` is given to it.

    With --wait, Ctrl-C ends the wait and not the job.
    """
    drafted = draft.of_words("submit", list(words), dashes, asked)
    with invocation.client() as client:
        job = submitting.submit(client, drafted)
        if invocation.mode == "json" and not wait:
            invocation.print_json({"job_id": job.id, "known": job.known})
        elif invocation.mode != "json":
            click.echo(job.id)
        if wait:
            from dtask.cli import jobs  # noqa: PLC0415 (commands start fast)

            jobs.wait_for(invocation, client, job.id)
