"""Names of jobs, tasks, elements and attempts on a command line: `42`, `42/train`, `42/tile[7]`."""

import click

from dtask.core.jobs import names
from dtask.core.jobs.names import Name
from dtask.errors import InvalidRequest


class NameType(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks
    """A name, as deep as the command takes it."""

    name = "name"

    def __init__(self, *, deepest: str = "attempt") -> None:
        self._deepest = deepest

    def convert(
        self, value: str | Name, param: click.Parameter | None, ctx: click.Context | None
    ) -> Name:
        """The name. Fails with a sentence if it is none, or names too small a part."""
        if isinstance(value, Name):
            return value
        try:
            name = names.parse(value)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)
        if self._deepest == "job" and name.task is not None:
            self.fail(f"{value!r} names a task: expected a job, such as {name.job_id}.", param, ctx)
        if self._deepest == "task" and (name.index is not None or name.number is not None):
            whole = f"{name.job_id}/{name.task}"
            self.fail(
                f"{value!r} names a part of a task: expected a whole one, such as {whole}.",
                param,
                ctx,
            )
        return name


JOB = NameType(deepest="job")
TASK = NameType(deepest="task")
ANY = NameType()
