"""What a task writes reaches a terminal with its colours, and with nothing else that acts."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtask.cli.escapes import SEQUENCE_CHARS_MAX, Strainer

SHOWN = {
    b"plain": "plain",
    b"\x1b[31mred\x1b[0m": "\x1b[31mred\x1b[0m",
    b"\x1b[38:5:1mred\x1b[m": "\x1b[38:5:1mred\x1b[m",
    b"\x1b[1;31mred": "\x1b[1;31mred\x1b[0m",  # what is left on goes out at the end
    b"\xc2\x9b31mred\xc2\x9b0m": "\x1b[31mred\x1b[0m",  # the same in one character
    b"\x1b[2Ja\x1b[10;20Hb\x1b[?25lc\x1b[6nd": "abcd",
    b"\x1b[>0;1mK\x1b[1 mK": "KK",  # like a colour, and none
    b"\x1b]0;title\x07x": "x",
    b"\x1b]0;title\x1b\\x": "x",
    b"\x1b]52;c;aGk=\x1b[31mx\x1b[m": "\x1b[31mx\x1b[m",
    b"\x1bPdevice\nnext line": "\nnext line",
    b"\xc2\x9dtitle\xc2\x9cx": "x",
    b"\x1b(0lq\x1bcR\x1b7\x1b8": "lqR",
    b"\x1b\x1b[31mA\x1b[0m": "\x1b[31mA\x1b[0m",
    b"a\x0eb\x00c\x07d\x0be\x7ff": "abcdef",
    b"tab\tback\b\rline\r\n": "tab\tback\b\rline\r\n",
    b"\x1b[31\nA": "\nA",
    b"cut\x1b[31": "cut",
    b"cut\x1b": "cut",
    "ü€😀".encode(): "ü€😀",
    b"\xff\xfe": "\ufffd\ufffd",
    b"\x1b]" + b"x" * 5_000 + b"\x1b\\end": "end",
    b"\x1b]" + b"x" * 5_000 + b"\nend": "\nend",
    b"\x1b]" + b"x" * 5_000 + b"\x1b[31mred\x1b[m": "\x1b[31mred\x1b[m",
}


def strained(*pieces: bytes, colours: bool = True) -> str:
    strainer = Strainer(colours=colours)
    return "".join(strainer.feed(piece) for piece in pieces) + strainer.close()


@pytest.mark.parametrize("raw", SHOWN, ids=repr)
def test_only_colours_get_through(raw: bytes) -> None:
    assert strained(raw) == SHOWN[raw]


@pytest.mark.parametrize("raw", SHOWN, ids=repr)
def test_it_is_the_same_however_a_stream_is_cut(raw: bytes) -> None:
    assert strained(*(raw[i : i + 1] for i in range(len(raw)))) == SHOWN[raw]
    for cut in range(1, min(len(raw), 60)):
        assert strained(raw[:cut], raw[cut:]) == SHOWN[raw], cut


def test_colours_go_too_where_none_are_wanted() -> None:
    assert strained(b"\x1b[31mred\x1b[0m", colours=False) == "red"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([b"\x1b", b"[", b"]", b"m", b"31", b";", b"\x07", b"\\", b"\xc2\x9b"]),
            st.binary(max_size=8),
        ),
        max_size=30,
    )
)
def test_whatever_comes_no_escape_but_a_colour_is_left(pieces: list[bytes]) -> None:
    shown = strained(*pieces)
    left = re.sub(r"\x1b\[[0-9;:]*m", "", shown)
    assert re.search(r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]", left) is None
    assert shown == strained(b"".join(pieces))


def test_what_never_ends_is_not_kept() -> None:
    strainer = Strainer(colours=True)
    for _ in range(100):
        assert strainer.feed(b"\x1b]" + b"x" * 10_000) == ""
        assert len(strainer._held) <= SEQUENCE_CHARS_MAX


def test_the_end_of_a_long_string_is_seen_wherever_it_is_cut() -> None:
    assert strained(b"\x1b]" + b"x" * 5_000 + b"\x1b", b"\\end") == "end"
