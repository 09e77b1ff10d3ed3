"""Bytes that tasks wrote, on their way to standard output or standard error.

A terminal gets them strained (see `escapes`); a file or a pipe gets them as they are.
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Final, Literal, TextIO

from rich.cells import cell_len, set_cell_size

from dtask.cli.escapes import Strainer

#: Seconds without an answer after which a person is told what is waited for.
PATIENCE_S: Final = 3.0

#: Moves to the start of the line and empties it.
_EMPTY: Final = "\r\x1b[K"

Stream = Literal["stdout", "stderr"]


class Outlet:
    """One of this process's own streams, as the end of a task's."""

    def __init__(self, stream: Stream) -> None:
        self._stream: TextIO = getattr(sys, stream)
        self._strainer = Strainer(colours=colourful()) if self._stream.isatty() else None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self._strainer is not None

    def write(self, raw: bytes) -> None:
        """Pass bytes on at once. Raises BrokenPipeError if nobody reads any more."""
        if self._strainer is None:
            self._stream.flush()
            self._stream.buffer.write(raw)
            self._stream.buffer.flush()
        else:
            self._say(self._strainer.feed(raw))

    def close(self) -> None:
        """Nothing more comes: leave the terminal as it was."""
        if self._strainer is not None:
            self._say(self._strainer.close())

    def _say(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


class StatusLine:
    """What standard error says while there is nothing else: on a terminal one line, kept fresh.

    Elsewhere each text is a line of its own, and is said once.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._live = live()
        self._shown = ""
        self._said = ""

    def show(self, text: str, *, subject: str, more: str = "") -> None:
        """Say this now. `more` is what changes all the time, and only a live line tells.

        Where nothing is live, a text of the same `subject` as the last one is not said again.
        """
        if self._silent:
            return
        if self._live:
            line = f"{text}{more}"
            room = shutil.get_terminal_size().columns - 1
            if cell_len(line) > room:
                line = set_cell_size(line, room - 1) + "…"
            self._put(line)
        elif subject != self._said:
            self._said = subject
            self.say(text)

    def clear(self) -> None:
        """Take the line away, before something else is written."""
        if self._shown:
            self._put("")

    def say(self, text: str, *, interrupted: bool = False) -> None:
        """A line that stays. `interrupted`: a terminal has just shown `^C`."""
        if self._silent:
            return
        newline = interrupted and self._live and not self._shown
        self.clear()
        with contextlib.suppress(OSError):  # it is said to people, if there are any
            if newline:
                sys.stderr.write("\n")
            sys.stderr.write(f"dtask: {text}\n")
            sys.stderr.flush()

    def _put(self, line: str) -> None:
        if line == self._shown:
            return
        self._shown = line
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{_EMPTY}{line}")
            sys.stderr.flush()


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """On a terminal, say that the scheduler is waited for if the block takes long."""
    line = StatusLine()
    text = "Waiting for the scheduler, which has not taken this in yet."
    word = threading.Timer(PATIENCE_S, line.show, (text,), {"subject": "silence"})
    word.daemon = True
    if live():
        word.start()
    try:
        yield
    finally:
        word.cancel()
        if word.ident is not None:
            word.join()
        line.clear()


def live() -> bool:
    """Whether standard error is a terminal that can take a line back."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def colourful() -> bool:
    """Whether colours may go to a terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
