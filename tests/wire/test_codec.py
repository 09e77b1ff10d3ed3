import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.errors import InvalidRequest
from dtask.wire.codec import Body, encode, refuse_duplicates
from dtask.wire.placement import BatchBody, HeartbeatBody, HeldTask, ScheduleBody

SCHEDULE = Body(ScheduleBody)
HEARTBEAT = Body(HeartbeatBody)
BATCH = Body(BatchBody)

WORKER = b'{"worker_id":"w","address":"a:1","resource_tags":[],"max_tasks":1'


def heartbeat(rest: bytes) -> bytes:
    """The required fields of a heartbeat, and more."""
    return WORKER + b"," + rest + b"}"


def refused(body: Body[Any], raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        body.decode(raw)
    assert json.loads(encode(error.value.body())) == error.value.body(), "it travels as JSON"
    return error.value


def read_or_refuse(body: Body[Any], raw: bytes) -> None:
    """Decode `raw`, or let it be refused with a field; any other error fails the test."""
    refusal = None
    try:
        body.decode(raw)
    except InvalidRequest as error:
        refusal = error
    assert refusal is None or json.loads(encode(refusal.body()))["field"]


def test_a_body_is_decoded_into_its_type() -> None:
    body = HEARTBEAT.decode(heartbeat(b'"tasks":["a",{"task_id":"b","fence":7}],"later":[{}]'))
    assert (body.worker_id, body.max_tasks) == ("w", 1)
    assert body.tasks == ("a", HeldTask("b", 7))
    assert body.current_tasks is None


@pytest.mark.parametrize(
    ("body", "raw", "field", "sentence"),
    [
        (SCHEDULE, b"{}", "task_id", "task_id: it is missing."),
        (SCHEDULE, b'{"task_id":7}', "task_id", "task_id: expected a string, got a whole number."),
        (SCHEDULE, b'{"task_id":""}', "task_id", "task_id: expected a string of length >= 1."),
        (SCHEDULE, b'{"task_id":null}', "task_id", "task_id: expected a string, got null."),
        (SCHEDULE, b"[]", "$", "The body: expected an object, got a list."),
        (SCHEDULE, b"null", "$", "The body: expected an object, got null."),
        (
            SCHEDULE,
            b'{"task_id":"t","required_tags":"gpu"}',
            "required_tags",
            "required_tags: expected a list or null, got a string.",
        ),
        (
            SCHEDULE,
            b'{"task_id":"t","required_tags":["gpu",["cpu"]]}',
            "required_tags[1]",
            "required_tags[1]: expected a string, got a list.",
        ),
        (
            SCHEDULE,
            b'{"task_id":"t","ttl_s":3601}',
            "ttl_s",
            "ttl_s: expected a number <= 3600.0.",
        ),
        (
            SCHEDULE,
            b'{"task_id":"t","strategy":"x"}',
            "strategy",
            "strategy: invalid enum value 'x', expected one of bin_pack, least_loaded.",
        ),
        (
            BATCH,
            b'{"tasks":[{"task_id":"t"},{"task_id":"u","strategy":"x"}]}',
            "tasks[1].strategy",
            "tasks[1].strategy: invalid enum value 'x', expected one of bin_pack, least_loaded.",
        ),
        (
            BATCH,
            b'{"tasks":[{"task_id":"t"},{}]}',
            "tasks[1].task_id",
            "tasks[1].task_id: it is missing.",
        ),
        (
            HEARTBEAT,
            heartbeat(b'"tasks":[{"task_id":"a","fence":-1}]'),
            "tasks[0].fence",
            "tasks[0].fence: expected a whole number >= 0.",
        ),
        (
            HEARTBEAT,
            heartbeat(b'"metrics":{"a":[1]}'),
            "metrics[...]",
            (
                "metrics[...]: expected true or false, a whole number, a number, a string or null, "
                "got a list."
            ),
        ),
        (
            HEARTBEAT,
            heartbeat(b'"metrics":{"a":1e999}'),
            "metrics[...]",
            "metrics[...]: number out of range.",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    body: Body[Any], raw: bytes, field: str, sentence: str
) -> None:
    error = refused(body, raw)
    assert (error.code, error.facts, str(error)) == ("malformed", {"field": field}, sentence)


@pytest.mark.parametrize(
    ("body", "raw", "field"),
    [
        (SCHEDULE, b'{"task_id":"t","ttl":1}', "ttl"),
        (BATCH, b'{"tasks":[{"task_id":"t"},{"task_id":"t","ttl":1}]}', "tasks[1].ttl"),
        (SCHEDULE, b'{"task_id":"t","a\\nb":1}', "a\nb"),
        (SCHEDULE, b'{"task_id":"t","a`b":1}', "a`b"),
        (SCHEDULE, b'{"task_id":"t","a.b[0]":1}', "a.b[0]"),
        (SCHEDULE, b'{"task_id":"t","' + b"x" * 300 + b'":1}', "x" * 99 + "…"),
    ],
)
def test_an_unknown_field_is_refused_by_its_name(body: Body[Any], raw: bytes, field: str) -> None:
    error = refused(body, raw)
    assert (error.code, error.facts) == ("unknown_field", {"field": field})
    expected = "task_id, required_tags, preferred_tags, exclude_workers, strategy, ttl_s or trusted"
    assert str(error) == f"{field}: there is no such field: expected {expected}."


@pytest.mark.parametrize(
    ("body", "raw", "field"),
    [
        (SCHEDULE, b'{"task_id":"t","task_id":"u"}', "task_id"),
        (SCHEDULE, b'{"task_id":"t", "task_id" : "t"}', "task_id"),
        (SCHEDULE, b'{"task_id":"t","task\\u005fid":"u"}', "task_id"),
        (BATCH, b'{"tasks":[{"task_id":"t","task_id":"u"}]}', "task_id"),
        (HEARTBEAT, heartbeat(b'"tasks":[{"task_id":"t","fence":1,"fence":2}]'), "fence"),
        (HEARTBEAT, heartbeat(b'"metrics":{"a":1,"a":2}'), "a"),
        (HEARTBEAT, heartbeat(b'"max_tasks":1'), "max_tasks"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_its_name(
    body: Body[Any], raw: bytes, field: str
) -> None:
    error = refused(body, raw)
    assert error.facts == {"field": field}
    assert str(error) == f"{field}: the body holds this key twice: expected it once."


def test_a_key_in_two_objects_or_as_a_value_is_not_twice() -> None:
    assert SCHEDULE.decode(b'{"task_id":"task_id"}').task_id == "task_id"
    assert SCHEDULE.decode(b'{"task_id":"\\""}').task_id == '"'
    assert len(BATCH.decode(b'{"tasks":[{"task_id":"t"},{"task_id":"t"}]}').tasks) == 2


def test_a_shallow_body_leaves_nested_objects_to_whoever_decodes() -> None:
    shallow = Body(BatchBody, shallow=True)
    shallow.decode(b'{"tasks":[{"task_id":"t","task_id":"u"}]}')
    assert refused(shallow, b'{"tasks":[],"tasks":[{"task_id":"t"}]}').facts == {"field": "tasks"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"task_id":"t"',
        b'{"task_id":"t"}}',
        b'{"task_id":"t"}\0',
        b'{"task_id":"t",}',
        b"{'task_id':'t'}",
        b'{"task_id":"t","ttl_s":NaN}',
        b'{"task_id":"t","ttl_s":Infinity}',
        b'{"task_id":"\\ud800"}',
        b'{"task_id":"t","\\ud800":1}',
        b'{"task_id":"\xed\xa0\x80"}',
        b'{"task_id":"\xff"}',
        b'{"task_id":"a\\qb"}',
        b'\xef\xbb\xbf{"task_id":"t"}',
        '{"task_id":"t"}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_refused_as_such(raw: bytes) -> None:
    error = refused(SCHEDULE, raw)
    assert (error.code, error.facts) == ("malformed", {"field": "$"})
    assert str(error).startswith("The body is not JSON: ")


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_even_in_a_field_nobody_reads(depth: int, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    raw = heartbeat(b'"x":' + opening * depth + b"1" + closing * depth)
    assert str(refused(HEARTBEAT, raw)) == "The body is nested too deeply."
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        refuse_duplicates(raw)


@pytest.mark.parametrize("escape", [b"", b'"e":"\\n",'])
def test_a_field_nobody_reads_may_hold_a_number_beyond_python(escape: bytes) -> None:
    HEARTBEAT.decode(heartbeat(escape + b'"x":' + b"9" * 5_000))


def test_a_field_nobody_reads_may_not_hold_bytes_that_are_no_text() -> None:
    """msgspec skips it unread; the search for repeated keys, which an escape starts, does not."""
    error = refused(HEARTBEAT, heartbeat(b'"x":"\xff\\n"'))
    assert str(error).startswith("The body is not JSON: ")


_SCRAPS = st.sampled_from(
    [
        *(bytes([char]) for char in b'{}[]",:\\0-.eE \n\0\xff'),
        b'"task_id"',
        b'"tasks"',
        b'"worker_id"',
        b'"metrics"',
        b'"x":',
        b"\\u005f",
        b"\\ud800",
        b"null",
        b"true",
        b"NaN",
        b"9" * 5_000,
        b"1e999",
        WORKER,
        b"[" * 5_000,
    ]
)


@given(st.binary() | st.lists(_SCRAPS, max_size=12).map(b"".join))
def test_random_bytes_are_refused_with_a_field_and_nothing_else_happens(raw: bytes) -> None:
    for body in (SCHEDULE, BATCH, HEARTBEAT):
        for text in (raw, WORKER + raw, WORKER + b',"x":' + raw + b"}"):
            read_or_refuse(body, text)


@given(st.data())
def test_a_valid_body_cut_or_with_a_byte_changed_is_refused_or_read(data: st.DataObject) -> None:
    raw = heartbeat(
        b'"current_tasks":2,"tasks":["a",{"task_id":"b","fence":7}],"metrics":{"gpu":0.5},"x":[1]'
    )
    at = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(InvalidRequest):
        HEARTBEAT.decode(raw[:at])
    changed = bytearray(raw)
    changed[at] = data.draw(st.integers(0, 255))
    read_or_refuse(HEARTBEAT, bytes(changed))
