"""The bodies of jobs: submit, retry, queues.

A submit may be 16 MiB long, most of it one array's items, and decoding that takes 80 ms in which
no other thread runs. So long arrays are decoded piece by piece and put in where they belong.
"""

import hashlib
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import FieldInfo, fields, replace

from dtask.core.jobs.events import Again
from dtask.core.jobs.model import (
    ELEMENTS_MAX,
    KEY_CHARS_MAX,
    JobSpec,
    TaskSpec,
    Word,
)
from dtask.core.jobs.names import ONLY_TASK
from dtask.errors import InvalidRequest
from dtask.wire.codec import Body

#: Bytes of an array of items from which on it is decoded piece by piece, and of one piece.
LONG_BYTES: Final = 256 * 1024

Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=KEY_CHARS_MAX,
        description=f"1 to {KEY_CHARS_MAX} printable characters",
        extra_json_schema={"pattern": r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$"},
    ),
]

#: Bounds of a queue's settings.
QUEUE_LIMIT_MAX: Final = 1_000_000_000
WEIGHT_MAX: Final = 1_000_000.0


class Submission(Struct, frozen=True):
    """What a submit asks for."""

    spec: JobSpec
    #: The spec as JSON, defaults left out.
    raw: str
    #: Of `raw`: the same for two bodies that mean the same.
    digest: str
    key: str | None


def _field(info: FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    """A field of one struct, for another."""
    if info.required:
        return (info.name, info.type)
    default = info.default
    if default is msgspec.NODEFAULT:
        default = msgspec.field(default_factory=info.default_factory)
    return (info.name, info.type, default)


#: What a task has that is alone in its job: it needs none, and waits for other jobs if at all.
_OF_TASK: Final = tuple(each for each in fields(TaskSpec) if each.name not in ("needs", "when"))
_OF_JOB: Final = tuple(each for each in fields(JobSpec) if each.name != "tasks")

#: `POST /api/v1/jobs`: a job of many tasks.
JobBody: Final = msgspec.defstruct(
    "JobBody",
    [*map(_field, fields(JobSpec)), ("key", Key | None, None)],
    frozen=True,
    forbid_unknown_fields=True,
    namespace={"__doc__": "`POST /api/v1/jobs`: a job of many tasks."},
)

#: `POST /api/v1/jobs`: a job of one command, a task named `main`.
CommandBody: Final = msgspec.defstruct(
    "CommandBody",
    [*map(_field, (*_OF_TASK, *_OF_JOB)), ("key", Key | None, None)],
    frozen=True,
    forbid_unknown_fields=True,
    namespace={"__doc__": "`POST /api/v1/jobs`: a job of one command, a task named `main`."},
)


class RetryBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/v1/jobs/{job_id}/retry`: start over what did not succeed."""

    #: `unsuccessful`: all that did not succeed; `failed`: those that failed, and what was
    #: skipped because of them.
    again: Again = "unsuccessful"
    #: One task alone; None: all of the job.
    task: str | None = None


class QueueBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /api/v1/queues/{name}`: make a queue, or change it. What is left out stays."""

    #: Attempts at a time, and queued tasks at a time; 0: no limit.
    max_running: Annotated[int, Meta(ge=0, le=QUEUE_LIMIT_MAX)] | None = None
    max_queued: Annotated[int, Meta(ge=0, le=QUEUE_LIMIT_MAX)] | None = None
    weight: Annotated[float, Meta(gt=0, le=WEIGHT_MAX)] | None = None
    paused: bool | None = None


class _TaskShape(Struct):
    """Where a task's array stands in a body."""

    array: Raw | UnsetType = UNSET


class _Shape(Struct):
    """Which of the two forms a body has, and where its arrays are."""

    command: Raw | UnsetType = UNSET
    tasks: dict[str, _TaskShape] | UnsetType = UNSET
    array: Raw | UnsetType = UNSET


class _Tasks(Struct):
    """The tasks of a body, each by itself."""

    tasks: dict[str, Raw]


_SHAPE: Final = Body(_Shape)
_JOB: Final[Body[Any]] = Body(JobBody)
_COMMAND: Final[Body[Any]] = Body(CommandBody)
_TASK: Final = Body(TaskSpec)
_shape: Final = msgspec.json.Decoder(_Shape).decode
_tasks: Final = msgspec.json.Decoder(_Tasks).decode
_words: Final = msgspec.json.Decoder(list[Word]).decode


def decode(raw: bytes) -> Submission:
    """The job that a submit asks for. Raises InvalidRequest that names the field.

    For what one value can show; `core.jobs.graph` checks the whole.
    """
    try:
        shape = _shape(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _shapeless(raw) from None
    rest, arrays = _without_arrays(raw, shape)
    spec, key = _spec(rest, shape)
    if arrays:
        tasks = {
            name: replace(task, array=arrays[name]) if name in arrays else task
            for name, task in spec.tasks.items()
        }
        spec = replace(spec, tasks=tasks)
    text = msgspec.json.encode(spec)
    return Submission(spec, text.decode(), hashlib.sha256(text).hexdigest(), key)


def blobs(spec: JobSpec) -> set[str]:
    """The hashes, in hex, of all blobs that a job names."""
    named = {digest for task in spec.tasks.values() for digest in task.files.values()}
    named |= {task.stdin for task in spec.tasks.values() if task.stdin is not None}
    return {digest.removeprefix("sha256:") for digest in named}


def _spec(raw: bytes, shape: _Shape) -> tuple[JobSpec, str | None]:
    """The spec and the key."""
    if shape.tasks is not UNSET:
        if shape.command is not UNSET:
            raise _malformed(
                "tasks: a job has tasks, or it is one command: expected only one of the two.",
                "tasks",
            )
        try:
            body = _JOB.decode(raw)
        except InvalidRequest as error:
            raise _named(raw, error) from None
        tasks = body.tasks
    elif shape.command is not UNSET:
        body = _COMMAND.decode(raw)
        tasks = {ONLY_TASK: TaskSpec(**{each.name: getattr(body, each.name) for each in _OF_TASK})}
    else:
        raise _malformed("The body says nothing to run: expected command or tasks.", "$")
    if body.key is not None and not body.key.isprintable():
        raise _malformed(f"key: expected 1 to {KEY_CHARS_MAX} printable characters.", "key")
    return JobSpec(tasks, **{each.name: getattr(body, each.name) for each in _OF_JOB}), body.key


# Long arrays


def _without_arrays(raw: bytes, shape: _Shape) -> tuple[bytes, dict[str, tuple[str, ...]]]:
    """The body with a count in the place of each long array, and those arrays by task."""
    if len(raw) < LONG_BYTES:
        return raw, {}
    found = {ONLY_TASK: shape.array} if shape.tasks is UNSET else {}
    if shape.tasks is not UNSET:
        found = {name: task.array for name, task in shape.tasks.items()}
    arrays = {}
    for name, array in found.items():
        text = b"" if array is UNSET else bytes(array)
        if len(text) < LONG_BYTES or not text.startswith(b"["):
            continue
        try:
            items = _items(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # then it stays, and the error is found with its place
        place = f"tasks.{name[:64]}.array" if shape.tasks is not UNSET else "array"
        if len(items) > ELEMENTS_MAX:
            raise _malformed(
                f"{place}: expected at most {ELEMENTS_MAX} items, got {len(items)}.", place
            )
        raw = _replaced(raw, text)
        arrays[name] = items
    return raw, arrays


def _items(text: bytes) -> tuple[str, ...]:
    """The items of a valid JSON array. Raises msgspec's errors if they are not words."""
    # With its escapes blanked out, every quote begins or ends a word.
    bare = text.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in text else text
    items: list[str] = []
    start, end = 1, len(text) - 1
    while start < end:
        stop = _border(bare, start)
        items += _words(b"[" + text[start:stop] + b"]")
        start = stop + 1
    return tuple(items)


def _border(bare: bytes, start: int) -> int:
    """Where the piece from `start` ends: at a comma between two words, or at the end."""
    end = len(bare) - 1
    quote = bare.find(b'"', start + LONG_BYTES)
    if quote < 0:
        return end
    if bare.count(b'"', start, quote) % 2 == 0:  # it begins a word
        quote = bare.find(b'"', quote + 1)
    comma = bare.find(b",", quote)
    return end if comma < 0 else comma


def _replaced(raw: bytes, text: bytes) -> bytes:
    """`raw` with a count in the place of the array `text`, which stands in it."""
    head = text[:64]  # looking for megabytes is slow
    at = raw.find(head)
    while not raw.startswith(text, at):
        at = raw.find(head, at + 1)
    return raw[:at] + b"1" + raw[at + len(text) :]


# Errors


def _shapeless(raw: bytes) -> InvalidRequest:
    """What is wrong with a body that has neither form: it is no JSON, or its tasks are none."""
    try:
        _SHAPE.decode(raw)
    except InvalidRequest as error:
        return _named(raw, error)
    raise AssertionError("a body that has a shape is not asked for here")


def _named(raw: bytes, error: InvalidRequest) -> InvalidRequest:
    """The error with the name of the task that it is about, which msgspec leaves out."""
    if not str(error.facts["field"]).startswith("tasks[...]"):
        return error
    for name, task in _tasks(raw).tasks.items():
        try:
            _TASK.decode(bytes(task))
        except InvalidRequest as inner:
            place = f"tasks.{name[:64]}"
            field = str(inner.facts["field"])
            if field == "$":
                sentence = f"{place}{str(inner).removeprefix('The body')}"
                return InvalidRequest(sentence, code=inner.code, field=place)
            return InvalidRequest(f"{place}.{inner}", code=inner.code, field=f"{place}.{field}")
    return error


def _malformed(sentence: str, field: str) -> InvalidRequest:
    return InvalidRequest(sentence, code="malformed", field=field)
