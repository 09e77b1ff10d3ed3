"""A script that is submitted: what its head asks for, and how it is run.

    #!/bin/sh
    #DTASK --tags gpu,cuda>=12 --timeout 2h
    #DTASK --retries 3

The head is all lines up to the first that is neither empty nor a comment. The script is sent as a
file and run by the interpreter of its first line, or else by `sh`.
"""

import shlex
from pathlib import Path
from typing import Final, cast

import click

from dtask.cli.asking import ARRAY, OPTIONS, STDIN, Asked

MARK: Final = "#DTASK"
HEAD_BYTES_MAX: Final = 64 * 1024


def is_script(file: Path) -> bool:
    """Whether a file can be submitted as a script. Raises UsageError if it can't be read."""
    lines = _head(file)
    return bool(lines) and (lines[0].startswith("#!") or any(map(_is_ours, lines)))


def asked(file: Path) -> Asked:
    """What the head asks for. Raises UsageError that names the line."""
    words: list[str] = []
    for number, line in enumerate(_head(file), start=1):
        if not _is_ours(line):
            continue
        try:
            more = shlex.split(line.removeprefix(MARK))
            _parse(more)  # each line by itself, so that an error is that line's
        except ValueError as error:
            raise click.UsageError(f"{file}, line {number}: {error}.") from None
        except click.ClickException as error:
            raise click.UsageError(f"{file}, line {number}: {error.format_message()}") from None
        words += more
    return _parse(words)


def command(file: Path, arguments: list[str]) -> list[str]:
    """The words that run the script where it was sent to, in the task's own directory."""
    first = (_head(file) or [""])[0]
    interpreter = first.removeprefix("#!").strip() if first.startswith("#!") else "sh"
    # As the kernel does it: a program, and all the rest as one argument.
    return [*interpreter.split(maxsplit=1), f"./{file.name}", *arguments]


def _is_ours(line: str) -> bool:
    return line == MARK or line.startswith((f"{MARK} ", f"{MARK}\t"))


def _head(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(HEAD_BYTES_MAX)
    except OSError as error:
        raise click.UsageError(f"{file} can't be read: {error.strerror}.") from None
    lines: list[str] = []
    for line in raw.decode(errors="replace").splitlines():
        if line.strip() and not line.startswith("#"):
            break
        lines.append(line.rstrip())
    return lines


def _parse(words: list[str]) -> Asked:
    options = cast("list[click.Parameter]", [*OPTIONS, STDIN, *ARRAY])
    head = click.Command(MARK, params=options, add_help_option=False)
    return cast("Asked", head.make_context(MARK, list(words)).params)
