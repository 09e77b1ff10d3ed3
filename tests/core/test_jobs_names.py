"""Names of jobs, tasks, elements and attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.core.jobs.names import TASK_NAME_PATTERN, Name, attempt_text, check_task_name, parse
from dtask.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("42", Name(42)),
        ("42/train", Name(42, "train")),
        ("42/tile[7]", Name(42, "tile", 7)),
        ("42/train#2", Name(42, "train", None, 2)),
        ("42/tile[7]#2", Name(42, "tile", 7, 2)),
        ("1/a.b-c_d", Name(1, "a.b-c_d")),
    ],
)
def test_a_name_is_read_and_written_the_same(text: str, name: Name) -> None:
    assert parse(text) == name
    assert str(name) == text


@given(
    st.builds(
        Name,
        st.integers(0, 10**15 - 1),
        st.from_regex(TASK_NAME_PATTERN, fullmatch=True),
        st.none() | st.integers(0, 10**9 - 1),
        st.none() | st.integers(0, 10**9 - 1),
    )
)
def test_every_name_that_is_written_can_be_read(name: Name) -> None:
    assert parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "42/",
        "42/a b",
        "42[1]",
        "42#1",
        "42/a[x]",
        "42/a[-1]",
        "42/a#",
        "42/a]",
        "٤٢",
    ],
)
def test_what_is_no_name_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expected a number such as 42, or 42/train"):
        parse(text)


def test_an_attempt_is_written_after_what_it_is_of() -> None:
    assert attempt_text(1, "a", None) == "1/a"
    assert attempt_text(1, "a", 0, 3) == "1/a[0]#3"


@pytest.mark.parametrize("name", ["a", "A9", "_x", "a" * 64, "a.b", "a-b"])
def test_names_of_tasks_are_short_and_plain(name: str) -> None:
    check_task_name(name, "tasks")


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a[0]", "a#1", "a" * 65, "é", "a\n"])
def test_other_names_of_tasks_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no name") as refused:
        check_task_name(name, "tasks")
    assert refused.value.facts["field"] == "tasks"
