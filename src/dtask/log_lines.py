"""A process's log: lines of text for people or of JSON for programs.

Lines are formatted and written by a thread of their own behind a bounded queue: when whoever
reads them is slow, lines are dropped and counted, and the loop never waits. Facts that a record
carries as `extra={"facts": {..}}` stand behind its sentence, in JSON beside it.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from queue import Full, Queue
from typing import IO, Any, Final, Literal

import orjson

LogFormat = Literal["text", "json"]

#: Lines that wait to be written; further ones are dropped.
LINES_MAX: Final = 10_000

#: Seconds that the end of the process waits for its last lines to be written.
END_S: Final = 0.5


@contextmanager
def logging_to(stream: IO[str], log_format: LogFormat) -> Iterator[None]:
    """Write this process's log to the file of `stream` for as long as the context lasts."""
    door = _Door(stream.fileno(), JsonLines() if log_format == "json" else TextLines())
    root = logging.getLogger()
    before = root.level
    root.addHandler(door)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(door)
        root.setLevel(before)
        door.end()


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO worker joined change=joined worker_id=w1 ..`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        line = f"{_moment(record)} {record.levelname} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """`{"time":..,"level":..,"message":..,"change":..,"worker_id":..}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _Door(logging.Handler):
    """Hands records over to the thread that writes them.

    It writes past `sys.stderr` and is never waited for without end: when nobody reads the other
    end of a pipe, it stands in a system call for ever, and must hold no lock that the end of the
    process needs.
    """

    def __init__(self, file: int, lines: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(lines)
        self._file = file
        self._dropped = 0
        self._waiting: Queue[logging.LogRecord | None] = Queue(LINES_MAX)
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self._waiting.put_nowait(record)
        except Full:
            self._dropped += 1

    def end(self) -> None:
        """Let what waits be written, if that is soon done."""
        with suppress(Full):
            self._waiting.put(None, timeout=END_S)
            self._writer.join(END_S)

    def _write(self) -> None:
        with suppress(OSError):  # whoever read it is gone
            while (record := self._waiting.get()) is not None:
                self._write_line(self.format(record))
            if self._dropped:
                self._write_line(f"{self._dropped} lines of the log were dropped")

    def _write_line(self, line: str) -> None:
        rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        while rest:
            rest = rest[os.write(self._file, rest) :]


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
