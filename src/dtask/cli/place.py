"""`dtask place`: which worker should run this? One placement, or the explained refusal."""

import math
import time
from typing import TYPE_CHECKING, Any

import click

from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet
from dtask.cli.seconds import Seconds
from dtask.errors import NoWorker
from dtask.wire import limits

if TYPE_CHECKING:
    from dtask.client import Placement

#: The reasons of a refusal as people say them: of one worker, of several.
_WORDS = {
    "offline": ("is offline", "are offline"),
    "draining": ("is draining", "are draining"),
    "excluded": ("is excluded by --exclude", "are excluded by --exclude"),
    "untrusted": ("is not trusted", "are not trusted"),
    "full": ("is full", "are full"),
}


@click.command("place")
@click.option(
    "--tags",
    multiple=True,
    metavar="TAGS",
    help="What the worker must have: gpu, 'gpu|tpu' (any of), '!spot' (none of), 'cuda>=12.0'. "
    "Several by repeating the option or by commas; all must hold.",
)
@click.option(
    "--prefer", multiple=True, metavar="TAGS", help="Tags of a worker that is better than others."
)
@click.option("--exclude", multiple=True, metavar="WORKER", help="A worker that is not wanted.")
@click.option(
    "--strategy",
    type=click.Choice(["least_loaded", "bin_pack"]),
    default="least_loaded",
    show_default=True,
    help="Spread tasks out, or fill workers up one after another.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=Seconds(limits.TTL_S_MIN, limits.TTL_S_MAX),
    default=limits.TTL_S_DEFAULT,
    show_default=True,
    metavar="SECONDS",
    help="Hold the slot so long for the task to start.",
)
@click.option(
    "--task-id",
    metavar="ID",
    help="Name of the task; asking again with it gets the same answer.  [default: made]",
)
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0),
    metavar="SECONDS",
    help="If no worker can take the task now, ask again for so long.",
)
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the worker's address alone.")
@click.pass_obj
def command(  # noqa: PLR0917 (click passes them by name)
    invocation: Invocation,
    tags: tuple[str, ...],
    prefer: tuple[str, ...],
    exclude: tuple[str, ...],
    strategy: str,
    ttl_s: float,
    task_id: str | None,
    wait_s: float | None,
) -> None:
    """Choose a worker for a task and hold a slot there.

    Prints where to run the task. If no worker can take it, says why and exits with 1.
    """
    try:
        with invocation.client() as client:
            placement = client.place(
                task_id,
                required_tags=",".join(tags),
                preferred_tags=",".join(prefer),
                exclude_workers=exclude,
                strategy="bin_pack" if strategy == "bin_pack" else "least_loaded",
                ttl_s=ttl_s,
                timeout=wait_s,
            )
    except NoWorker as refusal:
        if invocation.mode == "json":
            raise
        for line in explained(refusal.facts, waited=bool(wait_s)):
            click.echo(line, err=True)
        raise click.exceptions.Exit(1) from None
    _show(invocation, placement)


def explained(facts: dict[str, Any], *, waited: bool) -> list[str]:
    """A refusal in lines for people: who can't take the task and why, what to try next."""
    reasons = facts.get("reasons") or {}
    lines = [f"{click.style('No worker', fg='yellow')} can take the task now:"]
    meant = facts.get("did_you_mean") or {}
    missing = reasons.get("missing_tag") or {}
    for tag, count in sorted(missing.items(), key=lambda item: -item[1]):
        verb = "meet" if tag.startswith("!") else "have"
        lines.append(f"  {count} {'does' if count == 1 else 'do'} not {verb} {tag}")
    for reason, words in _WORDS.items():
        if count := reasons.get(reason):
            lines.append(f"  {count} {words[count != 1]}")
    if not reasons:
        lines = [f"{click.style('No worker', fg='yellow')} is known to the scheduler."]
    for name, alike in meant.items():
        lines.append(f"No worker has the tag {name}: did you mean {' or '.join(alike)}?")
    if facts.get("warming_up"):
        lines.append("The scheduler has just started and may not know all workers yet.")
    if (after_s := facts.get("retry_after_s")) and not waited:
        lines.append(f"Ask again in {math.ceil(after_s)} s, or let dtask ask again: --wait 60.")
    return lines


def _show(invocation: Invocation, placement: "Placement") -> None:
    if invocation.mode == "json":
        invocation.print_json(placement)
        return
    if invocation.mode == "quiet":
        click.echo(placement.address)
        return
    left_s = max(0.0, placement.expires_at - time.time())
    until = time.strftime("%H:%M:%S", time.localtime(placement.expires_at))
    rows = {
        "Worker": click.style(placement.worker_id, bold=True),
        "Address": placement.address,
        "Task": placement.task_id,
        "Fence": str(placement.fence),
        "Expires": f"in {left_s:.0f} s, at {until}, unless the worker reports the task",
    }
    for name, value in rows.items():
        click.echo(f"{name:9}{value}")
