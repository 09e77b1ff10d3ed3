"""Submits: from bytes to a job, or to a sentence about what is wrong."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtask.core.jobs.model import ELEMENTS_MAX, JobSpec, TaskSpec
from dtask.errors import InvalidRequest
from dtask.wire import jobs
from dtask.wire.jobs import LONG_BYTES, CommandBody, JobBody


def submit(body: Any) -> jobs.Submission:
    return jobs.decode(msgspec.json.encode(body))


def refused(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        jobs.decode(raw)
    return error.value


def test_one_command_is_a_job_with_a_task_named_main() -> None:
    task = {"command": ["echo", "hi"], "tags": ["gpu"], "timeout_s": 5, "retry": {"max": 2}}
    short = submit({**task, "name": "n", "queue": "q", "priority": 3, "after": [7], "key": "k"})
    full = submit({"tasks": {"main": task}, "name": "n", "queue": "q", "priority": 3, "after": [7]})
    assert short.spec == full.spec
    assert short.spec.tasks["main"].timeout_s == 5.0
    assert (short.key, full.key) == ("k", None)


def test_a_digest_is_of_what_is_meant_not_of_how_it_is_written() -> None:
    plain = jobs.decode(b'{"command":["x"],"timeout_s":5}')
    spaced = jobs.decode(b' { "timeout_s" : 5.0, "key": "k",\n "command": [ "\\u0078" ] } ')
    other = jobs.decode(b'{"command":["x"],"timeout_s":6}')
    assert plain.digest == spaced.digest
    assert plain.raw == spaced.raw
    assert other.digest != plain.digest


def test_what_is_kept_is_the_spec_again() -> None:
    spec = submit({"tasks": {"a": {"command": ["x"]}, "b": {"command": ["y"], "needs": ["a"]}}})
    assert msgspec.json.decode(spec.raw, type=JobSpec) == spec.spec


@pytest.mark.parametrize(
    ("raw", "field", "sentence"),
    [
        (b"[]", "$", "The body: expected an object, got a list."),
        (b"{", "$", "The body is not JSON: input data was truncated."),
        (b"{}", "$", "The body says nothing to run: expected command or tasks."),
        (b'{"name":"x"}', "$", "The body says nothing to run: expected command or tasks."),
        (
            b'{"command":["x"],"tasks":{}}',
            "tasks",
            "tasks: a job has tasks, or it is one command: expected only one of the two.",
        ),
        (b'{"tasks":{}}', "tasks", "tasks: expected an object of length >= 1."),
        (b'{"tasks":7}', "tasks", "tasks: expected an object, got a whole number."),
        (b'{"command":[]}', "command", "command: expected a list of length >= 1."),
        (b'{"command":"x"}', "command", "command: expected a list, got a string."),
        (b'{"tasks":{"a":"x"}}', "tasks.a", "tasks.a: expected an object, got a string."),
        (b'{"tasks":{"a":{}}}', "tasks.a.command", "tasks.a.command: it is missing."),
        (
            b'{"tasks":{"a":{"command":["x"]},"b":{"command":[1]}}}',
            "tasks.b.command[0]",
            "tasks.b.command[0]: expected a string, got a whole number.",
        ),
        (
            b'{"tasks":{"a":{"command":["x"],"retry":{"maxx":1}}}}',
            "tasks.a.retry.maxx",
            (
                "tasks.a.retry.maxx: there is no such field: expected max, backoff_s, "
                "backoff_max_s or on_exit."
            ),
        ),
        (
            b'{"tasks":{"a":{"command":["x"],"when":"never"}}}',
            "tasks.a.when",
            "tasks.a.when: invalid enum value 'never', expected one of all_done, all_succeeded.",
        ),
        (
            b'{"command":["x"],"array":0}',
            "array",
            "array: expected a whole number >= 1.",
        ),
        (b'{"command":["x"],"key":"a\\nb"}', "key", "key: expected 1 to 128 printable characters."),
        (
            b'{"command":["x"],"command":["y"]}',
            "command",
            "command: the body holds this key twice: expected it once.",
        ),
        (
            b'{"tasks":{"a":{"command":["x"]},"a":{"command":["y"]}}}',
            "a",
            "a: the body holds this key twice: expected it once.",
        ),
        (
            b'{"command":["x"],"env":{"A":"1","A":"2"}}',
            "A",
            "A: the body holds this key twice: expected it once.",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(raw: bytes, field: str, sentence: str) -> None:
    error = refused(raw)
    assert (error.facts["field"], str(error)) == (field, sentence)


def test_an_unknown_field_is_named_and_so_are_those_there_are() -> None:
    error = refused(b'{"tasks":{"a":{"comand":["x"]}}}')
    assert error.code == "unknown_field"
    assert error.facts["field"] == "tasks.a.comand"
    assert "expected command, tags, array, needs" in str(error)
    assert refused(b'{"command":["x"],"needs":[]}').facts["field"] == "needs"


def test_both_forms_have_the_fields_of_a_job_and_of_a_task() -> None:
    of_job = {*JobSpec.__struct_fields__, "key"}
    assert set(JobBody.__struct_fields__) == of_job
    assert set(CommandBody.__struct_fields__) == (
        of_job | set(TaskSpec.__struct_fields__) - {"needs"}
    ) - {"tasks"}


def test_blobs_are_those_of_files_and_inputs() -> None:
    one, two = "1" * 64, "2" * 64
    spec = submit(
        {
            "tasks": {
                "a": {"command": ["x"], "files": {"f": f"sha256:{one}", "g": f"sha256:{two}"}},
                "b": {"command": ["x"], "stdin": f"sha256:{one}"},
            }
        }
    ).spec
    assert jobs.blobs(spec) == {one, two}


# Long arrays, which are decoded piece by piece

WORDS = ("", ",", '"', "\\", '\\"', '","', "],", "[", "é", "\n", "a b", "x" * 40)


@given(st.lists(st.sampled_from(WORDS), min_size=1), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_a_long_array_is_what_it_would_be_in_one_piece(words: list[str], spaces: int) -> None:
    items = words * (2 * LONG_BYTES // (3 * len(words)) + 1)
    separators = ("," + " " * spaces, ":" + " " * spaces)
    text = json.dumps({"command": ["x"], "array": items}, separators=separators)
    assert jobs.decode(text.encode()).spec.tasks["main"].array == tuple(items)


def test_several_tasks_may_have_long_arrays_and_the_same_ones() -> None:
    items, others = ["same"] * 100_000, [str(i) for i in range(60_000)]
    body = {
        "tasks": {
            "a": {"command": ["x"], "array": items},
            "b": {"command": ["y"], "array": others, "needs": ["a"]},
            "c": {"command": ["z"], "array": items},
            "d": {"command": ["z"], "array": 5},
        }
    }
    submitted = submit(body)
    assert submitted.spec == msgspec.convert(body, JobSpec)
    assert submitted.raw == msgspec.json.encode(submitted.spec).decode()


def test_what_is_wrong_in_a_long_array_is_named_with_its_place() -> None:
    items = ["x"] * 100_000 + [7]
    error = refused(msgspec.json.encode({"tasks": {"a": {"command": ["x"], "array": items}}}))
    assert error.facts["field"] == "tasks.a.array[100000]"
    items = ["x"] * (ELEMENTS_MAX + 1)
    error = refused(msgspec.json.encode({"command": ["x"], "array": items}))
    assert str(error) == "array: expected at most 1000000 items, got 1000001."


def test_a_key_that_stands_twice_is_found_behind_a_long_array() -> None:
    array = msgspec.json.encode(["x"] * 100_000)
    error = refused(b'{"command":["x"],"array":%b,"array":%b}' % (array, array))
    assert error.facts["field"] == "array"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_comes_is_a_job_or_refused(raw: bytes) -> None:
    refusal = None
    try:
        jobs.decode(raw)
    except InvalidRequest as error:
        refusal = error
    assert refusal is None or refusal.facts["field"]
