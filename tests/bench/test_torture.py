"""The account of a torture: it must be able to say that something was lost."""

import pytest

from dtask.bench.torture import Run, Task, account

ONE, TWO = Task(1, -1), Task(2, 0)
FIRST, AGAIN, OTHER = Run(ONE, 1), Run(ONE, 2), Run(TWO, 1)
DONE = ("succeeded", None)
LOST = ("cancelled", "lost")


def test_what_runs_and_succeeds_is_counted_and_so_is_what_runs_again() -> None:
    lines = ["1 -1 1 begins", "2 0 1 begins", "2 0 1 ends", "1 -1 2 begins", "1 -1 2 ends"]
    attempts = {FIRST: LOST, AGAIN: DONE, OTHER: DONE}
    assert account("workers", lines, attempts, [ONE, TWO]) == (2, 1)


@pytest.mark.parametrize(
    ("lines", "attempts"),
    [
        (["1 -1 1 begins"], {FIRST: DONE}),
        (["1 -1 1 begins"], {FIRST: DONE, OTHER: DONE}),
        (["1 -1 1 begins", "2 0 1 begins"], {FIRST: DONE, OTHER: ("failed", "exit")}),
        (["1 -1 1 begins", "2 0 1 begins"], {FIRST: DONE, OTHER: DONE, Run(TWO, 2): DONE}),
    ],
    ids=["gone", "not run", "failed", "two results"],
)
def test_an_acknowledged_task_that_did_not_succeed_once_counts_as_lost(
    lines: list[str], attempts: dict[Run, tuple[str, str | None]]
) -> None:
    assert account("workers", lines, attempts, [ONE, TWO]).succeeded == 1


@pytest.mark.parametrize(
    ("lines", "attempts", "found"),
    [
        (["1 -1 1 begins"], {}, "no attempt that the store knows"),
        (["1 -1 1 begins", "1 -1 1 begins"], {FIRST: DONE}, "began twice"),
        (
            ["1 -1 1 begins", "1 -1 2 begins", "1 -1 1 ends"],
            {FIRST: LOST, AGAIN: DONE},
            "still ran",
        ),
        (["1 -1 1 begins", "1 -1 2 begins"], {FIRST: ("failed", "exit"), AGAIN: DONE}, "exit"),
        (["2 0 1 begins"], {OTHER: DONE}, "nobody was told"),
    ],
)
def test_a_run_that_nothing_explains_is_told(
    lines: list[str], attempts: dict[Run, tuple[str, str | None]], found: str
) -> None:
    with pytest.raises(AssertionError, match=found):
        account("workers", lines, attempts, [ONE])
