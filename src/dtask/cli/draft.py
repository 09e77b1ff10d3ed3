"""A job about to be submitted."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from dtask.cli import asking, script
from dtask.cli.asking import Asked
from dtask.core.jobs.names import ONLY_TASK, command_name

#: How the names of job files end.
JOB_FILES: Final = (".yaml", ".yml", ".json")

#: What a person may mean by one word that is no file.
_ADVICE: Final = "expected `--` before a command, as in `dtask {name} -- {words}`"


@dataclass(slots=True, kw_only=True)
class Draft:
    """The body of a submit; `files` and `stdin` still name local files, or hold bytes."""

    body: dict[str, Any]
    #: Where a field was written down: `job.yaml, line 7`; None if on the command line.
    locate: Callable[[str], str] | None = None
    #: Fields of the body that are from the command line all the same.
    options: frozenset[str] = frozenset()
    #: The file is one command: its fields stand at the top.
    alone: bool = False
    #: The command runs in the directory of here because nothing else was asked for.
    here: bool = False


def of_words(name: str, words: list[str], dashes: int | None, asked: Asked) -> Draft:
    """What the arguments of `dtask NAME` mean: a command, a script, or a job file.

    `dashes`: how many of the words stand before `--`; None if there is none.
    Raises UsageError.
    """
    before, after = (words, []) if dashes is None else (words[:dashes], words[dashes:])
    if not words:
        raise click.UsageError(f"There is nothing to run: {_advice(name, ['COMMAND'])}.")
    if not before:
        return of_command(after, asked)
    file = Path(before[0])
    if len(before) > 1:
        for_script = f", or `dtask {name} {file} -- {' '.join(before[1:])}` for a script"
        raise click.UsageError(
            f"{before[0]!r} and what follows it are no command yet: {_advice(name, words)}"
            f"{for_script if file.is_file() else ''}."
        )
    if not file.is_file():
        raise click.UsageError(_no_file(file, _advice(name, words)))
    if file.suffix in JOB_FILES:
        return _of_job_file(name, file, after, asked)
    if script.is_script(file):
        return _of_script(name, file, after, asked)
    raise click.UsageError(
        f"{file} is neither a job (its name would end in .yaml, .yml or .json) nor a script (it "
        f"would begin with #! or hold a {script.MARK} line). To run it all the same: "
        f"dtask {name} -- {_shown(file)}"
    )


def of_command(words: list[str], asked: Asked) -> Draft:
    """One command. Raises UsageError."""
    task = asking.task_fields(asked, words)
    cwd = asking.directory(asked, own=False)
    draft = _of_task(asked, task, cwd, files=asking.file_names(asked), name=words)
    draft.here = cwd is not None and asked.get("cwd") is None
    return draft


def _of_script(name: str, file: Path, arguments: list[str], given: Asked) -> Draft:
    asked = asking.joined(script.asked(file), given)
    if name == "run" and (asked.get("array") is not None or asked.get("items") is not None):
        raise click.UsageError(
            f"{file} asks for an array, and this runs one command: expected "
            f"`dtask submit --wait {file}`."
        )
    files = {file.name: file, **asking.file_names(asked)}
    task = asking.task_fields(asked, script.command(file, arguments))
    cwd = asking.directory(asked, own=True)
    if cwd is not None:  # then the script is read where it lies
        task["command"][-1 - len(arguments)] = str(file.absolute())
        del files[file.name]
    return _of_task(asked, task, cwd, files=files, name=[file.name, *arguments])


def _of_job_file(name: str, file: Path, arguments: list[str], asked: Asked) -> Draft:
    if name == "run":
        raise click.UsageError(
            f"{file} is a job of its own tasks: expected `dtask submit --wait {file}`."
        )
    if arguments:
        raise click.UsageError(f"{file} is a job: there is nothing to give {arguments[0]!r} to.")
    meant = {"name", "queue", "priority", "after", "when", "at", "in_s", "key"}
    given = {option for option, value in asked.items() if value not in (None, (), False)}
    if extra := sorted(given - meant):
        option = extra[0].removesuffix("_s").removesuffix("_mb").replace("_", "-")
        raise click.UsageError(
            f"--{option} is about one task: expected it in {file}. Options that go with a job file "
            f"are --name, --queue, --priority, --after, --when, --at, --in and --key."
        )
    from dtask.cli import jobfile  # noqa: PLC0415 (PyYAML: other commands need not wait for it)

    body, places = jobfile.read(file)
    more = asking.job_fields(asked)
    return Draft(
        body=body | more, locate=places.of_field, options=frozenset(more), alone=places.alone
    )


def _of_task(
    asked: Asked, task: dict[str, Any], cwd: str | None, *, files: dict[str, Path], name: list[str]
) -> Draft:
    """A job of this task. Raises UsageError for files that can't be sent."""
    if cwd is not None:
        task["cwd"] = cwd
    for path in files.values():
        asking.check_file(path, "--file")
    if files:
        task["files"] = {local: str(path) for local, path in files.items()}
    if (stdin := asked.get("stdin")) is not None:
        if stdin != "-":
            asking.check_file(Path(stdin), "--stdin")
        task["stdin"] = sys.stdin.buffer.read() if stdin == "-" else Path(stdin)
    body = {"name": command_name(name)} | asking.job_fields(asked)
    return Draft(body=body | {"tasks": {ONLY_TASK: task}})


def _advice(name: str, words: list[str]) -> str:
    return _ADVICE.format(name=name, words=" ".join(words))


def _no_file(file: Path, advice: str) -> str:
    """What is said of a word that names no file that could be read as a job or a script."""
    if file.is_dir():
        return f"{file} is a directory: expected a job file or a script; {advice}."
    if file.exists():
        return f"{file} is no plain file: expected a job file or a script; {advice}."
    if file.suffix in JOB_FILES:
        return f"There is no file {str(file)!r}: expected a job in a file that is there."
    return f"There is no file {str(file)!r}: {advice}."


def _shown(file: Path) -> str:
    """A path as the name of a program: one without a slash would be looked for in PATH."""
    return str(file) if "/" in str(file) else f"./{file}"
