"""Jobs in files: what is written is what is meant, and what is wrong is named with its line."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from dtask.cli import jobfile


def read(directory: Path, text: str, name: str = "job.yaml") -> dict[str, Any]:
    file = directory / name
    file.write_text(text)
    return jobfile.read(file)[0]


def test_one_command_is_a_job_of_one_task_named_after_its_file(tmp_path: Path) -> None:
    body = read(
        tmp_path, "command: [make, all]\ntags: [gpu, cuda>=12]\nqueue: night\npriority: 5\n"
    )
    assert body == {
        "name": "job",
        "queue": "night",
        "priority": 5,
        "tasks": {"main": {"command": ["make", "all"], "tags": ["gpu", "cuda>=12"]}},
    }


def test_a_graph_is_the_body_of_a_submit(tmp_path: Path) -> None:
    text = """
        name: render
        key: once
        tasks:
          prepare: {command: [python, prep.py]}
          tile:
            command: [python, tile.py, "{}"]
            array: 16
            needs: [prepare]
            retry: {max: 3, on_exit: [75]}
            timeout_s: 600
    """
    body = read(tmp_path, text)
    assert body["key"] == "once"
    assert body["tasks"]["tile"] == {
        "command": ["python", "tile.py", "{}"],
        "array": 16,
        "needs": ["prepare"],
        "retry": {"max": 3, "on_exit": [75]},
        "timeout_s": 600,
    }
    assert read(tmp_path, json.dumps(body), "job.json") == body


def test_texts_are_taken_as_they_were_written(tmp_path: Path) -> None:
    text = "command: [sleep, 10, yes, 1e3, ~x]\nenv: {DEBUG: on, N: 007}\narray: [1, 2.50, no]\n"
    task = read(tmp_path, text)["tasks"]["main"]
    assert task["command"] == ["sleep", "10", "yes", "1e3", "~x"]
    assert task["env"] == {"DEBUG": "on", "N": "007"}
    assert task["array"] == ["1", "2.50", "no"]


def test_what_is_merged_gives_way_to_what_is_said(tmp_path: Path) -> None:
    text = """
        tasks:
          a: &a {command: [x], tags: [gpu], timeout_s: 5}
          b:
            <<: *a
            command: [y]
    """
    task = read(tmp_path, text)["tasks"]["b"]
    assert task == {"command": ["y"], "tags": ["gpu"], "timeout_s": 5}


def test_a_list_may_be_a_text_joined_by_commas(tmp_path: Path) -> None:
    text = """
        after: 41
        tasks:
          a: {command: [x], tags: "gpu, cuda>=12"}
          b: {command: [x], needs: a}
    """
    body = read(tmp_path, text)
    assert body["after"] == [41]
    assert body["tasks"]["a"]["tags"] == ["gpu", "cuda>=12"]
    assert body["tasks"]["b"]["needs"] == ["a"]


def test_files_stand_beside_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.csv").write_text("1")
    (tmp_path / "tile.py").write_text("2")
    digest = "sha256:" + "0" * 64
    text = f"""
        tasks:
          a: {{command: [x], files: {{t.py: tile.py, known: "{digest}"}}, stdin: data/in.csv}}
          b: {{command: [x], files: [data/in.csv]}}
    """
    tasks = read(tmp_path, text)["tasks"]
    assert tasks["a"]["files"] == {"t.py": tmp_path / "tile.py", "known": digest}
    assert tasks["a"]["stdin"] == tmp_path / "data" / "in.csv"
    assert tasks["b"]["files"] == {"data/in.csv": tmp_path / "data" / "in.csv"}


WRONG = {
    "tasks:\n  a: {command: [x]}\n  b:\n    command: [x]\n    retry: {maxx: 1}\n": (
        "job.yaml, line 5: tasks.b.retry.maxx: there is no such field: did you mean `max`?"
    ),
    "tasks:\n  a: {command: [x]}\n  b:\n    command: [x]\n    retry: {max: -1}\n": (
        "job.yaml, line 5: tasks.b.retry.max: expected a whole number >= 0."
    ),
    "tasks:\n  a:\n    command: [x]\n  a:\n    command: [y]\n": (
        "job.yaml, line 4: tasks.a: this stands there twice: expected it once."
    ),
    "tasks:\n  a:\n    command: make all\n": (
        "job.yaml, line 3: tasks.a.command: expected a list, got text; a command is a list of "
        "words, such as [make, all], or [sh, -c, 'make | tee log']."
    ),
    "tasks:\n  a:\n    comand: [make]\n": (
        "job.yaml, line 3: tasks.a.comand: there is no such field: did you mean `command`?"
    ),
    "command: [x]\ntimeout_s: 2h\n": (
        "job.yaml, line 2: timeout_s: expected a number, got text; a duration is a number of "
        "seconds."
    ),
    "tasks:\n  a:\n    command: [x]\n    files: {t.py: gone.py}\n": (
        "job.yaml, line 4: gone.py can't be read: No such file or directory."
    ),
    "tasks:\n  ok: {command: [x]}\n  bad: 3\n": (
        "job.yaml, line 3: tasks.bad: expected fields, got a whole number; a task has "
        "fields, such as {command: [make, all]}."
    ),
    "tasks:\n  ok:\n": (
        "job.yaml, line 2: tasks.ok: expected fields, got nothing; a task has fields, such as "
        "{command: [make, all]}."
    ),
    "tasks:\n  ok: {tags: [x]}\n": (
        "job.yaml, line 2: tasks.ok: `command` is missing; a command is a list of words, such as "
    ),
    "command: [x]\nwhen: sometimes\n": (
        "job.yaml, line 2: when: invalid enum value 'sometimes'; expected all_succeeded or "
        "all_done."
    ),
    "tasks:\n  a:\n    command: [x]\n    env:\n      A: 1\n      B:\n": (
        'job.yaml, line 6: tasks.a.env.B: expected text, got nothing; the empty text is "".'
    ),
    "nam: x\ncommand: [x]\n": (
        "job.yaml, line 1: nam: there is no such field: did you mean `name`?"
    ),
    "name: x\n": "job.yaml, line 1: there is neither `command` nor `tasks`: expected one of them.",
    "command: [x]\ntasks: {}\n": (
        "job.yaml, line 1: command: expected `command` or `tasks`, not both."
    ),
    "command: [x]\npriority: 101\n": "job.yaml, line 2: priority: expected a whole number <= 100.",
    "": ("job.yaml: expected the fields of a job, such as `command: [echo, hi]` or `tasks:`."),
    "a: &a [*a]\n": "this is more than 20 levels deep.",
    "? [a]\n: b\n": "job.yaml, line 1: a name can't be a list or a mapping.",
    "tasks: [\n": "job.yaml, line 2: this is no YAML: ",
    "\ttasks: a\n": "job.yaml, line 1: this is no YAML: ",
    "command: ['\x07']\n": "job.yaml: this is no YAML: ",
}


@pytest.mark.parametrize("text", WRONG, ids=repr)
def test_what_is_wrong_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError) as raised:
        read(tmp_path, text)
    said = str(raised.value).replace(f"{tmp_path}/", "")
    assert WRONG[text] in said
    assert said.endswith((".", "?"))
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    {
        '{"command": ["x"],\n "command": ["y"]}': "'command' stands there twice",
        '{"command": ["x"],\n "timeout_s": }': "job.json, line 2, column 15: this is no JSON",
        '{"command": ["x"], "timeout_s": "2h"}': "job.json: timeout_s: expected a number, got text",
    }.items(),
)
def test_json_is_held_to_the_same(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError) as raised:
        read(tmp_path, text, "job.json")
    assert said in str(raised.value)


def test_a_file_that_can_t_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").mkdir()
    with pytest.raises(click.UsageError, match="can't be read: Is a directory"):
        jobfile.read(tmp_path / "job.yaml")


def test_the_scheduler_s_word_about_a_field_finds_its_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("tasks:\n  a:\n    command: [x]\n    needs: [b]\n")
    locate = jobfile.read(file)[1].of_field
    assert locate("tasks.a.needs") == f"{file}, line 4"
    assert locate("tasks.a.tags[0]") == f"{file}, line 2"  # where its task begins
    assert locate("queue") == f"{file}, line 1"
