"""A process's log: lines of text for people or of JSON for programs.

Lines are formatted and written by a thread of their own behind a bounded queue: when whoever
reads them is slow, lines are dropped and counted, and the loop never waits. Facts that a record
carries as `extra={"facts": {..}}` stand behind its sentence, in JSON beside it.
"""

import functools
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import IO, Any, Final, Literal

import orjson

LogFormat = Literal["text", "json"]

#: Lines that wait to be written; further ones are dropped.
LINES_MAX: Final = 10_000

#: Lines that are written at once: where there are many, a system call for each is what they cost.
BATCH_MAX: Final = 100

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


def record_of(name: str, level: int, sentence: str, facts: dict[str, Any]) -> logging.LogRecord:
    """A record with facts, for `Logger.handle`.

    `Logger.log` walks the stack for the place in the code, which costs as much as all the rest
    and stands in no line.
    """
    record = logging.LogRecord(name, level, "", 0, sentence, None, None)
    record.facts = facts
    return record


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO worker joined change=joined worker_id=w1 ..`.

    A value that is not one plain word is quoted as JSON does it: what a user chose never looks
    like a line, or a fact, of ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        facts = "".join(f" {name}={_word(value)}" for name, value in _facts(record).items())
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
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # half a surrogate pair, of a path that is no text, or a huge number
            return json.dumps(line, default=str)


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
        self._waiting: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        if self._waiting.qsize() < LINES_MAX:
            self._waiting.put(record)
        else:
            self._dropped += 1

    def end(self) -> None:
        """Let what waits be written, if that is soon done."""
        self._waiting.put(None)
        self._writer.join(END_S)

    def _write(self) -> None:
        more, told = True, 0
        with suppress(OSError):  # whoever read it is gone
            while more:
                records, more = self._next()
                if (dropped := self._dropped) > told:
                    records.append(_of_dropped(dropped - told))
                    told = dropped
                self._write_lines([self.format(record) for record in records])

    def _next(self) -> tuple[list[logging.LogRecord], bool]:
        """Wait for a record; the ones there are, and whether that was not the end."""
        record = self._waiting.get()
        records = []
        with suppress(Empty):
            while record is not None:
                records.append(record)
                if len(records) == BATCH_MAX:
                    break
                record = self._waiting.get_nowait()
        return records, record is not None

    def _write_lines(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            rest = rest[os.write(self._file, rest) :]


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})


def _of_dropped(lines: int) -> logging.LogRecord:
    sentence = "lines of the log were dropped: whoever reads it is too slow"
    return record_of("dtask", logging.WARNING, sentence, {"lines": lines})


#: What a word has that is one without quotes.
_PLAIN: Final = re.compile(r"[^ \"'=\\]+")


def _word(value: Any) -> str:  # noqa: ANN401 (any JSON value)
    text = str(value)
    if not text.isprintable():
        return json.dumps(text)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> str:
    second = int(record.created)
    return f"{_second(second)}.{int((record.created - second) * 1e3):03d}Z"


@functools.lru_cache(maxsize=1)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None).isoformat()
