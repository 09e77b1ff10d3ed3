"""Names of tasks, elements and attempts: `42/train`, `42/tile[7]`, `42/train#2`."""

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from dtask.errors import InvalidRequest

#: Of the one task of a job that was submitted as a single command.
ONLY_TASK: Final = "main"

#: Characters of a command that a job without a name is listed by.
COMMAND_CHARS: Final = 60

TASK_NAME_PATTERN: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_TASK_NAME: Final = re.compile(TASK_NAME_PATTERN)
_NAME: Final = re.compile(
    rf"(?P<job>[0-9]{{1,15}})(?:/(?P<task>{TASK_NAME_PATTERN})(?:\[(?P<index>[0-9]{{1,9}})\])?"
    r"(?:#(?P<number>[0-9]{1,9}))?)?"
)


class Name(Struct, frozen=True):
    """What a text such as `42/tile[7]#2` names; what it leaves out is None."""

    job_id: int
    task: str | None = None
    index: int | None = None
    number: int | None = None

    def __str__(self) -> str:
        if self.task is None:
            return str(self.job_id)
        return attempt_text(self.job_id, self.task, self.index, self.number)


def parse(text: str) -> Name:
    """The name in `text`. Raises InvalidRequest."""
    found = _NAME.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{text[:80]!r} names no job or task: expected a number such as 42, or 42/train, "
            f"42/tile[7] or 42/train#2.",
            code="malformed",
            field="name",
        )
    index, number = found["index"], found["number"]
    return Name(
        int(found["job"]),
        found["task"],
        int(index) if index is not None else None,
        int(number) if number is not None else None,
    )


def attempt_text(job_id: int, task: str, index: int | None, number: int | None = None) -> str:
    """`42/train`, `42/tile[7]`; with a number `42/tile[7]#2`."""
    text = f"{job_id}/{task}" if index is None else f"{job_id}/{task}[{index}]"
    return text if number is None else f"{text}#{number}"


def command_name(words: Iterable[str]) -> str:
    """What a job is listed by that was given no name: its command, shortened, on one line."""
    text = " ".join(" ".join(words).split())
    return text if len(text) <= COMMAND_CHARS else text[: COMMAND_CHARS - 1] + "…"


def check_task_name(name: str, field: str) -> None:
    """Raise InvalidRequest unless `name` may be a task's or queue's."""
    if _TASK_NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{field}: {name[:80]!r} is no name: expected 1 to 64 letters, digits, `_`, `.` or "
            f"`-`, the first one a letter, a digit or `_`.",
            code="malformed",
            field=field,
        )
