"""Keys as a terminal sends them: bytes in, names of keys out."""

import codecs
import re
from typing import Final

#: What keys other than letters send, on terminals of all kinds.
_NAMES: Final = {
    "\x1b": "escape",
    "\t": "tab",
    "\x1b[Z": "backtab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x0c": "redraw",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[7~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b[8~": "end",
}

#: A sequence, known or not, or one character. A sequence comes in one piece: what looks like the
#: start of one at the end of a piece is the key Esc.
_KEY: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]|.", re.DOTALL)


class Keyboard:
    """One terminal's keys."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def feed(self, raw: bytes) -> list[str]:
        """The keys pressed: names such as `up`, and characters as themselves."""
        pressed = (_NAMES.get(key, key) for key in _KEY.findall(self._decoder.decode(raw)))
        return [key for key in pressed if key.isprintable()]
