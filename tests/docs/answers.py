"""Whether an answer is the one that a page shows, but for what is different every time."""

import json
import re

from docs.pages import Block

#: What changes from run to run, and what stands for it when two answers are compared. The order
#: matters: a part of one may look like another.
CHANGING = (
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "MOMENT"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b\d{10}\.[0-9a-f]{8,64}\b", "TICKET"),  # an expiry and a MAC
    (r"\b\d{10,17}(?:\.\d+)?\b", "1000000000"),  # epoch seconds and fences
    (r"\b(?=[0-9a-f]*[a-f])[0-9a-f]{16}\b", "INCARNATION"),
    (r"\b\d+s\b", "AGE"),
    (r"\bin \d+ s\b", "in SECONDS"),
    (r"\b\d+(?:\.\d+)? m?s\b", "SECONDS"),
)


def check(shown: Block, printed: str) -> None:
    """Assert that what was printed is what the page shows."""
    want, got = _steady(shown.text), _steady(printed)
    if shown.language == "json":
        assert json.loads(got) == json.loads(want), shown.place
    elif shown.language == "http":
        _check_http(want, got, shown.place)
    else:
        assert _lines(got) == _lines(want), shown.place


def _check_http(want: str, got: str, place: str) -> None:
    """The same status line, at least the headers shown, the same body."""
    want_head, _, want_body = want.partition("\n\n")
    got_head, _, got_body = got.partition("\n\n")
    status, *headers = want_head.splitlines()
    got_status, *got_headers = got_head.splitlines()
    assert got_status == status, place
    assert set(headers) - set(got_headers) == set(), place
    if "content-type: application/json" in headers:
        assert json.loads(got_body) == json.loads(want_body), place
    else:
        assert _lines(got_body) == _lines(want_body), place


def _steady(text: str) -> str:
    text = text.replace("\r\n", "\n")
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return text


def _lines(text: str) -> list[str]:
    """The lines, spaces counted once: columns are as wide as what stands in them."""
    return [" ".join(line.split()) for line in text.strip().splitlines()]
