"""From what people write to the body of a submit."""

from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from dtask.client import specs
from dtask.errors import InvalidRequest
from dtask.wire import codec, jobs

DIGEST = "sha256:" + "a" * 64


def body(what: Any, **given: Any) -> dict[str, Any]:
    made = specs.body(what, given, made_key="made")  # type: ignore[arg-type, unused-ignore]
    jobs.decode(codec.encode(made))  # the scheduler takes it
    return made


def test_a_command_alone_is_a_job_and_gets_a_key() -> None:
    assert body(["echo", 7]) == {
        "command": ["echo", "7"],
        "name": "echo 7",
        "key": "made",
    }
    assert body(("true",), key="mine")["key"] == "mine"
    assert body(["true"], key=None)["key"] == "made"


def test_wishes_may_be_said_in_short() -> None:
    class Handle:
        id = 41

    made = body(
        ["true"],
        tags="gpu, cuda>=12.0",
        array=range(3),
        retry=2,
        after=Handle(),
        not_before=datetime(2030, 1, 1, tzinfo=UTC),
        env={"N": 1},
        timeout_s=inf,
        queue=None,
        priority=5,
    )
    assert made == {
        "command": ["true"],
        "name": "true",
        "key": "made",
        "tags": ["gpu", "cuda>=12.0"],
        "array": ["0", "1", "2"],
        "retry": {"max": 2},
        "after": [41],
        "not_before": 1893456000.0,
        "env": {"N": "1"},
        "timeout_s": None,
        "priority": 5,
    }


def test_lists_of_any_kind_will_do() -> None:
    made = body(["true"], tags=("gpu",), after=(1, 2), array=4, retry={"max": 1, "on_exit": {75}})
    assert made["tags"] == ["gpu"]
    assert made["after"] == [1, 2]
    assert made["array"] == 4
    assert made["retry"] == {"max": 1, "on_exit": [75]}


def test_a_body_of_the_api_is_taken_as_it_is_but_for_what_is_said_beside_it() -> None:
    graph = {"tasks": {"a": {"command": ["true"]}, "b": {"command": ["true"], "needs": ["a"]}}}
    assert body(graph, queue="night") == {**graph, "queue": "night", "key": "made"}
    assert body({"command": ["true"], "priority": 1}, tags="gpu")["tags"] == ["gpu"]
    assert "key" not in graph


@pytest.mark.parametrize(
    ("what", "given", "field", "sentence"),
    [
        ("echo hi", {}, "command", "one text"),
        (["true"], {"tag": "gpu"}, "tag", "no such field: expected some of name, queue"),
        ({"tasks": {}}, {"tags": "gpu"}, "tags", "belongs to one task"),
    ],
)
def test_what_is_wrong_is_named(
    what: Any, given: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        specs.body(what, given, made_key="made")  # type: ignore[arg-type, unused-ignore]
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["tile.py"], {"tile.py": "tile.py"}),
        ("tile.py", {"tile.py": "tile.py"}),
        (Path("data/in.csv"), {"data/in.csv": "data/in.csv"}),
        (["./data//in.csv"], {"data/in.csv": "./data//in.csv"}),
        (["/etc/hosts"], {"hosts": "/etc/hosts"}),
        (["../tile.py"], {"tile.py": "../tile.py"}),
        ({"a": "b.py", "c": b"content"}, {"a": "b.py", "c": b"content"}),
        ({"a": DIGEST}, {}),
        (None, {}),
    ],
)
def test_files_are_known_by_the_name_they_get(files: Any, found: dict[str, Any]) -> None:
    sources = specs.sources({"files": files}, "")
    assert sources == {("files", name): source for name, source in found.items()}


@pytest.mark.parametrize(
    ("stdin", "found"),
    [("text", b"text"), (b"bytes", b"bytes"), (Path("file"), "file"), (DIGEST, None), (None, None)],
)
def test_standard_input_is_text_or_bytes_or_a_file(stdin: Any, found: Any) -> None:
    assert specs.sources({"stdin": stdin}, "").get(("stdin",)) == found


@pytest.mark.parametrize("what", [7, object(), 1.5])
def test_what_is_no_file_is_refused_by_name(what: Any) -> None:
    for task in ({"files": {"a": what}}, {"files": [what]}, {"stdin": what}):
        with pytest.raises(InvalidRequest, match=r"^tasks\.t\.(files|stdin).* is no file"):
            specs.sources(task, "tasks.t.")
