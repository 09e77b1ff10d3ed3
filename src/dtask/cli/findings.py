"""What msgspec finds wrong with a value, in words for whoever wrote the job file."""

import re
from typing import Final, get_args

from dtask.core.jobs.model import When

#: Kinds of values as msgspec calls them, and as people do.
_KINDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "fields",
    "str": "text",
}
_KIND: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")

#: What is right, by the field that is wrong.
_ADVICE: Final = {
    "command": "a command is a list of words, such as [make, all], or [sh, -c, 'make | tee log']",
    "when": f"expected {' or '.join(get_args(When))}",
    "env": "variables have names and values, such as {DEBUG: 1}",
    "retry": "as in {max: 3, backoff_s: 2}",
    "tasks": "tasks have names, as in {build: {command: [make, all]}}",
}


def sentence(what: str, path: tuple[str, ...]) -> str:
    """What was found at this path, without its full stop."""
    if missing := _MISSING.fullmatch(what):
        said = f"`{missing[1]}` is missing"
        path = (*path, missing[1])
    else:
        said = f"{what[:1].lower()}{what[1:]}"
        said = _KIND.sub(lambda found: _kinds(found[1]), said)
    advice = _advice(path)
    return f"{said}; {advice}" if advice else said


def _kinds(text: str) -> str:
    """`float | null` is a number: that it may be left out helps nobody."""
    kinds = text.split(" | ")
    named = [kind for kind in kinds if kind != "null"] or kinds
    return " or ".join(_KINDS.get(kind, kind) for kind in named)


def _advice(path: tuple[str, ...]) -> str | None:
    if path[-2:-1] == ("env",):
        return 'the empty text is ""'
    if len(path) == 2 and path[0] == "tasks":  # noqa: PLR2004 (a task itself)
        return "a task has fields, such as {command: [make, all]}"
    if path[-1:] and path[-1].endswith("_s"):
        return "a duration is a number of seconds"
    return _ADVICE.get(path[-1]) if path else None
