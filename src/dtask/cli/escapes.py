"""What a task writes, made safe for a terminal: colours stay, all other commands to it go.

A log may hold anything: sequences that retitle the window, move the cursor, switch the character
set, or have the terminal type an answer. Of those only "select graphic rendition" is let through,
and of the control characters tab, newline, carriage return and backspace.
"""

import codecs
import re
from typing import Final

#: Longest sequence that is waited for; more than this is no sequence.
SEQUENCE_CHARS_MAX: Final = 256

#: Sequences by their introducers, in two characters or (C1) in one. A string goes on up to its
#: terminator; a newline ends one that has none, so that it can't swallow all that follows.
_CSI: Final = r"(?:\x1b\[|\x9b)"
_STRING: Final = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])"
_STRING_BODY: Final = r"[^\x07\x18\x1a\x1b\x9c\n]*"

#: A colour (kept), a sequence that the end of a chunk has cut in two (held), all else that goes.
_CUT: Final = re.compile(
    rf"(?P<colour>{_CSI}[0-9;:]*m)"
    rf"|(?P<open>(?:{_CSI}[0-?]*[ -/]*|{_STRING}{_STRING_BODY}\x1b?|\x1b[ -/]*)\Z)"
    rf"|{_CSI}[0-?]*[ -/]*(?:[@-~]|(?=[^ -~]))"
    rf"|{_STRING}{_STRING_BODY}(?:[\x07\x18\x1a\x9c]|\x1b\\|(?=\n|\x1b[^\\]))"
    r"|\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\`-~]|[ -/]*(?=[^ -~]))"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_STRING_START: Final = re.compile(_STRING)
_STRING_END: Final = re.compile(r"[\x07\x18\x1a\x9c]|\x1b\\|(?=\n|\x1b[^\\])")

_RESET: Final = "\x1b[0m"


class Strainer:
    """One stream of a task on its way to a terminal, chunk by chunk."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: The start of a sequence, which the next chunk goes on with.
        self._held = ""
        #: Within a string too long to be held: its rest goes, too.
        self._in_string = False
        self._coloured = False

    def feed(self, raw: bytes) -> str:
        """What can be shown so far."""
        return self._strain(self._held + self._decoder.decode(raw))

    def close(self) -> str:
        """What stands at the end of all: colours that were left on go out."""
        text = self._strain(self._held + self._decoder.decode(b"", final=True))
        self._held = ""
        return text + (_RESET if self._coloured else "")

    def _strain(self, text: str) -> str:
        self._held = ""
        if self._in_string:
            over = _STRING_END.search(text)
            if over is None:
                self._held = "\x1b" if text.endswith("\x1b") else ""
                return ""
            self._in_string = False
            text = text[over.end() :]
        return _CUT.sub(self._kept, text)

    def _kept(self, found: re.Match[str]) -> str:
        if found["open"] is not None:
            self._hold(found["open"])
            return ""
        colour = found["colour"]
        if colour is None or not self._colours:
            return ""
        values = colour.removeprefix("\x1b[").removeprefix("\x9b")[:-1]
        self._coloured = bool(values.strip("0;"))
        return f"\x1b[{values}m"

    def _hold(self, sequence: str) -> None:
        if len(sequence) <= SEQUENCE_CHARS_MAX:
            self._held = sequence
        else:
            self._in_string = _STRING_START.match(sequence) is not None
            self._held = "\x1b" if self._in_string and sequence.endswith("\x1b") else ""


def plain(text: str) -> str:
    """A text of somebody else, such as a job's name, on one line and without anything that acts."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)
