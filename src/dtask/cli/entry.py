"""How a program of dtask starts and ends: every end is an exit code and, at most, a sentence.

0: done. 1: it could not be done, and standard error says why. 2: the command line is wrong.
130: Ctrl-C. `dtask run` stands for another command, and ends with its code. No traceback ever
reaches a user.
"""

import errno
import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from dtask.cli.invocation import Invocation
from dtask.errors import DtaskError

FAILED = 1
INTERRUPTED = 130
NO_SPACE = "The disk that standard output goes to is full: make room there, or write elsewhere."


def run(command: click.Command, name: str) -> NoReturn:
    """Run `command` as the program `name` on this process's arguments, and exit."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that can't show a letter gets a question mark instead of no answer.
            stream.reconfigure(errors="replace")
    invocation = Invocation()
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    colour = False if plain else None  # None: if it is a terminal
    try:
        code = command.main(prog_name=name, standalone_mode=False, obj=invocation, color=colour)
        sys.stdout.flush()
    except click.ClickException as error:
        _show(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader has left; what is still buffered would complain at the interpreter's end.
        sys.stdout = sys.stderr = io.StringIO()
        code = FAILED
    except DtaskError as error:
        invocation.fail(error)
        code = FAILED
    except Exception as error:  # noqa: BLE001 (the last door: a bug is told in a sentence, too)
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full:
            sys.stdout = io.StringIO()  # what is still buffered would complain as above
        click.echo(f"Error: {NO_SPACE}" if full else f"{name}: {_bug(error)}", err=True)
        code = FAILED
    sys.exit(code)


def say_listening(where: str) -> None:
    """Print the line of a service that is ready. It serves all the same if nobody can read it."""
    try:
        click.echo(f"listening on {where}")
    except OSError:
        sys.stdout = io.StringIO()  # what is still buffered would complain at the end


def _open_closed() -> None:
    """Give streams that were closed before the start (`>&-`) a place to go: nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (stays)


def _show(error: click.ClickException) -> None:
    """Tell of a wrong command line; of a flag's value by the flag alone, not by its variable."""
    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx is not None:
        source = error.ctx.get_parameter_source(error.param.name or "")
        if source is ParameterSource.COMMANDLINE and error.param_hint is None:
            error.param_hint = " / ".join(f"'{name}'" for name in error.param.opts)
    error.show()


def _bug(error: Exception) -> str:
    """What broke and where, short enough to be copied into a report."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    return f"a bug of dtask ({type(error).__name__}{where}: {error}). Please report this line."
