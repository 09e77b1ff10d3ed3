"""The SQL of keyed tables, made from the types of their rows.

Python's sqlite3 lets go of the interpreter at every step of a statement, and beside a busy event
loop each step waits for its turn. So a statement writes hundreds of rows in one step, and reads
thousands as one JSON text, which msgspec turns into Structs.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec
from msgspec import Struct

from dtask.core.jobs.rows import AttemptRow, JobRow, QueueRow, TaskRow

R = TypeVar("R", bound=Struct)

#: Statements are made for these many rows, so that few are prepared; the next larger one serves.
_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

#: Stands for NULL among the parameters: to bind None takes ten times as long as to bind a number.
_NULL: Final = -(2**63)


class Table(Generic[R]):
    """A table whose columns are the fields of `row`, in any order."""

    def __init__(self, row: type[R], name: str) -> None:
        self.name = name
        fields = msgspec.structs.fields(row)
        self.columns: Final = tuple(field.name for field in fields)
        self._nullable = [type(None) in get_args(field.type) for field in fields]
        self._json = _json(row, {field.name: field.type for field in fields})
        self._decode = msgspec.json.Decoder(
            list[row],  # type: ignore[valid-type]  # known only here
            strict=False,  # SQLite has 0 and 1 for booleans, and numbers come as texts
        ).decode
        self._insert = cache(self._insert_of)

    def write(self, connection: sqlite3.Connection, rows: Sequence[R]) -> None:
        """Put these rows in the place of those with the same keys. Raises sqlite3.Error."""
        for start in range(0, len(rows), _SIZES[-1]):
            part = rows[start : start + _SIZES[-1]]
            size = next(size for size in _SIZES if size >= len(part))
            values = [
                _NULL if value is None else value
                for row in msgspec.to_builtins(part)
                for value in row
            ]
            values += [0] * ((size - len(part)) * len(self.columns))
            values.append(len(part))
            connection.execute(self._insert(size), values)

    def read(
        self, connection: sqlite3.Connection, rest: str, parameters: Sequence[object] = ()
    ) -> list[R]:
        """The rows of `SELECT * FROM table REST`, in its order.

        Raises sqlite3.Error, or msgspec.DecodeError if the file holds what nobody wrote.
        """
        (text,) = connection.execute(
            f"SELECT '[' || group_concat(row) || ']' "
            f"FROM (SELECT {self._json} AS row FROM {self.name} {rest})",
            parameters,
        ).fetchone()
        return self._decode(text) if text is not None else []

    def _insert_of(self, size: int) -> str:
        """The statement for so many rows; its last parameter tells how many of them count."""
        one = f"({', '.join('?' * len(self.columns))})"
        picked = (
            f"nullif(column{number}, {_NULL})" if nullable else f"column{number}"
            for number, nullable in enumerate(self._nullable, start=1)
        )
        return (
            f"INSERT OR REPLACE INTO {self.name} ({', '.join(self.columns)}) "
            f"SELECT {', '.join(picked)} FROM (VALUES {', '.join([one] * size)}) LIMIT ?"
        )


def _json(row: type[Struct], types: dict[str, Any]) -> str:
    """The expression for a row as JSON."""
    values = {column: _json_value(column, kind) for column, kind in types.items()}
    if row.__struct_config__.array_like:
        return f"json_array({', '.join(values.values())})"
    pairs = (f"'{column}', {value}" for column, value in values.items())
    return f"json_object({', '.join(pairs)})"


def _json_value(column: str, kind: Any) -> str:  # noqa: ANN401 (a type, or a union of types)
    if float not in (get_args(kind) or (kind,)):
        return column
    # SQLite's own text of a number has 15 digits: too few to bring the same number back.
    text = f"printf('%!.20g', {column})"
    return f"iif({column} IS NULL, NULL, {text})" if type(None) in get_args(kind) else text


QUEUES: Final = Table(QueueRow, "queue")
JOBS: Final = Table(JobRow, "job")
TASKS: Final = Table(TaskRow, "task")
ATTEMPTS: Final = Table(AttemptRow, "attempt")

#: Those that are written, by the type of their rows.
TABLES: Final[dict[type, Table[Any]]] = {
    QueueRow: QUEUES,
    JobRow: JOBS,
    TaskRow: TASKS,
    AttemptRow: ATTEMPTS,
}
