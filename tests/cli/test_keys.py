"""Keys, as terminals send them."""

import pytest

from dtask.cli.keys import Keyboard

PRESSED = {
    b"q": ["q"],
    b"\x1b": ["escape"],
    b"\x1b[A": ["up"],
    b"\x1bOB": ["down"],
    b"\x1b[5~\x1b[6~": ["pageup", "pagedown"],
    b"\x1b[1~\x1b[F": ["home", "end"],
    b"\t\x1b[Z\r\x7f": ["tab", "backtab", "enter", "backspace"],
    b"gpu \x1b": ["g", "p", "u", " ", "escape"],
    "é雪".encode(): ["é", "雪"],
    # Nothing stands for these: a mouse, a function key, a control character, half a letter.
    b"\x1b[<0;1;1M\x1b[15~\x1b[1;5A\x01\x00\xff": [],
}


@pytest.mark.parametrize("raw", PRESSED, ids=repr)
def test_keys_have_names_and_letters_are_themselves(raw: bytes) -> None:
    assert Keyboard().feed(raw) == PRESSED[raw]


def test_a_letter_may_come_in_two_pieces() -> None:
    keyboard = Keyboard()
    assert [keyboard.feed(piece) for piece in (b"\xc3", b"\xa9")] == [[], ["é"]]
