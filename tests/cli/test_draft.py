"""What a command line means: the body of a submit, or a sentence that says what is missing."""

from pathlib import Path
from typing import Any

import click
import pytest

from dtask.cli import draft, script
from dtask.cli.asking import ARRAY, OPTIONS, STDIN, Asked
from dtask.core.jobs import names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*options: str) -> Asked:
    """The options as click reads them."""
    command = click.Command("submit", params=[*OPTIONS, STDIN, *ARRAY])
    values: Any = command.make_context("submit", list(options)).params
    return values


def job(*words: str, options: tuple[str, ...] = (), name: str = "submit") -> dict[str, Any]:
    """The body of `dtask submit OPTIONS -- WORDS`."""
    return draft.of_words(name, list(words), 0, asked(*options)).body


def task(*options: str) -> dict[str, Any]:
    """The task of `dtask submit OPTIONS -- true`."""
    found: dict[str, Any] = job("true", options=options)["tasks"]["main"]
    return found


def refused(*words: str, dashes: int | None = None, options: tuple[str, ...] = ()) -> str:
    with pytest.raises(click.UsageError) as raised:
        draft.of_words("submit", list(words), dashes, asked(*options))
    return str(raised.value)


def test_a_command_runs_here_under_its_own_name(here: Path) -> None:
    assert job("make", "all") == {
        "name": "make all",
        "tasks": {"main": {"command": ["make", "all"], "cwd": str(here)}},
    }


def test_a_long_command_is_a_name_on_one_line() -> None:
    name = job("sh", "-c", "echo\n" + "x" * 100)["name"]
    assert name.startswith("sh -c echo xxx")
    assert len(name) == names.COMMAND_CHARS
    assert name.endswith("…")


def test_options_of_a_task_are_its_fields(here: Path) -> None:
    assert task(
        *("--tags", "gpu|tpu,cuda>=12", "--tags", "!spot", "--timeout", "2h", "--grace", "0"),
        *("--max-queue", "5m", "--crash-limit", "2", "--cpus", "1.5", "--memory", "2G"),
        *("--retries", "3", "--backoff", "2s", "--on-exit", "75,-9", "--env", "A=b=c"),
    ) == {
        "command": ["true"],
        "cwd": str(here),
        "tags": ["gpu|tpu", "cuda>=12", "!spot"],
        "timeout_s": 7200,
        "grace_s": 0,
        "max_queue_s": 300,
        "crash_limit": 2,
        "cpus": 1.5,
        "memory_mb": 2048,
        "retry": {"max": 3, "backoff_s": 2, "on_exit": [75, -9]},
        "env": {"A": "b=c"},
    }


def test_options_of_a_job_are_its_fields() -> None:
    options = (
        "--name",
        "n",
        "--queue",
        "q",
        "--priority",
        "-3",
        "--after",
        "41,42",
        "--after",
        "7",
    )
    body = job("true", options=(*options, "--when", "all_done", "--at", "2030-01-01T00:00Z"))
    del body["tasks"]
    assert body == {
        "name": "n",
        "queue": "q",
        "priority": -3,
        "after": [41, 42, 7],
        "when": "all_done",
        "not_before": 1_893_456_000,
    }


def test_a_variable_without_a_value_has_that_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SETTING", "as here")
    assert task("--env", "SOME_SETTING")["env"] == {"SOME_SETTING": "as here"}
    monkeypatch.delenv("SOME_SETTING")
    with pytest.raises(click.UsageError, match="SOME_SETTING is not set here"):
        task("--env", "SOME_SETTING")


def test_files_are_named_by_where_they_are_unless_that_is_outside(here: Path) -> None:
    (here / "data").mkdir()
    for name in ("data/in.csv", "a=b"):
        (here / name).write_text("")
    sent = task("--file", "data/in.csv", "--file", f"{here}/data/in.csv", "--file", "a=b")
    assert sent["files"] == {
        "data/in.csv": "data/in.csv",
        "in.csv": f"{here}/data/in.csv",
        "a=b": "a=b",
    }
    assert "cwd" not in sent  # they are in a directory of its own
    assert task("--file", "data/in.csv=x/y")["files"] == {"x/y": "data/in.csv"}


def test_where_it_runs_can_be_said(here: Path) -> None:
    (here / "f").write_text("")
    assert "cwd" not in task("--scratch")
    assert task("--cwd", "/data")["cwd"] == "/data"
    assert task("--cwd", "sub", "--file", "f")["cwd"] == f"{here}/sub"


def test_a_directory_that_is_gone_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    gone = "The directory that you are in is gone: cd elsewhere, or name one with --cwd"
    assert refused("true", dashes=0).startswith(gone)
    assert refused("true", dashes=0, options=("--cwd", "sub")).startswith(gone)
    assert task("--cwd", "/data")["cwd"] == "/data"
    assert "cwd" not in task("--scratch")


def test_an_array_is_a_count_or_the_lines_of_a_file(here: Path) -> None:
    (here / "names").write_text("a b\n\n  c\n")
    assert task("--array", "16")["array"] == 16
    assert task("--items", "names")["array"] == ["a b", "", "  c"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--env", "=x"), "--env: '=x' has no name: expected NAME=VALUE."),
        (("--on-exit", "75"), "are about retries: add --retries N."),
        (("--retries", "1", "--on-exit", "x"), "--on-exit: 'x' is no exit code"),
        (("--after", "x"), "--after: 'x' names no job: expected a number such as 41."),
        (("--when", "all_done"), "--when is about jobs of --after: name them."),
        (("--in", "5m", "--at", "18:00"), "--at and --in exclude each other."),
        (("--cwd", "/", "--scratch"), "--cwd and --scratch exclude each other."),
        (("--array", "2", "--items", "empty"), "--array and --items exclude each other."),
        (("--items", "gone"), "--items: gone can't be read: No such file or directory."),
        (("--items", "empty"), "--items: there are no items."),
        (("--items", "latin"), "--items: item 2 is not UTF-8 text"),
        (("--file", "gone"), "--file: gone can't be read: No such file or directory."),
        (("--file", "."), "--file: . is a directory: expected a file."),
        (("--stdin", "gone"), "--stdin: gone can't be read"),
        (("--tags", "a b"), "--tags: 'a b' in 'a b' is not a tag"),
    ],
)
def test_an_option_that_makes_no_sense_is_said(
    options: tuple[str, ...], said: str, here: Path
) -> None:
    (here / "empty").write_text("")
    (here / "latin").write_bytes(b"a\n\xff\n")
    assert said in refused("true", dashes=0, options=options)


@pytest.mark.parametrize("text", ["0", "x", "5X", "-1", "0.1"])
def test_a_size_that_is_none_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size: expected one such as 512M or 4G"):
        asked("--memory", text)


# Words


def test_what_is_no_command_and_no_file_is_told_how_to_be_one(here: Path) -> None:
    (here / "notes.txt").write_text("notes\n")
    assert refused().startswith("There is nothing to run: expected `--` before a command")
    assert "expected `--` before a command, as in `dtask submit -- make`" in refused("make")
    assert "as in `dtask submit -- make all`" in refused("make", "all")
    assert "`dtask submit notes.txt -- x` for a script" in refused("notes.txt", "x")
    assert "dtask submit -- ./notes.txt" in refused("notes.txt")


def test_what_is_there_and_no_file_is_said(here: Path) -> None:
    (here / "sub").mkdir()
    assert refused("sub").startswith("sub is a directory: expected a job file or a script")
    assert refused("/dev/zero").startswith("/dev/zero is no plain file: expected a job file")
    gone = "There is no file 'gone.yaml': expected a job in a file that is there."
    assert refused("gone.yaml") == gone


def test_a_job_file_takes_options_of_jobs_alone(here: Path) -> None:
    (here / "job.yaml").write_text("command: [x]\nqueue: a\n")
    found = draft.of_words("submit", ["job.yaml"], None, asked("--queue", "b", "--key", "k"))
    assert (found.body["queue"], found.body["key"], found.body["name"]) == ("b", "k", "job")
    assert "--timeout is about one task" in refused("job.yaml", options=("--timeout", "1"))
    assert "--memory is about one task" in refused("job.yaml", options=("--memory", "1G"))
    assert "there is nothing to give 'x' to" in refused("job.yaml", "x", dashes=1)
    with pytest.raises(click.UsageError, match=r"expected `dtask submit --wait job\.yaml`"):
        draft.of_words("run", ["job.yaml"], None, asked())


HEAD = """#!/usr/bin/env -S python3 -u
#DTASK --tags gpu,cuda>=12 --timeout 2h

# What follows is still the head.
#DTASK --retries 3 --env 'A=b c' --env B=1 --in 5m
print()
#DTASK --never seen
"""


def test_the_head_of_a_script_holds_options(here: Path) -> None:
    (here / "train.py").write_text(HEAD)
    found = draft.of_words("submit", ["train.py"], None, asked()).body
    assert found["name"] == "train.py"
    sent = found["tasks"]["main"]
    assert sent["command"] == ["/usr/bin/env", "-S python3 -u", "./train.py"]
    assert sent["files"] == {"train.py": "train.py"}
    assert sent["tags"] == ["gpu", "cuda>=12"]
    assert (sent["timeout_s"], sent["retry"]) == (7200, {"max": 3})
    assert sent["env"] == {"A": "b c", "B": "1"}
    assert "cwd" not in sent


def test_options_on_the_command_line_win(here: Path) -> None:
    (here / "train.py").write_text(HEAD)
    options = asked("--tags", "cpu", "--env", "B=2", "--at", "2030-01-01T00:00Z", "--cwd", "sub")
    found = draft.of_words("submit", ["train.py", "--epochs", "3"], 1, options).body
    sent = found["tasks"]["main"]
    assert sent["tags"] == ["cpu"]
    assert sent["env"] == {"A": "b c", "B": "2"}
    assert found["not_before"] == 1_893_456_000  # and not in five minutes
    assert sent["timeout_s"] == 7200
    # In a directory that was named, the script is not copied: it is run where it lies.
    assert "files" not in sent
    assert sent["command"][2:] == [f"{here}/train.py", "--epochs", "3"]


def test_a_script_without_an_interpreter_is_one_of_sh(here: Path) -> None:
    (here / "job").write_text("#DTASK --name n\necho\n")
    found = draft.of_words("submit", ["job", "x"], 1, asked()).body
    assert found["name"] == "n"
    assert found["tasks"]["main"]["command"] == ["sh", "./job", "x"]


@pytest.mark.parametrize(
    ("line", "said"),
    {
        "--nope 3": "No such option",
        "--timeout 3x": "'3x' is no duration",
        "--env 'x": "No closing quotation",
        "gpu": "unexpected extra argument (gpu)",
        "--tags": "requires an argument",
    }.items(),
)
def test_a_wrong_line_of_a_head_is_named(line: str, said: str, here: Path) -> None:
    (here / "s.sh").write_text(f"#!/bin/sh\n\n#DTASK {line}\n")
    with pytest.raises(click.UsageError) as raised:
        script.asked(Path("s.sh"))
    assert str(raised.value).startswith("s.sh, line 3: ")
    assert said in str(raised.value)
