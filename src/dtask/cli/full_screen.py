"""A terminal that one program has for itself for a while: all of its screen, and every key.

It is given back as it was, whatever ends that, but for SIGKILL.
"""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, ConsoleDimensions
from rich.control import Control
from rich.screen import Screen
from rich.text import Text

#: What ends the program. Unheeded, each would leave the terminal as it is.
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

#: Read at a time.
KEY_BYTES: Final = 1024

#: A terminal that does not say how large it is.
_SIZE: Final = (80, 24)


class FullScreen:
    """The terminal of standard output, and its keys if standard input is one, too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._attributes: Any = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:  # it is gone; that will be noticed elsewhere
            columns = lines = 0
        return columns or _SIZE[0], lines or _SIZE[1]

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within this the terminal is ours."""
        self._take()
        try:
            yield
        finally:
            self._give_back()

    @contextmanager
    def signals(
        self, *, end: Callable[[], None], changed: Callable[[], None], keys: Callable[[bytes], None]
    ) -> Iterator[None]:
        """Within this, on the running loop, these are called.

        `end`: somebody wants it to end. `changed`: all is to be drawn again. `keys`: these bytes
        of keys were typed; none: the terminal is gone.
        """
        loop = asyncio.get_running_loop()

        def suspend() -> None:
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take()  # somebody said `fg`
            changed()

        handlers = {**dict.fromkeys(_ENDS, end), signal.SIGTSTP: suspend, signal.SIGWINCH: changed}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        if self._keys is not None:
            # Read as soon as there is something to read: later, a read could wait for the next key.
            loop.add_reader(self._keys, lambda: keys(self._read()))
        try:
            yield
        finally:
            if self._keys is not None:
                loop.remove_reader(self._keys)
            for number in handlers:
                loop.remove_signal_handler(number)

    def draw(self, lines: Sequence[Text]) -> None:
        """Fill the screen."""
        self._console.size = ConsoleDimensions(*self.size)
        with self._console:  # all of it in one write
            self._console.control(Control.home())
            self._console.print(Screen(*lines), end="")

    def _read(self) -> bytes:
        assert self._keys is not None
        try:
            return os.read(self._keys, KEY_BYTES)
        except OSError:
            return b""

    def _take(self) -> None:
        if self._keys is not None:
            self._attributes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._console.set_alt_screen(enable=True)
        self._console.show_cursor(show=False)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._console.set_alt_screen(enable=False)
            self._console.show_cursor(show=True)
        if self._keys is not None and self._attributes is not None:
            with contextlib.suppress(termios.error):  # the same
                termios.tcsetattr(self._keys, termios.TCSAFLUSH, self._attributes)
