"""What keys do to the view of a fleet."""

from dataclasses import replace

import pytest

from cli.pictures import NOW, job, picture, queue, worker
from dtask.cli.board import FILTER_CHARS_MAX, Board, Panel

FLEET = [
    worker("b-idle"),
    worker("a-busy", tasks=3),
    worker("c-full", tasks=4),
    worker("d-draining", tasks=1, draining=True),
    worker("e-suspect", "suspect", 1),
    worker("f-offline", "offline"),
]


def a_board(*keys: str) -> Board:
    queues = [
        queue("idle"),
        queue("busy", running=3, queued=1, oldest_queued_at=NOW - 5),
        queue("long", queued=100, oldest_queued_at=NOW - 60),
    ]
    board = Board("http://s", picture(FLEET, queues=queues))
    board.jobs.fill([job(7, "train"), job(8, "render", failed=2), job(9, "etl")])
    for key in keys:
        assert not board.press(key)
    return board


def names(board: Board) -> str:
    """The first letters of the workers, in order."""
    return "".join(one.worker_id[0] for one in board.workers.rows)


def test_who_needs_a_look_comes_first_unless_another_order_is_wanted() -> None:
    orders = {"": "fedcab", "s": "cadebf", "ss": "bacdef", "sss": "abcdef", "ssss": "fedcab"}
    assert {keys: names(a_board(*keys)) for keys in orders} == orders


def test_queues_and_jobs_have_orders_of_their_own() -> None:
    board = a_board()
    assert [one.name for one in board.queues.rows] == ["long", "busy", "idle"]
    assert [one.job_id for one in board.jobs.rows] == [9, 8, 7]
    board = a_board("tab", "s", "s", "tab", "s", "s")
    assert [one.name for one in board.queues.rows] == ["busy", "idle", "long"]
    assert [one.job_id for one in board.jobs.rows] == [8, 9, 7]
    assert names(board) == "fedcab"


def test_what_is_typed_is_sought_in_names_until_escape() -> None:
    board = a_board("/", *"-DQ")
    assert names(board) == ""
    board.press("backspace")
    assert names(board) == "d"
    board.press("enter")
    assert not board.typing
    board.press("s")
    assert names(board) == "d"
    board.press("escape")
    assert names(board) == "cadebf"
    assert names(a_board("/", *"quit", "escape")) == "fedcab"  # q was a letter
    assert len(a_board("/", *"x" * 1_000).workers.filter) == FILTER_CHARS_MAX


def test_jobs_are_found_by_number_and_name() -> None:
    for sought, found in (("8", [8]), ("RAIN", [7]), ("e", [9, 8])):
        board = a_board("tab", "tab", "/", *sought)
        assert [one.job_id for one in board.jobs.rows] == found


def test_scrolling_stays_within_the_rows() -> None:
    board = a_board()
    seen = {}
    for key in ("down", "pagedown", "j", "up", "home", "end", "pageup", "k", "G", "g"):
        board.workers.fit(2)
        board.press(key)
        seen[key] = board.workers.offset
    assert list(seen.values()) == [1, 3, 4, 3, 0, 4, 2, 1, 4, 0]
    board.press("end")
    assert len(board.workers.fit(100)) == len(FLEET)  # a larger window
    board.press("down")
    assert board.workers.offset == 0


def test_a_fleet_that_shrinks_does_not_leave_an_empty_page() -> None:
    board = a_board("end")
    board.workers.fit(2)
    board.show(picture(FLEET[:1]))
    assert len(board.workers.fit(2)) == 1


def test_tab_goes_around_and_zoom_comes_back() -> None:
    assert [a_board(*["tab"] * count).focus for count in range(4)] == [*Panel, Panel.WORKERS]
    assert a_board("backtab").focus is Panel.JOBS
    assert a_board("z").zoomed
    assert not a_board("enter", "z").zoomed
    board = a_board("z", "/", "x", "enter", "escape")
    assert board.zoomed  # first the filter
    board.press("escape")
    assert not board.zoomed


def test_only_q_ends_it() -> None:
    board = a_board(*"abcdefhijlmnoprtuvwxyQ!", "redraw", "unknown")
    assert board.press("q")


def test_what_is_lost_is_as_it_was_when_it_was_heard_last() -> None:
    board = a_board()
    now = board.picture
    for lost, at in ((False, "10:00"), (True, "10:01"), (True, "10:02"), (False, "10:03")):
        board.show(replace(now, connected=not lost), at=at)
        assert board.heard_at == {"10:01": "10:00", "10:02": "10:00"}.get(at, at)


@pytest.mark.parametrize("tasks", [0, 9])
def test_a_worker_that_offers_nothing_has_a_load(tasks: int) -> None:
    assert worker("w", tasks=tasks, max_tasks=0).load == 1.0
