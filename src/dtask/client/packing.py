"""From calls of functions to the tasks of a job, and from results to what they returned. No I/O."""

import base64
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from dtask.client import call
from dtask.client.futures import FleetFuture
from dtask.core.jobs import model

#: Longest pickle that goes out as text.
TEXT_BYTES_MAX: Final = model.WORD_CHARS_MAX // 4 * 3
#: Of one job: tasks, and characters of text beyond which no more is put into it.
JOB_TASKS_MAX: Final = 1_000
JOB_CHARS: Final = 4 * 1024 * 1024
#: Characters of a function's name that are shown.
LABEL_CHARS: Final = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One call that waits to be sent."""

    future: FleetFuture
    #: The pickle of the positional and the named ones.
    arguments: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """Calls of one function."""

    label: str
    #: Its pickle.
    function: bytes
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call is within its job."""

    task: str
    #: Of an array's element.
    index: int | None
    future: FleetFuture


@dataclass(frozen=True, slots=True)
class Package:
    """The tasks of a job, and whose calls they are."""

    tasks: dict[str, dict[str, Any]]
    places: list[Place]
    label: str


def label_of(function: object) -> str:
    """What people call a function."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    printable = "".join(char if char.isprintable() else "?" for char in str(name))
    return printable.replace("{}", "()")[:LABEL_CHARS]


def packages(groups: list[Group], python: str, usual: dict[str, Any]) -> Iterator[Package]:
    """The jobs that do these calls, but for those that were cancelled meanwhile.

    `usual` is what all their tasks have. Several calls of a group become an array; those whose
    arguments are too long for an item, and calls alone, a task each.
    """
    tasks: dict[str, dict[str, Any]] = {}
    places: list[Place] = []
    size = 0
    label = ""
    for group, calls in _cut(groups):
        name = f"call-{len(tasks)}"
        task = _task(group, python, usual)
        if len(calls) > 1:
            items = [_text(one.arguments) for one in calls]
            task["array"] = items
            size += sum(map(len, items))
        else:
            size += _put_arguments(task, calls[0].arguments)
        indexes = range(len(calls)) if len(calls) > 1 else (None,)
        places += [
            Place(name, index, one.future) for index, one in zip(indexes, calls, strict=True)
        ]
        tasks[name] = task
        label = label or group.label
        if len(tasks) == JOB_TASKS_MAX or size > JOB_CHARS:
            yield Package(tasks, places, label)
            tasks, places, size, label = {}, [], 0, ""
    if tasks:
        yield Package(tasks, places, label)


def _cut(groups: list[Group]) -> Iterator[tuple[Group, list[Call]]]:
    """The calls of each task: the elements of an array, or one."""
    for group in groups:
        array: list[Call] = []
        size = 0
        for one in group.calls:
            if one.future.cancelled():
                continue
            if len(one.arguments) > TEXT_BYTES_MAX:
                yield group, [one]
                continue
            array.append(one)
            size += len(one.arguments)
            if size > JOB_CHARS // 2 or len(array) == model.ELEMENTS_MAX:
                yield group, array
                array, size = [], 0
        if array:
            yield group, array


def _task(group: Group, python: str, usual: dict[str, Any]) -> dict[str, Any]:
    """A task that calls the function of a group, but for the arguments."""
    task = dict(usual)
    task["command"] = [python, "-m", "dtask.client.call", group.label]
    if len(group.function) <= TEXT_BYTES_MAX:
        task["env"] = {**usual.get("env", {}), call.FUNCTION: _text(group.function)}
    else:
        task["files"] = {**usual.get("files", {}), call.FUNCTION_FILE: group.function}
    return task


def _put_arguments(task: dict[str, Any], arguments: bytes) -> int:
    """Give a task its arguments; how many characters they take in the job."""
    if len(arguments) > TEXT_BYTES_MAX:
        task["stdin"] = arguments
        return 0
    text = _text(arguments)
    task["env"] = {**task.get("env", {}), call.ARGUMENTS: text}
    return len(text)


def _text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


class RemoteTraceback(Exception):
    """The traceback of an exception on its worker, as text: the cause of the one raised here."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self._told = told

    def __str__(self) -> str:
        return f'\n"""\n{self._told}"""'


def unpacked(raw: bytes) -> tuple[bool, Any]:
    """Whether the call returned, and what it returned or raised."""
    returned, value, told = pickle.loads(raw)  # noqa: S301 (of our own task, by the token)
    if not returned:
        value.__cause__ = RemoteTraceback(told)
    return returned, value
