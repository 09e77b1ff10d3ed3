"""`dtask`: the group of commands. A command's module is imported when the command is called."""

import difflib
from importlib import import_module
from typing import Final, NamedTuple

import click

from dtask import __version__
from dtask.cli import entry
from dtask.cli.invocation import SCHEDULER, TOKEN_FILE


class Place(NamedTuple):
    """Where a command is, and what it does in one line."""

    module: str
    attribute: str
    line: str


#: All commands, by section of the help and in its order.
SECTIONS: Final[dict[str, dict[str, Place]]] = {
    "Run commands": {
        "run": Place("run", "command", "Run a command on a worker, as if it ran here."),
        "submit": Place("submit", "command", "Submit a command, a script or a graph of tasks."),
        "map": Place("map", "command", "Run a command for each of many inputs."),
    },
    "Look after jobs": {
        "jobs": Place("jobs", "jobs", "List jobs, the newest first."),
        "job": Place("jobs", "job", "Show a job and its tasks."),
        "why": Place("jobs", "why", "Say why a job does not run yet."),
        "logs": Place("attempts", "logs", "Print what a task wrote, or follow it."),
        "result": Place("attempts", "result", "Print what a task left as its result."),
        "attempts": Place("attempts", "attempts", "List the runs of a task."),
        "wait": Place("jobs", "wait", "Wait for the end of jobs."),
        "cancel": Place("jobs", "cancel", "Stop jobs or tasks."),
        "retry": Place("jobs", "retry", "Run again what did not succeed."),
        "events": Place("events", "command", "Print what moves, as it happens."),
    },
    "Look after queues and the store": {
        "queues": Place("queues", "queues", "List the queues."),
        "queue": Place("queues", "queue", "Show a queue, or make or change one."),
        "backup": Place("backup", "command", "Write a copy of all jobs to a file."),
    },
    "Place tasks": {
        "place": Place("place", "command", "Choose a worker for a task and hold a slot there."),
        "release": Place("release", "command", "Give back the slot that is held for a task."),
    },
    "Look after the fleet": {
        "top": Place("top", "command", "Show the fleet and its work, live."),
        "dashboard": Place("dashboard", "command", "Open the dashboard in a browser."),
        "workers": Place("workers", "command", "Show the workers: tags, load, status."),
        "drain": Place("drain", "drain", "Send a worker no new tasks."),
        "undrain": Place("drain", "undrain", "Send a drained worker tasks again."),
    },
    "Try it": {
        "up": Place("up", "command", "Run a scheduler and workers in this terminal."),
        "bench": Place("bench", "command", "Measure how fast placement is on this machine."),
        "sim": Place("sim", "command", "Simulate a fleet with faults, by seed."),
    },
}
COMMANDS: Final = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Commands(click.Group):
    """A group that knows its commands by name, and their modules only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (same)
        """The command, its module imported; None for an unknown name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"dtask.cli.{place.module}"), place.attribute)
        assert isinstance(command, click.Command), cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with. Raises UsageError that names near misses."""
        name = args[0]
        if name not in COMMANDS:
            close = difflib.get_close_matches(name, COMMANDS, n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else "expected one of these:"
            all_names = "" if close else f" {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {name!r}: {hint}{all_names}", ctx)
        return name, self.get_command(ctx, name), args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (same)
        """Write one line a command, by section."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(f"{name:9}", place.line) for name, place in commands.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The services themselves are `dtask-scheduler` and `dtask-worker`.",
)
@SCHEDULER
@TOKEN_FILE
@click.version_option(__version__, message="dtask %(version)s", help="Show the version.")
def group() -> None:
    """Run commands and graphs of commands on workers, or ask which worker should run a task."""


def main() -> None:
    """Run `dtask`."""
    entry.run(group, "dtask")
