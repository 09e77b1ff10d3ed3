"""How lines of a log look, and that whoever writes them never waits."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dtask.log_lines import BATCH_MAX, LINES_MAX, LogFormat, logging_to, record_of

LOGGER = logging.getLogger("dtask.test")


def say(sentence: str, **facts: Any) -> None:
    LOGGER.handle(record_of(LOGGER.name, logging.INFO, sentence, facts))


@contextmanager
def written(path: Path, log_format: LogFormat) -> Iterator[list[str]]:
    """Lines that were written within, to be read afterwards."""
    lines: list[str] = []
    with path.open("w") as file, logging_to(file, log_format):
        yield lines
    lines += path.read_text().splitlines()


def test_a_line_of_text_has_its_moment_its_level_its_sentence_and_its_facts(tmp_path: Path) -> None:
    with written(tmp_path / "log", "text") as lines:
        say("job ended", job_id=42, state="failed")
    (line,) = lines
    moment, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert rest == "INFO job ended job_id=42 state=failed"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("127.0.0.1:8081", "127.0.0.1:8081"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("größer", "größer"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("a\nERROR all is lost", r'"a\nERROR all is lost"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("\u2028", r'"\u2028"'),
        ("\udc80", r'"\udc80"'),
    ],
)
def test_what_a_user_chose_never_looks_like_a_line_or_a_fact_of_ours(
    tmp_path: Path, value: str, shown: str
) -> None:
    with written(tmp_path / "log", "text") as lines:
        say("said", name=value, last=1)
    assert [line.partition(" INFO ")[2] for line in lines] == [f"said name={shown} last=1"]


def test_a_line_of_json_has_the_facts_beside_the_rest(tmp_path: Path) -> None:
    with written(tmp_path / "log", "json") as lines:
        say("job ended", job_id=42, name="a\nb")
    (line,) = map(json.loads, lines)
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.\d{3}Z", line.pop("time"))
    assert line == {"level": "info", "message": "job ended", "job_id": 42, "name": "a\nb"}


def test_no_fact_is_too_strange_for_json(tmp_path: Path) -> None:
    with written(tmp_path / "log", "json") as lines:
        say("said", path="\udc80", number=2**80, at=Path("/tmp"))
        say("said", last=True)
    first, last = map(json.loads, lines)
    assert (first["path"], first["number"], first["at"]) == ("\udc80", 2**80, "/tmp")
    assert last["last"]


def test_many_lines_come_in_their_order(tmp_path: Path) -> None:
    count = 3 * BATCH_MAX + 1
    with written(tmp_path / "log", "json") as lines:
        for number in range(count):
            say("said", number=number)
    assert [json.loads(line)["number"] for line in lines] == list(range(count))


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    said = 3 * LINES_MAX
    with (
        os.fdopen(writer, "w") as stream,
        os.fdopen(reader) as pipe,
        logging_to(stream, "json"),
    ):
        for number in range(said):
            say("said", number=number)
        told = [json.loads(pipe.readline())]
        while "lines" not in told[-1]:
            told.append(json.loads(pipe.readline()))
    assert told[-1]["level"] == "warning"
    # The last ones may still wait: what was written before the count, what it says, and those.
    assert len(told) - 1 + told[-1]["lines"] <= said
    assert told[-1]["lines"] >= LINES_MAX
