"""`dtask jobs`, `job`, `why`, `cancel`, `retry`, `wait`: what became of what was submitted."""

import shutil
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from dtask.cli import naming
from dtask.cli.entry import FAILED, INTERRUPTED
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.cli.seconds import Duration, told
from dtask.core.jobs.model import DURATION_S_MAX
from dtask.core.jobs.names import Name
from dtask.core.jobs.states import ENDS, State
from dtask.errors import Conflict, DtaskError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dtask.client import Client
    from dtask.client.job_results import JobResult, Reason

#: Failed elements of an array that are named.
NAMED_MAX: Final = 20


@click.command("jobs")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only those: pending, queued, scheduled, running, succeeded, failed, cancelled, skipped. "
    "Several by repeating the option or by commas.",
)
@click.option("--queue", metavar="NAME", help="Only those of this queue.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the numbers alone, one a line.")
@click.pass_obj
def jobs(invocation: Invocation, states: tuple[str, ...], queue: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    wanted = [part for text in states for part in text.split(",")]
    for state in wanted:
        if state not in list(State):
            raise click.BadParameter(
                f"{state!r} is no state: expected some of {', '.join(State)}.",
                param_hint="--state",
            )
    with invocation.client() as client:
        found = client.jobs(state=wanted or None, queue=queue, limit=limit)
    if invocation.mode == "json":
        invocation.print_json(found)
    elif invocation.mode == "quiet":
        for one in found:
            click.echo(one.job_id)
    elif found:
        from dtask.cli import tables  # noqa: PLC0415 (commands start fast)

        click.echo("\n".join(tables.jobs(found, now=time.time(), width=window())))
        if len(found) == limit:
            click.echo(f"The newest {limit:,}; for more: --limit.")
    elif wanted or queue:
        click.echo("No job is like that. Without --state and --queue, all are listed.")
    else:
        click.echo("There is no job yet. To submit one: dtask submit -- COMMAND")


@click.command("job")
@click.argument("name", metavar="JOB", type=naming.JOB)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the state alone.")
@click.pass_obj
def job(invocation: Invocation, name: Name) -> None:
    """Show a job: its tasks, how they stand, what they wait for, why they failed."""
    with invocation.client() as client:
        found = client.job(name.job_id)
        if invocation.mode == "json":
            invocation.print_json(found)
            return
        if invocation.mode == "quiet":
            click.echo(found.state)
            return
        from dtask.cli import tables  # noqa: PLC0415 (commands start fast)

        click.echo("\n".join(tables.job(found, now=time.time(), width=window())))
        if failed := _failed_elements(client, found):
            click.echo("\n".join(("", *failed)))
        if not found.ended:
            waiting = [
                reason
                for reason in client.why(name.job_id).reasons
                if reason.code not in ("running", "needs", "more")
            ]
            _show_reasons(waiting[:NAMED_MAX])
    if found.state in (State.FAILED, State.CANCELLED):
        click.echo(f"\nTo run again what did not succeed: dtask retry {found.job_id}")


@click.command("why")
@click.argument("name", metavar="JOB[/TASK]", type=naming.ANY)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the words for programs alone, one a line.")
@click.pass_obj
def why(invocation: Invocation, name: Name) -> None:
    """Say why a job, or a task of it, does not run yet, or why it did not succeed."""
    part = Name(name.job_id, name.task, name.index)
    with invocation.client() as client:
        found = client.why(str(part))
        if invocation.mode == "json":
            invocation.print_json(found)
        elif invocation.mode == "quiet":
            for reason in found.reasons:
                click.echo(reason.code)
        else:
            if part.task is None and found.state in ENDS:
                from dtask.cli import tables  # noqa: PLC0415 (commands start fast)

                ended = client.job(part.job_id)
                click.echo(f"It waits for nothing. {tables.headline(ended, now=time.time())}.")
            elif not found.reasons:
                click.echo(_why_not(client, part))
            _print_reasons(found.reasons)


@click.command("cancel")
@click.argument("names", metavar="JOB[/TASK]...", type=naming.TASK, nargs=-1, required=True)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def cancel(invocation: Invocation, names: tuple[Name, ...]) -> None:
    """Stop jobs, or tasks of them, and all that needs them.

    Their processes get SIGTERM and, after --grace, SIGKILL; `dtask wait` waits for that.
    """
    from dtask.cli.output import patience  # noqa: PLC0415 (commands start fast)

    refused: dict[Name, DtaskError] = {}
    with invocation.client() as client:
        for name in names:
            try:
                with patience():
                    client.cancel(name.job_id, name.task)
            except (Conflict, InvalidRequest, NotFound) as error:
                if len(names) == 1:
                    raise
                refused[name] = error  # it has ended, say: that is no reason to spare the others
    if invocation.mode == "json":
        invocation.print_json([_cancelled(name, refused.get(name)) for name in names])
    else:
        for name in names:
            if name in refused:
                invocation.fail(refused[name])
            elif invocation.mode == "text":
                told_name = _told(name).capitalize()
                click.echo(f"{told_name} is being stopped. Until it is: dtask wait {name.job_id}")
    if refused:
        raise click.exceptions.Exit(FAILED)


@click.command("retry")
@click.argument("name", metavar="JOB[/TASK]", type=naming.TASK)
@click.option("--failed", is_flag=True, help="Only what failed, and what was skipped for it.")
@click.option("--wait", is_flag=True, help="Wait for the end of the job; exit with 1 if it fails.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def retry(invocation: Invocation, name: Name, *, failed: bool, wait: bool) -> None:
    """Run again what did not succeed: failed, cancelled or skipped."""
    with invocation.client() as client:
        count = client.retry(
            name.job_id, again="failed" if failed else "unsuccessful", task=name.task
        )
        if invocation.mode == "json" and not wait:
            invocation.print_json({"job_id": name.job_id, "tasks": count})
        elif invocation.mode == "text":
            noun = "task starts" if count == 1 else "tasks start"
            nothing = f"There is nothing to run again in {_told(name)}."
            click.echo(f"{count:,} {noun} over in job {name.job_id}." if count else nothing)
        if wait and not await_end(invocation, client, name.job_id, err=True).ok:
            if invocation.mode == "text":
                option = " --failed" if failed else ""
                click.echo(f"To run them again: dtask retry {name}{option} --wait", err=True)
            raise click.exceptions.Exit(FAILED)


@click.command("wait")
@click.argument("names", metavar="JOB...", type=naming.JOB, nargs=-1, required=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(DURATION_S_MAX),
    metavar="DURATION",
    help="Give up after that: 90, 90s, 5m, 2h, 1d.",
)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print nothing.")
@click.pass_obj
def wait(invocation: Invocation, names: tuple[Name, ...], timeout_s: float | None) -> None:
    """Wait for the end of jobs. Exits with 1 if one of them did not succeed.

    Ctrl-C ends the wait, and no job.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    failed = False
    with invocation.client() as client:
        for name in names:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                ended = await_end(invocation, client, name.job_id, timeout_s=left_s)
            except TimeoutError:
                raise click.ClickException(
                    f"Job {name.job_id} goes on after {told(timeout_s or 0.0)}."
                ) from None
            failed |= not ended.ok
    if failed:
        raise click.exceptions.Exit(FAILED)


def wait_for(invocation: Invocation, client: "Client", job_id: int) -> None:
    """Wait for the end of a job and tell it. Raises Exit with 1 if it did not succeed.

    What is told goes to standard error: standard output has the job's number alone.
    """
    if not await_end(invocation, client, job_id, err=True).ok:
        raise click.exceptions.Exit(FAILED)


def await_end(
    invocation: Invocation,
    client: "Client",
    job_id: int,
    *,
    timeout_s: float | None = None,
    err: bool = False,
) -> "JobResult":
    """Wait for the end of a job, with progress, and tell how it ended. Ctrl-C ends the wait.

    Raises TimeoutError.
    """
    from dtask.cli import progress, tables  # noqa: PLC0415 (commands start fast)

    silent = invocation.mode != "text"
    try:
        ended = progress.wait(client, job_id, timeout_s=timeout_s, silent=silent)
    except KeyboardInterrupt:
        if not silent:
            click.echo(f"Job {job_id} goes on. To wait again: dtask wait {job_id}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if invocation.mode == "json":
        invocation.print_json(ended)
    elif invocation.mode == "text":
        click.echo(tables.headline(ended, now=time.time()), err=err)
        for line in (*failures(ended), *_failed_elements(client, ended)):
            click.echo(line, err=True)
    return ended


def failures(ended: "JobResult") -> list[str]:
    """What went wrong, a line for each plain task; of a job that was skipped, for each task."""
    from dtask.cli import ending  # noqa: PLC0415 (commands start fast)

    own = (State.SKIPPED,) if ended.state is State.SKIPPED else (State.FAILED, State.CANCELLED)
    return [
        f"  {ended.job_id}/{name} {ending.told(task)}"
        for name, task in ended.tasks.items()
        if task.state in own and (task.counts is None or task.state is State.SKIPPED)
    ]


def window() -> int | None:
    """How wide standard output is; None if it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _failed_elements(client: "Client", found: "JobResult") -> list[str]:
    """A line for each element of an array that failed: which one, and why."""
    from dtask.cli import ending  # noqa: PLC0415 (commands start fast)

    lines = []
    for name, task in found.tasks.items():
        count = (task.counts or {}).get(State.FAILED, 0)
        if not count:
            continue
        whole = f"{found.job_id}/{name}"
        array = client.task(whole).spec.array
        for one in client.elements(whole, state="failed", limit=NAMED_MAX):
            item = f" {array[one.index]!r}" if isinstance(array, tuple) else ""
            lines.append(f"  {whole}[{one.index}]{item} {ending.told(one)}")
        if count > NAMED_MAX:
            lines.append(f"  and {count - NAMED_MAX:,} more")
    return lines


def _show_reasons(reasons: "list[Reason]") -> None:
    if reasons:
        click.echo()
        _print_reasons(reasons)


def _print_reasons(reasons: "Iterable[Reason]") -> None:
    for reason in reasons:
        many = f" ({reason.count:,} elements)" if reason.count > 1 and reason.code != "more" else ""
        until = ""
        if reason.until is not None and reason.code != "backoff":
            until = f" In {told(max(0.0, reason.until - time.time()))}."
        click.echo(f"{click.style(reason.name, bold=True)}{many}: {reason.sentence}{until}")


def _why_not(client: "Client", name: Name) -> str:
    """Why nothing of this waits, while its job goes on or because it succeeded."""
    from dtask.cli import ending  # noqa: PLC0415 (commands start fast)

    task = client.job(name.job_id).tasks.get(name.task or "")
    if task is None or task.state not in ENDS or (name.index is not None and task.counts):
        return f"Nothing of {name} waits."
    return f"{name} waits for nothing: it {ending.told(task)}."


def _told(name: Name) -> str:
    return f"job {name}" if name.task is None else str(name)


def _cancelled(name: Name, error: DtaskError | None) -> dict[str, object]:
    """What became of the cancel of one of several, as JSON has it."""
    return {"name": str(name), "cancelled": error is None} | (error.body() if error else {})
