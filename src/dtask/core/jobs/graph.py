"""Checks of a job that take the whole of it: names, needs, cycles, sizes, files."""

from dtask.core.jobs.model import ELEMENTS_MAX, JobSpec, TaskSpec, size
from dtask.core.jobs.names import check_task_name
from dtask.errors import InvalidRequest

#: Names of environment variables that are dtask's own.
_OWN_PREFIX = "DTASK_"


def check(spec: JobSpec) -> None:
    """Raise InvalidRequest that names the field, if the job can't be run as it stands."""
    check_task_name(spec.queue, "queue")
    elements = 0
    for name, task in spec.tasks.items():
        check_task_name(name, "tasks")
        elements += size(task)
        _check_needs(spec, name, task)
        _check_command(name, task)
        _check_env(name, task)
        for path in task.files:
            check_path(path, f"tasks.{name}.files")
    if elements > ELEMENTS_MAX:
        raise _bad(
            f"tasks: {elements} tasks and elements in all: expected at most {ELEMENTS_MAX}.",
            "tasks",
        )
    if cycle := find_cycle({name: task.needs for name, task in spec.tasks.items()}):
        raise InvalidRequest(
            f"tasks: they need each other in a cycle: {' -> '.join(cycle)}. Each arrow means "
            f"`needs`: remove one of them.",
            code="bad_graph",
            field="tasks",
            cycle=list(cycle),
        )


def find_cycle(needs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Some cycle, its first name repeated at its end; empty if there is none.

    Depth first, without recursion: a chain may be as long as a job has tasks.
    """
    done: set[str] = set()
    for start, first in needs.items():
        path: dict[str, None] = {}  # the way to where we are, in order
        stack = [(start, iter(first))] if start not in done else []
        if stack:
            path[start] = None
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                del path[name]
                done.add(name)
            elif following in path:
                way = list(path)
                return (*way[way.index(following) :], following)
            elif following not in done:
                path[following] = None
                stack.append((following, iter(needs[following])))
    return ()


def check_path(path: str, field: str) -> None:
    """Raise InvalidRequest unless `path` stays inside the working directory."""
    parts = path.split("/")
    if (
        not path
        or len(path) > 1024  # noqa: PLR2004 (a quarter of what Linux takes)
        or not path.isprintable()
        or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)  # noqa: PLR2004 (NAME_MAX)
    ):
        raise _bad(
            f"{field}: {path[:80]!r} is no name of a file here: expected a relative one such as "
            f"`tile.py` or `data/in.csv`, without `..`.",
            field,
        )


def _check_needs(spec: JobSpec, name: str, task: TaskSpec) -> None:
    seen = set()
    for need in task.needs:
        if need not in spec.tasks:
            raise InvalidRequest(
                f"tasks.{name}.needs: there is no task {need[:80]!r} in this job.",
                code="bad_graph",
                field=f"tasks.{name}.needs",
            )
        if need in seen:
            raise InvalidRequest(
                f"tasks.{name}.needs: {need!r} stands there twice: expected it once.",
                code="bad_graph",
                field=f"tasks.{name}.needs",
            )
        seen.add(need)


def _check_env(name: str, task: TaskSpec) -> None:
    field = f"tasks.{name}.env"
    for variable, value in task.env.items():
        if not variable or "=" in variable or "\0" in variable + value:
            raise _bad(f"{field}: {variable[:80]!r} can't be a variable of an environment.", field)
        if variable.startswith(_OWN_PREFIX):
            raise _bad(
                f"{field}: {variable[:80]!r} is dtask's own: expected names that don't begin with "
                f"{_OWN_PREFIX}.",
                field,
            )


def _check_command(name: str, task: TaskSpec) -> None:
    field = f"tasks.{name}.command"
    if any("\0" in word for word in task.command):
        raise _bad(f"{field}: no word of it can hold a NUL.", field)
    if not task.command[0]:
        raise _bad(f"{field}: its first word is the program, and can't be empty.", field)


def _bad(sentence: str, field: str) -> InvalidRequest:
    return InvalidRequest(sentence, code="malformed", field=field)
