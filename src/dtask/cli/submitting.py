"""Sending a draft, and telling of what is wrong with it where it was written down."""

from typing import TYPE_CHECKING, Any, Final

import click

from dtask.cli.draft import Draft
from dtask.core.jobs.names import ONLY_TASK
from dtask.errors import DtaskError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from dtask.client import AsyncClient, Client
    from dtask.client.jobs import AsyncJob, Job

#: What begins the name of a field of a job of one command.
_ONLY: Final = f"tasks.{ONLY_TASK}."
#: Fields that errors are about which name none.
_FIELDS: Final = {"no_job": "after", "unknown_queue": "queue"}
#: Options whose names are not those of their fields.
_OPTIONS: Final = {"files": "--file", "array": "--array", "command": "The command"}


class Worded(click.Command):
    """A command whose arguments are another command, after `--`, or a file.

    Its callback gets `words`, and `dashes`: how many of them stand before `--`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as usual, and note where `--` stands."""
        before = args[: args.index("--")] if "--" in args else args
        after = args[len(before) + 1 :]
        rest = super().parse_args(ctx, [*before, "--", *after] if after else before)
        words = ctx.params.get("words", ())
        ctx.params["dashes"] = len(words) - len(after) if "--" in args else None
        return rest


def submit(client: "Client", draft: Draft) -> "Job":
    """Submit it. Raises DtaskError that names file and line, or the option."""
    from dtask.cli.output import patience  # noqa: PLC0415 (commands start fast)

    try:
        with patience():
            return client.submit(draft.body)
    except (InvalidRequest, NotFound) as error:
        raise located(error, draft) from None


async def submit_async(client: "AsyncClient", draft: Draft) -> "AsyncJob":
    """The same for asyncio."""
    from dtask.cli.output import patience  # noqa: PLC0415 (commands start fast)

    try:
        with patience():
            return await client.submit(draft.body)
    except (InvalidRequest, NotFound) as error:
        raise located(error, draft) from None


def located(error: DtaskError, draft: Draft) -> DtaskError:
    """The error, told in terms of what the user wrote."""
    field = str(error.facts.get("field", _FIELDS.get(error.code, "")))
    if cycle := error.facts.get("cycle"):
        field = f"tasks.{cycle[0]}.needs"
    sentence = str(error)
    if draft.locate is not None and field not in draft.options:
        told = sentence.replace(_ONLY, "") if draft.alone else sentence
        sentence = f"{draft.locate(field)}: {told}"
    elif field.startswith(_ONLY):
        name = field.removeprefix(_ONLY).partition(".")[0].partition("[")[0]
        option = _OPTIONS.get(name) or f"--{name.removesuffix('_s').replace('_', '-')}"
        sentence = sentence.replace(f"{_ONLY}{name}", option)
    facts: dict[str, Any] = dict(error.facts)
    return type(error)(sentence, code=error.code, **facts)
