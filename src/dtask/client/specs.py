"""What a job is, from what people write: the body of a submit, and the local files it names.

Nothing is checked here that the scheduler checks better: only what could not be told apart or
sent at all.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final, Literal, Protocol, TypedDict

from dtask.client import calls
from dtask.client.calls import Tags
from dtask.core.jobs.names import command_name
from dtask.core.placement import tags as grammar
from dtask.errors import InvalidRequest

When = Literal["all_succeeded", "all_done"]

#: What begins the text form of a hash.
SHA256: Final = "sha256:"
_DIGEST_CHARS: Final = len(SHA256) + 64


class HasId(Protocol):
    """A job's handle."""

    @property
    def id(self) -> int:
        """The job's number."""
        ...


class RetryWishes(TypedDict, total=False):
    """When a failed task runs again."""

    #: After how many failures it does.
    max: int
    #: Bound of the first pause, doubled each time up to the second of these.
    backoff_s: float
    backoff_max_s: float
    #: Exit codes worth it; none: any failure.
    on_exit: Iterable[int]


class CommonWishes(TypedDict, total=False):
    """What can be said of any job of one command; all may be left out, and None is as good."""

    #: For people; made of the command if it is left out.
    name: str | None
    queue: str | None
    #: -100 to 100, higher first.
    priority: int | None
    #: Jobs that come first.
    after: "int | HasId | Iterable[int | HasId] | None"
    #: Whether it runs after jobs that did not succeed.
    when: When | None
    #: It does not run before: epoch seconds, or a datetime.
    not_before: float | datetime | None
    #: What its worker must have: `gpu`, `gpu|tpu` (any of), `!spot` (none of), `cuda>=12.0`.
    tags: Tags | None
    #: How many retries, or when and how often.
    retry: int | RetryWishes | None
    #: How often its worker may be lost while it runs.
    crash_limit: int | None
    #: Seconds that one attempt may run, and that it may wait for a slot.
    timeout_s: float | None
    max_queue_s: float | None
    #: Seconds that a worker has to start it, and between SIGTERM and SIGKILL.
    start_timeout_s: float | None
    grace_s: float | None
    env: Mapping[str, str] | None
    #: Local files to send, by the name that each gets in the task's directory; or their names
    #: alone. Bytes stand for a file of that content.
    files: "Mapping[str, str | os.PathLike[str] | bytes] | Iterable[str | os.PathLike[str]] | None"
    #: Limits of its processes, where the worker's kernel lets it.
    cpus: float | None
    memory_mb: int | None


class Wishes(CommonWishes, total=False):
    """What can be said of a job of one command."""

    #: The same key is the same job, however often it is submitted. Made if it is left out.
    key: str | None
    #: How many elements, or the item of each: `{}` in the command, and DTASK_ITEM.
    array: int | Iterable[object] | None
    #: Standard input: bytes, text, or a Path to a file.
    stdin: "bytes | str | os.PathLike[str] | None"
    #: Directory of the worker's machine to run in; by default one of its own.
    cwd: str | None


COMMON_FIELDS: Final = tuple(CommonWishes.__annotations__)
#: Of the whole job, whatever its tasks.
JOB_FIELDS: Final = ("name", "queue", "priority", "key", "after", "when", "not_before")
TASK_FIELDS: Final = tuple(name for name in Wishes.__annotations__ if name not in JOB_FIELDS)

#: Where a blob's bytes are: here, or in the file of that name.
Source = bytes | str


def body(
    what: Iterable[str] | Mapping[str, Any], given: Wishes, *, made_key: str
) -> dict[str, Any]:
    """The body of a submit, local files still in it. Raises InvalidRequest."""
    single = not isinstance(what, Mapping) or "command" in what
    known = (*JOB_FIELDS, *TASK_FIELDS) if single else JOB_FIELDS
    check_names(given, known, "there is no such field" if single else "this belongs to one task")
    told = fields(given)
    made = dict(what) if isinstance(what, Mapping) else {"command": calls.words(what)}
    made |= told
    words = made.get("command")
    if made.get("name") is None and isinstance(words, list | tuple) and all(map(_is_text, words)):
        made["name"] = command_name(words)
    if made.get("key") is None:
        made["key"] = made_key
    return made


def fields(given: CommonWishes | Wishes) -> dict[str, Any]:
    """Wishes as JSON has them, local files still among them."""
    return {name: _plain(name, value) for name, value in given.items() if value is not None}


def check_names(given: Iterable[str], known: Iterable[str], wrong: str) -> None:
    """Raise InvalidRequest for the first name that is not known."""
    for name in given:
        if name not in known:
            raise InvalidRequest(
                f"{name}: {wrong}: expected some of {', '.join(known)}.",
                code="unknown_field",
                field=name,
            )


def tasks(made: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The tasks of a body, each with where it stands in it. They are copied into it first."""
    inner = made.get("tasks")
    if not isinstance(inner, Mapping):
        return [("", made)]
    made["tasks"] = {
        name: dict(task) if isinstance(task, Mapping) else task for name, task in inner.items()
    }
    return [
        (f"tasks.{name}.", task) for name, task in made["tasks"].items() if isinstance(task, dict)
    ]


def sources(task: dict[str, Any], place: str) -> dict[tuple[str, ...], Source]:
    """The local files of a task by where their hash belongs: `files` and name, or `stdin`.

    What is a hash already is left alone.
    """
    found: dict[tuple[str, ...], Source] = {}
    files = task.get("files")
    if files is not None and not isinstance(files, Mapping):
        files = dict(_named(path, f"{place}files") for path in _several(files))
    if files is not None:
        task["files"] = dict(files)
        for name, value in files.items():
            if not is_digest(value):
                found["files", name] = _source(value, f"{place}files.{name}")
    stdin = task.get("stdin")
    if isinstance(stdin, str) and not is_digest(stdin):
        found["stdin",] = stdin.encode()
    elif stdin is not None and not is_digest(stdin):
        found["stdin",] = _source(stdin, f"{place}stdin")
    return found


def is_digest(value: object) -> bool:
    """Whether it is the text form of a hash."""
    return isinstance(value, str) and value.startswith(SHA256) and len(value) == _DIGEST_CHARS


def job_id(job: int | HasId) -> int:
    """The number of a job, or of its handle. Raises InvalidRequest if it is neither."""
    found = job if isinstance(job, int) else getattr(job, "id", None)
    if not isinstance(found, int) or isinstance(found, bool):
        raise InvalidRequest(
            f"{job!r:.80} is no job: expected its number, such as 42, or a Job. A task is named by "
            f"a text such as '42/train' where a call takes one.",
            code="malformed",
            field="job",
        )
    return found


def _is_text(word: object) -> bool:
    return isinstance(word, str)


def _plain(name: str, value: object) -> object:
    """A field's value as JSON has it. What is none is for the scheduler to refuse."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # an endless time is what leaving it out means
    make = _FORMS.get(name)
    return value if make is None else make(value)


def _tags(value: object) -> object:
    if isinstance(value, str):
        return list(grammar.split(value))
    return list(value) if isinstance(value, Iterable) else value


def _array(value: object) -> object:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    return [str(item) for item in value] if listed else value  # type: ignore[attr-defined]


def _retry(value: object) -> object:
    if isinstance(value, int):
        return {"max": value}
    if not isinstance(value, Mapping):
        return value
    return {key: list(one) if key == "on_exit" else one for key, one in value.items()}


def _env(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {str(name): str(one) for name, one in value.items()}


def _after(value: Any) -> object:  # noqa: ANN401 (one that is no job says so itself)
    jobs = value if isinstance(value, Iterable) else [value]
    return [job_id(job) for job in jobs]


def _moment(value: object) -> object:
    return value.timestamp() if isinstance(value, datetime) else value


_FORMS: Final[dict[str, Callable[[object], object]]] = {
    "tags": _tags,
    "array": _array,
    "retry": _retry,
    "env": _env,
    "after": _after,
    "not_before": _moment,
}


def _several(files: object) -> Iterable[Any]:
    if isinstance(files, str | bytes | os.PathLike) or not isinstance(files, Iterable):
        return [files]
    return files


def _named(path: object, field: str) -> tuple[str, str]:
    """A file's name in the task's directory, and where it is: its path if that stays inside."""
    if not isinstance(path, str | os.PathLike):
        raise _no_file(path, field)
    pure = PurePath(path)
    outside = pure.is_absolute() or os.pardir in pure.parts
    return (pure.name if outside else pure.as_posix()), os.fspath(path)


def _source(value: object, field: str) -> Source:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    raise _no_file(value, field)


def _no_file(value: object, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: {value!r:.80} is no file: expected a path, or the content as bytes.",
        code="malformed",
        field=field,
    )
