"""A process's log: lines of text for people or of JSON for programs.

Lines are formatted and written by a thread of their own behind a bounded queue: when whoever
reads them is slow, lines are dropped and counted, and the loop never waits. Facts that a record
carries as `extra={"facts": {..}}` stand behind its sentence, in JSON beside it.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import IO, Any, Final, Literal

import orjson

LogFormat = Literal["text", "json"]

#: Lines that wait to be written; further ones are dropped.
LINES_MAX: Final = 10_000


@contextmanager
def logging_to(stream: IO[str], log_format: LogFormat) -> Iterator[None]:
    """Write this process's log to `stream` for as long as the context lasts."""
    writer = logging.StreamHandler(stream)
    writer.setFormatter(JsonLines() if log_format == "json" else TextLines())
    door = _Door(Queue(LINES_MAX))
    listener = QueueListener(door.queue, writer)
    root = logging.getLogger()
    before = root.level
    root.addHandler(door)
    root.setLevel(logging.INFO)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(door)
        root.setLevel(before)
        listener.stop()
        if door.dropped:
            print(f"{door.dropped} lines of the log were dropped", file=sys.stderr)  # noqa: T201 (the log is closed)


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


class _Door(QueueHandler):
    """Hands records over to the thread that writes them."""

    queue: Queue[logging.LogRecord]

    def __init__(self, waiting: Queue[logging.LogRecord]) -> None:
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Nothing: reader and writer are one process, and the writer formats."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
