"""What happened, line by line: the last lines for people, the hash of all to compare runs."""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

#: Lines that are shown of a run that failed.
TAIL_LINES: Final = 50


class Trace:
    """Takes lines; `listen`, if given, gets each of them as it comes."""

    def __init__(self, listen: Callable[[str], None] | None = None) -> None:
        self.lines = 0
        self._hash = hashlib.sha256()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._listen = listen

    def add(self, elapsed_s: float, what: str) -> None:
        """Note what happens now."""
        line = f"{elapsed_s:9.3f} {what}"
        self.lines += 1
        self._hash.update(line.encode())
        self._tail.append(line)
        if self._listen is not None:
            self._listen(line)

    @property
    def digest(self) -> str:
        """Two runs with the same digest were the same run."""
        return self._hash.hexdigest()[:16]

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._tail)
