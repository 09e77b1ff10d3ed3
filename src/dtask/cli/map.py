"""`dtask map`: one command for each of many inputs."""

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Unpack

import click

from dtask.cli import asking, draft, submitting, template
from dtask.cli.asking import Asked
from dtask.cli.entry import FAILED, INTERRUPTED
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.core.jobs.names import ONLY_TASK, command_name
from dtask.core.jobs.states import State
from dtask.errors import DtaskError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from dtask.client import Client
    from dtask.client.job_results import JobResult

#: What stands between the command and its inputs, or the file that lists them.
INPUTS: Final = ":::"
FILE: Final = "::::"

#: Longest that who leaves waits for the scheduler to hear of it.
LEAVE_S: Final = 3.0
#: Seconds between two tries to stop a job of a scheduler that can't do it yet.
AGAIN_S: Final = 1.0

#: Failed elements that are named, and those of which the last lines are shown.
NAMED_MAX: Final = 20
SHOWN_MAX: Final = 5
SHOWN_LINES: Final = 3


@click.command(
    "map",
    params=[*asking.OPTIONS],
    options_metavar="[OPTIONS]",
    context_settings={"allow_interspersed_args": False},
)
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [::: INPUT... | :::: FILE]"
)
@click.option("-0", "--null", is_flag=True, help="Inputs of a file end with NUL, not with newline.")
@click.option("--output", is_flag=True, help="At the end print what all wrote, in their order.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing but what --output asks for.")
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    *,
    null: bool,
    output: bool,
    **asked: Unpack[Asked],
) -> None:
    """Run a shell command for each input, as many at a time as there are slots.

    {} is the input, {.} the same without its extension, {/} without its directory, {//} its
    directory, {/.} without both, {#} its place in the list, from 0. Whatever is in an input, it
    is one word. A command without any of these gets it as its last word. Inputs stand after :::,
    one a line in the file after ::::, or else on standard input.

    Waits for the end, with progress, and lists what failed; then exits with 1. Ctrl-C stops all,
    a second one does not wait for that.
    """
    shell, items = _split(list(words), null=null)
    try:
        run = template.command(shell)
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
    drafted = draft.of_command(run, asked)
    drafted.body["tasks"][ONLY_TASK]["array"] = items
    if not asked.get("name"):
        drafted.body["name"] = command_name([shell])
    with invocation.client() as client:
        ended, interrupted = _run(client, drafted, silent=invocation.mode != "text")
        if output:
            _print_output(client, ended.job_id, len(items))
        if invocation.mode == "json":
            invocation.print_json(ended)
        elif not ended.ok and invocation.mode == "text":
            _tell_failed(client, ended, items)
    if not ended.ok:
        raise click.exceptions.Exit(INTERRUPTED if interrupted else FAILED)


def _split(words: list[str], *, null: bool) -> tuple[str, list[str]]:
    """The command as text, and its inputs. Raises UsageError."""
    at = next((i for i, word in enumerate(words) if word in (INPUTS, FILE)), len(words))
    shell, rest = " ".join(words[:at]), words[at:]
    if not shell.strip():
        raise click.UsageError("There is no command: expected dtask map 'gzip {}' ::: *.log")
    if INPUTS in rest[1:] or FILE in rest[1:]:
        raise click.UsageError(f"There are two lists of inputs: expected one {INPUTS} or {FILE}.")
    if rest[:1] == [INPUTS]:
        return shell, asking.checked_items(rest[1:], "The inputs")
    if rest and len(rest) != 2:  # noqa: PLR2004 (the mark and one file)
        raise click.UsageError(f"After {FILE} stands one file that lists the inputs.")
    if not rest and sys.stdin.isatty():
        raise click.UsageError(
            f"There are no inputs: expected {INPUTS} and the inputs, {FILE} and a file, or a list "
            f"on standard input."
        )
    file = rest[1] if rest else "-"
    return shell, asking.items_of(file, "The inputs", null=null)


def _run(client: "Client", drafted: "draft.Draft", *, silent: bool) -> "tuple[JobResult, bool]":
    """Submit the job and wait for its end; Ctrl-C stops it, which is told, and waits on."""
    from dtask.cli import progress  # noqa: PLC0415 (commands start fast)

    early: list[int] = []

    def note(number: int, _frame: object) -> None:
        if early:
            raise KeyboardInterrupt
        early.append(number)

    # A job that nobody knows the number of could not be stopped: Ctrl-C is heeded a moment later.
    usual = signal.signal(signal.SIGINT, note)
    job_id = submitting.submit(client, drafted).id
    try:
        signal.signal(signal.SIGINT, usual)
        if early:
            raise KeyboardInterrupt  # noqa: TRY301 (as if it came now)
        return progress.wait(client, job_id, silent=silent), False
    except KeyboardInterrupt:
        cancelling = threading.Thread(target=_cancel, args=(client, job_id), daemon=True)
        try:
            cancelling.start()
            if not silent:
                told = f"Stopping job {job_id}. Ctrl-C again leaves it to the scheduler."
                click.echo(told, err=True)
            return progress.wait(client, job_id, silent=silent), True
        except KeyboardInterrupt:
            cancelling.join(LEAVE_S)  # not before the scheduler has heard of it
            if cancelling.is_alive():
                click.echo(
                    f"The scheduler has not heard that job {job_id} is to be stopped. Later: "
                    f"dtask cancel {job_id}",
                    err=True,
                )
            raise


def _cancel(client: "Client", job_id: int) -> None:
    """Ask for the stop until the scheduler has heard it."""
    said = False
    while True:
        try:
            client.cancel(job_id)
        except Unavailable as error:
            if not said:
                click.echo(f"Job {job_id} can't be stopped yet: {error} Trying on.", err=True)
            said = True
            time.sleep(AGAIN_S)
        except DtaskError as error:
            click.echo(f"Job {job_id} can't be stopped: {error}", err=True)
            return
        else:
            return


def _print_output(client: "Client", job_id: int, count: int) -> None:
    from dtask.cli.output import Outlet  # noqa: PLC0415 (commands start fast)

    outlets = {"stdout": Outlet("stdout"), "stderr": Outlet("stderr")}
    for index in range(count):
        for stream, outlet in outlets.items():
            try:
                pieces = client.logs(
                    f"{job_id}/{ONLY_TASK}[{index}]",
                    stream="stdout" if stream == "stdout" else "stderr",
                )
                for piece in pieces:
                    outlet.write(piece)
            except DtaskError as error:
                if error.code != "no_attempt":  # it was cancelled before it ran
                    raise
    for outlet in outlets.values():
        outlet.close()


def _tell_failed(client: "Client", ended: "JobResult", items: list[str]) -> None:
    """Name what did not succeed, and how to run that again."""
    from dtask.cli import ending, tables  # noqa: PLC0415 (commands start fast)

    name = f"{ended.job_id}/{ONLY_TASK}"
    counts = ended.tasks[ONLY_TASK].counts or {}
    click.echo(f"{len(items):,} inputs: {tables.counts(counts)}.", err=True)
    failed = client.elements(name, state="failed", limit=NAMED_MAX)
    for place, one in enumerate(failed):
        element = f"{name}[{one.index}]"
        click.echo(f"  {element} {items[one.index]!r} {ending.told(one)}", err=True)
        if place < SHOWN_MAX:
            for line in _last_lines(client, element):
                click.echo(click.style(f"      {line}", dim=True), err=True)
    if (more := counts.get(State.FAILED, 0) - len(failed)) > 0:
        click.echo(f"  and {more:,} more", err=True)
    if counts.get(State.CANCELLED):
        click.echo(f"To run what is left: dtask retry {ended.job_id} --wait", err=True)
    else:
        click.echo(
            f"To run the failed ones again: dtask retry {ended.job_id} --failed --wait", err=True
        )


def _last_lines(client: "Client", element: str) -> list[str]:
    """The end of what a failed element wrote to standard error, fit for a terminal."""
    from dtask.cli.escapes import Strainer  # noqa: PLC0415 (commands start fast)

    tail = b""
    try:
        for piece in client.logs(element, stream="stderr"):
            tail = (tail + piece)[-4096:]
    except DtaskError:
        return []  # it never ran, or its log is gone: the line above tells why
    return Strainer(colours=False).feed(tail).splitlines()[-SHOWN_LINES:]
