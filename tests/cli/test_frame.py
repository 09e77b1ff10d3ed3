"""What `dtask top` draws: all that matters, in any window, and nothing that acts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.pictures import NOW, job, picture, queue, warning, worker
from dtask.cli import strip
from dtask.cli.board import Board, Panel
from dtask.cli.frame import Frame, shares
from dtask.client.picture import Picture

SIZES = [(80, 24), (200, 60), (120, 30), (40, 12), (20, 5), (1, 1), (500, 100)]


def drawn(shown: Picture | Board, width: int = 80, height: int = 24, **more: Any) -> list[str]:
    board = shown if isinstance(shown, Board) else Board("http://s", shown)
    frame = Frame(board, **{"now": NOW, "clock": "12:34:56", "glyphs": strip.UNICODE} | more)
    lines = frame.screen(width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


def a_fleet(count: int) -> Picture:
    queues = [queue(f"queue-{i}", queued=i) for i in range(min(count, 30))]
    return picture([worker(f"worker-{i:05}", tasks=i % 5) for i in range(count)], queues=queues)


@pytest.mark.parametrize("count", [0, 5, 5_000])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_any_window(count: int, size: tuple[int, int]) -> None:
    board = Board("http://scheduler.example:8080", a_fleet(count))
    board.jobs.fill([job(i, f"job {i}", total=10, ended=i % 10) for i in range(1, count + 1)])
    for key in ("down", "z", "tab", "tab", "z", "/", "x", "end"):
        board.press(key)
        drawn(board, *size)


def test_a_small_window_has_all_that_matters() -> None:
    shown = picture(
        [worker("gpu-1", tasks=3), worker("gpu-2", "suspect"), worker("gpu-3", "offline")],
        tasks={"pending": 1, "queued": 2_345, "scheduled": 3, "running": 4},
        ended={"succeeded": 5, "failed": 6, "cancelled": 0, "skipped": 0},
        queues=[queue("nightly", queued=7, max_running=8, oldest_queued_at=NOW - 90, paused=True)],
        rates={"placements": 12.3, "refusals": 0.5, "heartbeats": 1, "starts": 2.5, "ends": 0},
        placement_p99_ms=0.4321,
        attention=[warning("The store fails.", "serious"), warning("A job fits nowhere.")],
    )
    board = Board("http://s", shown)
    board.jobs.fill([job(42, "render", total=1_000, ended=250, failed=2)])
    text = "\n".join(drawn(board))
    for part in (
        *("1 online", "1 suspect", "1 offline", "3 of 12 taken", "25%", "up 1 h"),
        *("1 pending", "2,345 queued", "3 scheduled", "4 running", "5 succeeded", "6 failed"),
        *("12 placements/s", "p99 0.432 ms", "0.5 refusals/s", "2.5 starts/s", "0 ends/s"),
        *("!! The store fails.", " ! A job fits nowhere."),
        *("gpu-1", "3/4  online", "suspect 30s", "offline 30s"),
        *("nightly", "0/8", "1 min 30 s  paused"),
        *("42 render", "250/1,000", "1 min"),
        *("WORKERS 3", "QUEUES 1", "RUNNING JOBS 1", "q quit", "sort: trouble", "12:34:56"),
    ):
        assert part in text, part


def test_more_than_there_is_room_for_is_counted() -> None:
    lines = drawn(a_fleet(5_000))
    assert [line[:24] for line in lines if line.startswith("WORKERS")] == [
        "WORKERS 1-9 of 5,000    "
    ]
    zoomed = Board("http://s", a_fleet(5_000))
    for key in ("z", "pagedown"):
        drawn(zoomed, 200, 60)
        zoomed.press(key)
    (heading,) = [line for line in drawn(zoomed, 200, 60) if line.startswith("WORKERS")]
    assert heading.startswith("WORKERS 157-312 of 5,000 ")  # in three columns
    assert heading.count("STATUS") == 3


def test_warnings_beyond_the_room_are_shown_on_request() -> None:
    board = Board("http://s", picture(attention=[warning(f"Warning {i}.") for i in range(9)]))
    assert "Warning 1.  (7 more: a)" in "\n".join(drawn(board))
    board.press("a")
    assert "Warning 8." in "\n".join(drawn(board))


def test_an_empty_fleet_says_what_to_do_next() -> None:
    text = "\n".join(drawn(picture()))
    assert "Nothing needs attention." in text
    assert "Start one: dtask-worker --scheduler http://" in text
    assert "dtask submit -- COMMAND" in text


def test_a_store_that_fails_is_not_an_empty_one() -> None:
    text = "\n".join(drawn(picture(tasks=None, jobs=None, queues=None)))
    assert text.count("an't be read: the scheduler's store fails") == 3
    assert "dtask submit" not in text


def test_a_picture_that_is_not_live_says_so_first() -> None:
    board = Board("http://s", a_fleet(3))
    board.show(board.picture, at="10:00:00")
    board.show(board.picture.lost("No scheduler answers."), at="10:00:09")
    head, *rest = drawn(board)
    assert head == " NOT CONNECTED, as of 10:00:00, asking again. No scheduler answers."
    assert any("worker-00001" in line for line in rest)


def test_a_filter_that_finds_nothing_says_so() -> None:
    board = Board("http://s", a_fleet(3))
    for key in ("/", *"nobody"):
        board.press(key)
    lines = drawn(board)
    assert "None has 'nobody' in its name. Esc shows all." in lines
    assert lines[-1].startswith("/nobody ")


def test_without_unicode_it_is_drawn_in_ascii() -> None:
    text = "\n".join(drawn(a_fleet(50), 200, 60, glyphs=strip.ASCII))
    assert text.isascii()
    assert "##" in text


@given(
    st.text(max_size=40), st.sampled_from(SIZES[:4]), st.sampled_from(["worker", "job", "warning"])
)
def test_nothing_that_acts_on_a_terminal_gets_through(
    evil: str, size: tuple[int, int], where: str
) -> None:
    text = f"a\x1b[2J\x1b]0;title\x07\x9b31m\r\n{evil}"
    board = Board(
        "http://s",
        picture(
            [worker(text if where == "worker" else "w")],
            queues=[queue(text)],
            attention=[warning(text)],
        ),
    )
    board.jobs.fill([job(1, text if where == "job" else "")])
    for key in ("/", *text):
        board.press(key)
    board.show(board.picture.lost(text))
    shown = "".join(drawn(board, *size))
    assert shown.isprintable()


def test_room_is_shared_by_who_needs_it() -> None:
    assert shares([100, 100, 100], [2, 1, 1], 20) == [10, 5, 5]
    assert shares([3, 100, 2], [2, 1, 1], 20) == [3, 15, 2]
    assert shares([3, 4, 2], [2, 1, 1], 20) == [3, 4, 2]
    assert shares([5, 5, 5], [2, 1, 1], 0) == [0, 0, 0]
    assert shares([], [], 10) == []


def test_printed_out_it_is_as_long_as_it_takes_up_to_a_limit() -> None:
    board = Board("http://s", a_fleet(5_000))
    frame = Frame(board, now=NOW, clock="12:34:56", glyphs=strip.UNICODE)
    lines = [line.plain.rstrip() for line in frame.print_out(100)]
    assert sum(line.startswith("worker-") for line in lines) == 20
    assert "RUNNING JOBS 0" in "\n".join(lines)
    assert list(Panel) == ["workers", "queues", "jobs"]
