"""The options that say what a task and its job are: of `run`, `submit` and `map`.

The head of a script may hold them too. Values that were not given are None or empty, so that two
places can be joined.
"""

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypedDict, cast

import click

from dtask.cli.seconds import Duration, Moment
from dtask.core.jobs import model
from dtask.errors import InvalidRequest

#: Units of --memory, in megabytes of 2^20 bytes.
_MEGABYTES: Final = {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
_MEMORY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([MGT]?)(?:i?B)?", re.IGNORECASE)


class Asked(TypedDict, total=False):
    """What was asked for, by the names of the options."""

    tags: tuple[str, ...]
    name: str | None
    queue: str | None
    priority: int | None
    after: tuple[str, ...]
    when: str | None
    at: float | None
    in_s: float | None
    timeout_s: float | None
    max_queue_s: float | None
    grace_s: float | None
    retries: int | None
    backoff_s: float | None
    on_exit: tuple[str, ...]
    crash_limit: int | None
    env: tuple[str, ...]
    files: tuple[str, ...]
    stdin: str | None
    cwd: str | None
    scratch: bool
    cpus: float | None
    memory_mb: int | None
    key: str | None
    array: int | None
    items: str | None


class Memory(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks
    """Megabytes, written as `512M`, `4G` or `2048`."""

    name = "memory"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The megabytes. Fails with a sentence if they are none."""
        if isinstance(value, int):
            return value
        found = _MEMORY.fullmatch(value)
        megabytes = round(float(found[1]) * _MEGABYTES[found[2].upper()]) if found else 0
        if megabytes < 1:
            self.fail(f"{value!r} is no size: expected one such as 512M or 4G.", param, ctx)
        return megabytes


_LONG: Final = Duration(model.DURATION_S_MAX)

#: Of every task, and of its job.
OPTIONS: Final[list[click.Option]] = [
    click.Option(
        ["--tags"],
        multiple=True,
        metavar="TAGS",
        help="What the worker must have: gpu, 'gpu|tpu' (any of), '!spot' (none of), 'cuda>=12.0'. "
        "Several by repeating the option or by commas; all must hold.",
    ),
    click.Option(["--name"], metavar="TEXT", help="Of the job, for people.  [default: made]"),
    click.Option(["--queue"], metavar="NAME", help="Queue to stand in.  [default: default]"),
    click.Option(
        ["--priority"],
        type=click.IntRange(-model.PRIORITY_MAX, model.PRIORITY_MAX),
        metavar="N",
        help="-100 to 100; higher first within the queue.  [default: 0]",
    ),
    click.Option(
        ["--after"],
        multiple=True,
        metavar="JOB",
        help="Wait for the end of this job; repeated or joined by commas, of all of them.",
    ),
    click.Option(
        ["--when"],
        type=click.Choice(["all_succeeded", "all_done"]),
        help="all_done: run though a job of --after did not succeed.  [default: all_succeeded]",
    ),
    click.Option(
        ["--at"],
        type=Moment(),
        metavar="TIME",
        help="Not before: 18:00 (the next one here), 2030-01-31, 2030-01-31T18:00Z.",
    ),
    click.Option(
        ["--in", "in_s"], type=_LONG, metavar="DURATION", help="Not before so long from now: 5m."
    ),
    click.Option(
        ["--timeout", "timeout_s"],
        type=_LONG,
        metavar="DURATION",
        help="Stop an attempt that runs longer: 90, 90s, 5m, 2h, 1d.",
    ),
    click.Option(
        ["--max-queue", "max_queue_s"],
        type=_LONG,
        metavar="DURATION",
        help="Fail if it gets no slot for so long.",
    ),
    click.Option(
        ["--grace", "grace_s"],
        type=Duration(3600, zero=True),
        metavar="DURATION",
        help="Between SIGTERM and SIGKILL when it is stopped.  [default: 10s]",
    ),
    click.Option(
        ["--retries"],
        type=click.IntRange(0, model.RETRIES_MAX),
        metavar="N",
        help="Run it again after so many failures.  [default: 0]",
    ),
    click.Option(
        ["--backoff", "backoff_s"],
        type=Duration(model.BACKOFF_S_MAX, zero=True),
        metavar="DURATION",
        help="Longest pause before the first retry; doubled each time.  [default: 1s]",
    ),
    click.Option(
        ["--on-exit"],
        multiple=True,
        metavar="CODE",
        help="Retry after this exit code alone; repeated or joined by commas.  [default: any]",
    ),
    click.Option(
        ["--crash-limit"],
        type=click.IntRange(1, model.RETRIES_MAX),
        metavar="N",
        help=f"Give up when so many workers were lost with it.  [default: {model.CRASH_LIMIT}]",
    ),
    click.Option(
        ["--env"],
        multiple=True,
        metavar="K=V",
        help="Variable of its environment; K alone takes the value of here.",
    ),
    click.Option(
        ["--file", "files"],
        multiple=True,
        metavar="PATH[=NAME]",
        help="Send this file; it is NAME in the task's own directory.",
    ),
    click.Option(
        ["--cwd"],
        metavar="DIR",
        help="Directory of the worker's machine to run in.  [default: this one; with --file or "
        "for a script, one of its own]",
    ),
    click.Option(["--scratch"], is_flag=True, help="Run in an empty directory of its own."),
    click.Option(
        ["--cpus"],
        type=click.FloatRange(0, 4096, min_open=True),
        metavar="N",
        help="Hold it to so many CPUs, where the worker's kernel lets it.",
    ),
    click.Option(
        ["--memory", "memory_mb"],
        type=Memory(),
        metavar="SIZE",
        help="Hold it to so much memory, such as 512M or 4G; likewise.",
    ),
    click.Option(
        ["--key"],
        metavar="TEXT",
        help="Of your own: the same key is the same job, however often it is sent.",
    ),
]

#: Of one command, which may be an array.
STDIN: Final = click.Option(
    ["--stdin"], metavar="FILE", help="Its standard input; - for this one.  [default: empty]"
)
ARRAY: Final = [
    click.Option(
        ["--array"],
        type=click.IntRange(1, model.ELEMENTS_MAX),
        metavar="N",
        help="Run it N times; {} and DTASK_ITEM are 0 to N - 1.",
    ),
    click.Option(
        ["--items"],
        metavar="FILE",
        help="Run it for each line of this file (- for standard input); {} and DTASK_ITEM are it.",
    ),
]

#: Options of which the later one takes back the earlier one.
_ALTERNATIVES: Final = (("at", "in_s"), ("array", "items"), ("cwd", "scratch"))


def joined(first: Asked, then: Asked) -> Asked:
    """What both say; where they disagree, what `then` says. Variables and files are by name."""
    both = {name: value for name, value in first.items() if _given(value)}
    for pair in _ALTERNATIVES:
        if any(_given(then.get(name)) for name in pair):
            for name in pair:
                both.pop(name, None)
    for name, value in then.items():
        if _given(value):
            by_name = name in ("env", "files")
            both[name] = (*_texts(both.get(name, ())), *_texts(value)) if by_name else value
    return cast("Asked", both)


def job_fields(asked: Asked) -> dict[str, Any]:
    """The fields of the job that were asked for. Raises UsageError for what nobody would take."""
    plain = ("name", "queue", "priority", "when", "key")
    body: dict[str, Any] = {
        part: value for part, value in asked.items() if part in plain and _given(value)
    }
    if asked.get("after"):
        body["after"] = [_job_id(text) for text in _split(asked["after"])]
    elif asked.get("when"):
        raise click.UsageError("--when is about jobs of --after: name them.")
    not_before = _not_before(asked)
    if not_before is not None:
        body["not_before"] = not_before
    return body


def task_fields(asked: Asked, words: Iterable[str]) -> dict[str, Any]:
    """The fields of the task that runs these words, but for its files and standard input."""
    task: dict[str, Any] = {"command": list(words)}
    if asked.get("tags"):
        task["tags"] = _requirements(asked["tags"])
    plain = ("timeout_s", "max_queue_s", "grace_s", "crash_limit", "cpus", "memory_mb")
    task |= {name: value for name, value in asked.items() if name in plain and value is not None}
    retry: dict[str, Any] = {}
    if asked.get("retries"):
        retry["max"] = asked["retries"]
    elif asked.get("on_exit") or asked.get("backoff_s") is not None:
        raise click.UsageError("--on-exit and --backoff are about retries: add --retries N.")
    if asked.get("backoff_s") is not None:
        retry["backoff_s"] = asked["backoff_s"]
    if asked.get("on_exit"):
        retry["on_exit"] = [_exit_code(text) for text in _split(asked["on_exit"])]
    if retry:
        task["retry"] = retry
    if asked.get("env"):
        task["env"] = dict(_variable(text) for text in asked["env"])
    if asked.get("array") is not None:
        task["array"] = asked["array"]
    if (items := asked.get("items")) is not None:
        if "array" in task:
            raise click.UsageError("--array and --items exclude each other.")
        task["array"] = items_of(items, "--items")
    return task


def directory(asked: Asked, *, own: bool) -> str | None:
    """Where the task runs; None: in a directory of its own, which is usual if `own`."""
    cwd = asked.get("cwd")
    if asked.get("scratch"):
        if cwd is not None:
            raise click.UsageError("--cwd and --scratch exclude each other.")
        return None
    if cwd is not None:
        return cwd if Path(cwd).is_absolute() else str(_here() / cwd)
    return None if own or asked.get("files") else str(_here())


def file_names(asked: Asked) -> dict[str, Path]:
    """The files to send, by the name that each will have."""
    named: dict[str, Path] = {}
    for text in asked.get("files", ()):
        path, equals, name = text.rpartition("=")
        if not equals or Path(text).exists():
            path, name = text, _usual_name(text)
        named[name] = Path(path)
    return named


def check_file(path: Path, where: str) -> None:
    """Raise UsageError unless this is a file that can be opened."""
    try:
        if path.is_dir():
            raise click.UsageError(f"{where}: {path} is a directory: expected a file.")
        path.open("rb").close()
    except OSError as error:
        raise click.UsageError(f"{where}: {path} can't be read: {error.strerror}.") from None


def items_of(file: str, option: str, *, null: bool = False) -> list[str]:
    """The lines of a file, or of standard input for `-`; with `null` NUL ends each of them.

    Raises UsageError.
    """
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{option}: {file} can't be read: {error.strerror}.") from None
    lines = raw.decode(errors="surrogateescape").split("\0" if null else "\n")
    if lines[-1] == "":
        lines.pop()
    return checked_items(lines, option)


def checked_items(items: list[str], option: str) -> list[str]:
    """These, if they can be the items of an array. Raises UsageError."""
    if not items:
        raise click.UsageError(f"{option}: there are no items.")
    if len(items) > model.ELEMENTS_MAX:
        raise click.UsageError(
            f"{option}: {len(items):,} items: expected at most {model.ELEMENTS_MAX:,}."
        )
    for number, item in enumerate(items, start=1):
        if not item.isascii() and any("\ud800" <= char <= "\udfff" for char in item):
            raise click.UsageError(f"{option}: item {number} is not UTF-8 text: {item!r}.")
    return items


def _given(value: object) -> bool:
    return value is not None and value != () and value is not False


def _texts(value: object) -> tuple[str, ...]:
    assert isinstance(value, tuple)
    return value


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _requirements(texts: Iterable[str]) -> list[str]:
    from dtask.core.placement import tags  # noqa: PLC0415 (--help need not wait for it)

    found = tuple(part for text in texts for part in tags.split(text))
    try:
        tags.parse(found, "--tags")
    except InvalidRequest as error:
        raise click.UsageError(re.sub(r"^--tags\[[0-9]+\]", "--tags", str(error))) from None
    return list(found)


def _job_id(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,14}", text):
        raise click.UsageError(f"--after: {text!r} names no job: expected a number such as 41.")
    return int(text)


def _exit_code(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,3}", text) or not -64 <= int(text) <= 255:  # noqa: PLR2004 (what a process can end with)
        raise click.UsageError(
            f"--on-exit: {text!r} is no exit code: expected 0 to 255, or -9 for signal 9."
        )
    return int(text)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        if name not in os.environ:
            raise click.UsageError(f"--env: {name} is not set here: expected {name}=VALUE.")
        value = os.environ[name]
    if not name:
        raise click.UsageError(f"--env: {text!r} has no name: expected NAME=VALUE.")
    return name, value


def _here() -> Path:
    """The directory that this process is in. Raises UsageError if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise click.UsageError(
            "The directory that you are in is gone: cd elsewhere, or name one with --cwd, or use "
            "--scratch."
        ) from None


def _not_before(asked: Asked) -> float | None:
    at, in_s = asked.get("at"), asked.get("in_s")
    if at is not None and in_s is not None:
        raise click.UsageError("--at and --in exclude each other.")
    return time.time() + in_s if in_s is not None else at


def _usual_name(text: str) -> str:
    """The name of a file that was given none: its path if that stays inside, else the last part."""
    path = PurePosixPath(text)
    return path.name if path.is_absolute() or ".." in path.parts else str(path)
