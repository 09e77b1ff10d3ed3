"""The command of `dtask map` as a shell command that reads its item from the environment.

    {}     the item                          {/}    without its directory
    {.}    without its extension             {//}   its directory
    {/.}   without directory and extension   {#}    its place in the list, from 0

The shell expands variables, it is not given the item's text. So a name with spaces, quotes, a `$`
or newlines in it is the same word in the command that it is in the list. How a placeholder is
quoted depends on what it stands in: nothing, double quotes, single quotes, or `$(...)`.
"""

import re
from typing import Final

from dtask.errors import InvalidRequest

#: What each placeholder becomes, and which of the parts of the head it needs.
_WORDS: Final = {
    "{}": ("$DTASK_ITEM", ""),
    "{#}": ("$DTASK_INDEX", ""),
    "{.}": ("$_stem", "stem"),
    "{/}": ("$_base", "base"),
    "{//}": ("$_dir", "dir"),
    "{/.}": ("$_base_stem", "base base_stem"),
}
_WORD: Final = re.compile(r"\{(?:|#|\.|/|//|/\.)\}")

#: Shell lines before the command, by what they set. No `$(...)`: it would eat newlines at the end.
#: A name that begins with a dot has no extension for that; a dot in a directory is none.
_HEADS: Final = {
    "stem": "_stem=$DTASK_ITEM; case ${DTASK_ITEM##*/} in ?*.*) _stem=${DTASK_ITEM%.*};; esac; ",
    "base": '_base=${DTASK_ITEM%"${DTASK_ITEM##*[!/]}"}; _base=${_base##*/}; ',
    "base_stem": "_base_stem=$_base; case $_base in ?*.*) _base_stem=${_base%.*};; esac; ",
    "dir": '_dir=${DTASK_ITEM%"${DTASK_ITEM##*[!/]}"}; case $_dir in */*) _dir=${_dir%/*}; '
    "_dir=${_dir:-/};; ?*) _dir=.;; *) _dir=/;; esac; ",
}

#: Names of what a placeholder can stand in.
_PLAIN, _DOUBLE, _SINGLE = "plain", '"', "'"


def command(text: str) -> list[str]:
    """The words that run `text` for one item. Without any placeholder the item is its last word.

    Raises InvalidRequest for a quote or bracket that is not closed.
    """
    if _WORD.search(text) is None:
        text = f"{text.rstrip()} {{}}"
    body, found = _expanded(text)
    needed = " ".join(_WORDS[word][1] for word in found).split()
    head = "".join(line for name, line in _HEADS.items() if name in needed)
    return ["sh", "-c", head + body, "sh"]


def _expanded(text: str) -> tuple[str, set[str]]:
    """`text` with variables in place of placeholders, and which of those it had."""
    done: list[str] = []
    found: set[str] = set()
    #: Quotes and brackets that are open, by what closes them.
    open_: list[str] = []
    at = 0
    while at < len(text):
        inside = open_[-1] if open_ else _PLAIN
        if word := _WORD.match(text, at):
            done.append(_quoted(_WORDS[word[0]][0], inside))
            found.add(word[0])
            at = word.end()
            continue
        step = _step(text, at, open_)
        done.append(step)
        at += len(step)
    if open_:
        raise InvalidRequest(
            f"The command ends where {open_[-1]} is still to come: {text[-60:]!r}.",
            code="malformed",
            field="command",
        )
    # What is left stands in a comment or behind a backslash, and must not become the item's text.
    return "".join(done).replace("{}", "{\\}"), found


def _quoted(variable: str, inside: str) -> str:
    if inside == _SINGLE:
        return f"'\"{variable}\"'"
    name = "${" + variable[1:] + "}"  # letters may follow
    return name if inside in (_DOUBLE, '}"') else f'"{name}"'


def _step(text: str, at: int, open_: list[str]) -> str:
    """The next piece of the command that changes nothing, or opens or closes one level."""
    inside = open_[-1] if open_ else _PLAIN
    char = text[at]
    if inside == _SINGLE:
        if char == "'":
            open_.pop()
        return char
    if char == "\\":
        return text[at : at + 2]
    if char == inside[0] and inside != _PLAIN:
        open_.pop()
        return char
    in_double = inside in (_DOUBLE, '}"')
    if text.startswith("$(", at) or text.startswith("${", at):
        opened = ")" if text[at + 1] == "(" else ('}"' if in_double else "}")
        open_.append(opened)
        return text[at : at + 2]
    if (char in '`"' and not (char == '"' and in_double)) or (not in_double and char == "'"):
        open_.append(char)
    elif not in_double and char == "(":
        open_.append(")")
    elif not in_double and char == "#" and (not at or text[at - 1] in " \t\n;&|("):
        return text[at:].partition("\n")[0]
    return char
