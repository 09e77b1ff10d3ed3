"""`dtask map` gives an input to a shell as one word, whatever is in it."""

import os
import subprocess

import pytest

from dtask.cli.template import command
from dtask.errors import InvalidRequest

#: Each input with its stem, its last part, and its directory.
INPUTS = {
    "a.tif": ("a", "a.tif", "."),
    "a b.tif": ("a b", "a b.tif", "."),
    "it's.tif": ("it's", "it's.tif", "."),
    'q"uote.tif': ('q"uote', 'q"uote.tif', "."),
    "$HOME.tif": ("$HOME", "$HOME.tif", "."),
    "`id`.$(id).t": ("`id`.$(id)", "`id`.$(id).t", "."),
    "a\nb.tif": ("a\nb", "a\nb.tif", "."),
    "ends with newlines\n\n": ("ends with newlines\n\n",) * 2 + (".",),
    "dir.d/file": ("dir.d/file", "file", "dir.d"),
    "d/.hidden": ("d/.hidden", ".hidden", "d"),
    "x/y.tar.gz": ("x/y.tar", "y.tar.gz", "x"),
    "/abs": ("/abs", "abs", "/"),
    "a/ b/c d.e": ("a/ b/c d", "c d.e", "a/ b"),
    "*": ("*", "*", "."),
    "-n": ("-n", "-n", "."),
    "back\\slash.t": ("back\\slash", "back\\slash.t", "."),
    "{}.x": ("{}", "{}.x", "."),
    "ü 東京.png": ("ü 東京", "ü 東京.png", "."),
    "": ("", "", "/"),
}


def ran(text: str, item: str) -> str:
    """What the command prints for an item."""
    done = subprocess.run(
        command(text),
        env={"PATH": os.environ["PATH"], "DTASK_ITEM": item, "DTASK_INDEX": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), command(text)
    return done.stdout


@pytest.mark.parametrize("item", INPUTS, ids=repr)
def test_each_placeholder_is_one_word(item: str) -> None:
    stem, base, directory = INPUTS[item]
    shown = ran("printf '[%s]' {} {.}.png {/} {//} {#} x{.}y", item)
    assert shown == f"[{item}][{stem}.png][{base}][{directory}][3][x{stem}y]"


@pytest.mark.parametrize("item", INPUTS, ids=repr)
@pytest.mark.parametrize(
    "text",
    [
        "printf '[%s]' '{}'",
        "printf '[%s]' \"{}\"",
        "printf '[%s]'",  # without any it is the last word
        "(cd / && printf '[%s]' {})",
        "f() { printf '[%s]' \"$1\"; }; f {}",
        "printf '[%s]' \"${UNSET:-{}}\"",
        "# it's {} $(\nprintf '[%s]' {}",
    ],
)
def test_quotes_around_a_placeholder_do_no_harm(text: str, item: str) -> None:
    assert ran(text, item) == f"[{item}]"


@pytest.mark.parametrize("item", [item for item in INPUTS if not item.endswith("\n")], ids=repr)
@pytest.mark.parametrize(
    "text", ["printf '[%s]' \"$(printf '%s' {})\"", "printf '[%s]' \"`printf '%s' {}`\""]
)
def test_it_is_one_word_within_a_command_within_quotes(text: str, item: str) -> None:
    assert ran(text, item) == f"[{item}]"


def test_no_placeholder_is_left_for_anyone_else_to_fill_in() -> None:
    for text in ("echo {} # {}", "echo \\{} {}", "echo '{}' \"{}\""):
        assert not any("{}" in word for word in command(text))


@pytest.mark.parametrize("text", ["echo 'x {}", 'echo "{}', "echo $(x {}", "echo `x {}"])
def test_what_is_not_closed_is_said(text: str) -> None:
    with pytest.raises(InvalidRequest, match="still to come"):
        command(text)
