"""Streams of server-sent events, cut wherever a network may cut them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.client.acts import Foreign
from dtask.client.server_sent import BYTES_MAX, Message, Parser

STREAM = (
    b": a comment\n\nid: 7\nevent: task\ndata: {}\n\r\n\rid:8\r\ndata: a\ndata:\n"
    b'data:  b\n\n:\nid: 9\n\ndata: "\xc3\xa9"\nretry: 5\nunknown\n\ndata: cut off'
)
MESSAGES = [
    Message("7", "task", "{}"),
    Message("8", "", "a\n\n b"),
    Message("9", "", '"é"'),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_it_does_not_matter_where_a_stream_is_cut(cuts: list[int]) -> None:
    places = sorted({0, len(STREAM), *cuts})
    parser = Parser()
    found = []
    for start, end in itertools.pairwise(places):
        found += parser.feed(STREAM[start:end])
    assert found == MESSAGES
    assert parser.last_id == "9"


def test_a_place_without_an_event_is_kept() -> None:
    parser = Parser()
    assert parser.last_id == ""
    assert parser.feed(b":\nid: 12\n\n") == []
    assert parser.last_id == "12"
    parser.feed(b"id: 13\ndata: cut off\n")
    assert parser.last_id == "12"


@pytest.mark.parametrize("endless", [b"x" * 65_536, b"data: x\n" * 8_192])
def test_an_event_without_end_is_refused(endless: bytes) -> None:
    parser = Parser()
    parser.feed(b"data: ")

    def feed_on() -> None:
        for _ in range(BYTES_MAX):
            parser.feed(endless)

    with pytest.raises(Foreign):
        feed_on()
