"""A job in a file: the body of a submit as YAML or JSON, whose `files` may name local paths.

Every error names the file, and the line or the field. What is read as text, such as the words of a
command, is the text as it was written: `[sleep, 10]` and `DEBUG: yes` mean what they say.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Never

import click
import msgspec
import yaml

from dtask.cli import findings
from dtask.cli.asking import check_file
from dtask.core.jobs import model
from dtask.core.jobs.names import ONLY_TASK
from dtask.core.placement import tags

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
DEPTH_MAX: Final = 20
#: Values in a file, what aliases repeat included.
VALUES_MAX: Final = 2_500_000

#: Stands for a file where only the form of the body matters.
_SOME_DIGEST: Final = "sha256:" + "0" * 64
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: Where msgspec says that it found something wrong: ` - at `$.tasks[...].retry.max``.
_PLACE: Final = re.compile(r"(.*?) - at `(?:key in )?(\$[^`]*)`", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")

#: Fields of the body beside those of a job and of its one task.
_KEY: Final = "key"

#: Fields of a task whose scalars are texts as they were written.
_TEXTS: Final = frozenset({"command", "array", "env", "tags"})

#: Fields of a body that is one command.
_TASK_FIELDS: Final = frozenset(model.TaskSpec.__struct_fields__)
_JOB_FIELDS: Final = frozenset(model.JobSpec.__struct_fields__)
_BOTH: Final = _TASK_FIELDS & _JOB_FIELDS

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Places:
    """The line of each value in a file, by its path: `("tasks", "tile", "retry")`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        #: It is one command: its fields stand at the top.
        self.alone = False
        self.lines: dict[tuple[str, ...], int] = {}

    def of(self, path: tuple[str, ...]) -> str:
        """`job.yaml, line 7`: the value there, or the closest around it."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return f"{self._file}, line {line}"
        return str(self._file)

    def of_field(self, field: str) -> str:
        """The same for a field as the scheduler names it: `tasks.tile.needs`."""
        return self.of(tuple(part for part in re.split(r"[.\[\]]", field) if part))

    def fail(self, path: tuple[str, ...], sentence: str) -> Never:
        """Raise UsageError that says where."""
        own = path[2:] if self.alone and path[:2] == ("tasks", ONLY_TASK) else path
        field = ".".join(own)
        raise click.UsageError(f"{self.of(path)}: {f'{field}: ' if field else ''}{sentence}")


def read(file: Path) -> tuple[dict[str, Any], Places]:
    """The body of the job in a file, its files as absolute paths; and where its fields are.

    Raises UsageError.
    """
    places = Places(file)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file} can't be read: {error.strerror}.") from None
    if len(raw) > FILE_BYTES_MAX:
        raise click.UsageError(
            f"{file} has {len(raw):,} bytes: expected at most {FILE_BYTES_MAX:,}."
        )
    load = _json if file.suffix == ".json" else _yaml
    found = load(raw, places)
    if not isinstance(found, dict) or not found:
        places.fail((), "expected the fields of a job, such as `command: [echo, hi]` or `tasks:`.")
    body = _with_lists(_as_tasks(found, places))
    sendable = _with_files(body, lambda path, where: _checked(file.parent / path, where), places)
    _check(_with_files(body, lambda _path, _where: _SOME_DIGEST, places), places)
    sendable.setdefault("name", file.stem[: model.NAME_CHARS_MAX])
    return sendable, places


def _as_tasks(body: dict[str, Any], places: Places) -> dict[str, Any]:
    """A body of one command as a job of one task; any other as it is."""
    if "command" not in body:
        if "tasks" not in body:
            places.fail((), "there is neither `command` nor `tasks`: expected one of them.")
        return body
    if "tasks" in body:
        places.fail(("command",), "expected `command` or `tasks`, not both.")
    places.alone = True
    of_task = _TASK_FIELDS - _BOTH
    for name in of_task:
        if (line := places.lines.get((name,))) is not None:
            places.lines["tasks", ONLY_TASK, name] = line
    task = {name: value for name, value in body.items() if name in of_task}
    rest = {name: value for name, value in body.items() if name not in of_task}
    return rest | {"tasks": {ONLY_TASK: task}}


def _with_lists(body: dict[str, Any]) -> dict[str, Any]:
    """The body, where a list may be a text joined by commas, and one job its number."""
    body = dict(body)
    if isinstance(body.get("after"), int):
        body["after"] = [body["after"]]
    tasks = body["tasks"]
    if isinstance(tasks, dict):
        body["tasks"] = {name: _task_with_lists(task) for name, task in tasks.items()}
    return body


def _task_with_lists(task: object) -> object:
    if not isinstance(task, dict):
        return task
    listed = {name: task[name] for name in ("tags", "needs") if isinstance(task.get(name), str)}
    return task | {name: list(tags.split(text)) for name, text in listed.items()}


def _with_files(
    body: dict[str, Any], take: Callable[[str, str], str | Path], places: Places
) -> dict[str, Any]:
    """The body with what `take` makes of each local path, and of where that stands."""
    tasks = body["tasks"]
    if not isinstance(tasks, dict):
        return body
    changed = {}
    for name, task in tasks.items():
        if not isinstance(task, dict):
            return body
        within = ("tasks", str(name))
        files = task.get("files")
        if isinstance(files, list):  # [tile.py, data/in.csv]: names that are paths
            files = {str(path): path for path in files}
        task = dict(task)  # noqa: PLW2901 (the caller's stays as it is)
        if isinstance(files, dict):
            task["files"] = {
                local: take(path, places.of((*within, "files", local))) if _is_path(path) else path
                for local, path in files.items()
            }
        if _is_path(task.get("stdin")):
            task["stdin"] = take(task["stdin"], places.of((*within, "stdin")))
        changed[name] = task
    return body | {"tasks": changed}


def _is_path(value: object) -> bool:
    return isinstance(value, str) and not _DIGEST.fullmatch(value)


def _checked(path: Path, where: str) -> Path:
    """This path, absolute. Raises UsageError if it is no file that can be opened."""
    check_file(path, where)
    return path.absolute()


def _check(body: dict[str, Any], places: Places) -> None:
    """Raise UsageError unless this is the body of a job, as far as single values can show it."""
    try:
        msgspec.convert(
            {name: value for name, value in body.items() if name != _KEY}, model.JobSpec
        )
    except msgspec.ValidationError as error:
        said = str(error)
        found = _PLACE.fullmatch(said)
        what, path = (found[1], _path(found[2], body)) if found else (said, ())
        if unknown := _UNKNOWN.fullmatch(what):
            _fail_unknown(path, unknown[1], places)
        places.fail(path, f"{findings.sentence(what, path)}.")


def _path(text: str, body: dict[str, Any]) -> tuple[str, ...]:
    """The path that msgspec means: it writes `[...]` for keys, so the first bad one is looked for.

    Raises nothing: a path that can't be followed ends where it is lost.
    """
    parts = tuple(re.findall(r"\[\.\.\.\]|\[[0-9]+\]|[^.\[\]$]+", text))
    return next(_followed(parts, body), ())


def _followed(parts: tuple[str, ...], value: Any) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 (a file may hold anything)
    """All paths that `parts` may stand for; those with an error in them, as far as they go."""
    if not parts:
        yield ()
        return
    part, rest = parts[0].strip("[]"), parts[1:]
    if part != "...":
        inner = value.get(part) if isinstance(value, dict) else None
        for path in _followed(rest, inner):
            yield (part, *path)
        return
    for name, inner in value.items() if isinstance(value, dict) else ():
        if _is_wrong(inner, rest):
            for path in _followed(rest, inner):
                yield (str(name), *path)


def _is_wrong(value: object, rest: tuple[str, ...]) -> bool:
    """Whether this is the task, or the part of one, that msgspec found wrong."""
    if isinstance(value, dict) and (not rest or rest[0] in (*_TASK_FIELDS, "[...]")):
        try:
            msgspec.convert(value, model.TaskSpec)
        except msgspec.ValidationError as error:
            return (
                str(error).endswith(f"`${_joined(rest)}`") if rest else " - at " not in str(error)
            )
        return False
    kind: Any = str
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return True
    return False


def _joined(rest: tuple[str, ...]) -> str:
    return "".join(part if part.startswith("[") else f".{part}" for part in rest)


def _fail_unknown(path: tuple[str, ...], name: str, places: Places) -> Never:
    import difflib  # noqa: PLC0415 (only what goes wrong needs it)

    known: set[str] = set(_JOB_FIELDS) | {_KEY}
    if path[:1] == ("tasks",):
        known = set(model.Retry.__struct_fields__ if path[2:3] == ("retry",) else _TASK_FIELDS)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"expected {', '.join(sorted(known))}."
    places.fail((*path, name), f"there is no such field: {hint}")


# JSON


def _json(raw: bytes, places: Places) -> object:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twin = next(name for name in names if names.count(name) > 1)
            places.fail((), f"{twin!r} stands there twice: expected each field once.")
        return found

    try:
        return json.loads(raw, object_pairs_hook=no_twins)
    except json.JSONDecodeError as error:
        where = f"{places.of(())}, line {error.lineno}, column {error.colno}"
        raise click.UsageError(f"{where}: this is no JSON: {error.msg}.") from None
    except (UnicodeDecodeError, RecursionError) as error:
        places.fail((), f"this is no JSON: {error}.")


# YAML


def _yaml(raw: bytes, places: Places) -> object:
    loader = _Loader(raw)
    try:
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, places).value(node, (), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{places.of(())}, line {mark.line + 1}" if mark else places.of(())
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise click.UsageError(f"{where}: this is no YAML: {said}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        places.fail((), f"this is no YAML: {first}.")
    finally:
        loader.dispose()


class _Builder:
    """Builds values of YAML nodes, and notes the line of each."""

    def __init__(self, loader: Any, places: Places) -> None:  # noqa: ANN401 (one of two, by what is installed)
        self._construct: Callable[[yaml.Node], Any] = loader.construct_object
        self._places = places
        self._count = 0

    def value(self, node: yaml.Node, path: tuple[str, ...], depth: int) -> Any:  # noqa: ANN401 (a file may hold anything)
        """The value of a node. Raises UsageError."""
        self._count += 1
        self._note(path, node)
        if depth > DEPTH_MAX:
            self._places.fail(path, f"this is more than {DEPTH_MAX} levels deep.")
        if self._count > VALUES_MAX:
            self._places.fail(path, f"there are more than {VALUES_MAX:,} values.")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(inner, (*path, str(i)), depth + 1) for i, inner in enumerate(node.value)
            ]
        if _is_text(path) and isinstance(node, yaml.ScalarNode) and not _is_null(node):
            return node.value
        return self._construct(node)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for name_node, inner in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                for part in inner.value if isinstance(inner, yaml.SequenceNode) else [inner]:
                    merged = self.value(part, path, depth + 1) | merged
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                self._places.fail(path, "a name can't be a list or a mapping.")
            name = name_node.value  # as written: `on` is a fine name of a task
            if name in found:
                line = name_node.start_mark.line + 1
                self._places.lines[*path, name] = line
                self._places.fail((*path, name), "this stands there twice: expected it once.")
            found[name] = self.value(inner, (*path, name), depth + 1)
            self._places.lines[*path, name] = name_node.start_mark.line + 1
        self._note(path, node)
        return merged | found

    def _note(self, path: tuple[str, ...], node: yaml.Node) -> None:
        if len(path) <= 5:  # noqa: PLR2004 (tasks, a task, a field, a part, its part)
            self._places.lines[path] = node.start_mark.line + 1


def _is_text(path: tuple[str, ...]) -> bool:
    """Whether a scalar here is the text that was written: a word, an item, a value of `env`."""
    inner = path[2:] if path[:1] == ("tasks",) else path
    return len(inner) == 2 and inner[0] in _TEXTS  # noqa: PLR2004 (the field, and which of it)


def _is_null(node: yaml.ScalarNode) -> bool:
    return node.tag == "tag:yaml.org,2002:null" and not node.value
