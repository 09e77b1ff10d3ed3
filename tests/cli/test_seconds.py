import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import pytest

from dtask.cli.seconds import Duration, moment, told

DAY_S = 86_400.0


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose clocks change."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    {"90": 90, "90s": 90, "5m": 300, "2h": 7200, "1d": DAY_S, "1h30m": 5400, "0.5s": 0.5}.items(),
)
def test_a_duration_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert Duration(DAY_S).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "5 m", "5x", "-5", "nan", "inf", "1e3", "m", "5m5"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration: expected seconds, or a number"):
        Duration(DAY_S).convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "0m", "2d"])
def test_a_duration_out_of_range_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected more than 0 to 1 d\."):
        Duration(DAY_S).convert(text, None, None)
    assert Duration(DAY_S, zero=True).convert("0", None, None) == 0


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.usefixtures("berlin")
def test_a_time_of_day_is_the_next_one_here() -> None:
    noon = at(2030, 1, 15, 11)  # 12:00 there
    assert moment("18:00", now=noon) == at(2030, 1, 15, 17)
    assert moment("12:00:01", now=noon) == at(2030, 1, 15, 11, 0, 1)
    assert moment("12:00", now=noon) == at(2030, 1, 16, 11)
    assert moment("9:30", now=noon) == at(2030, 1, 16, 8, 30)


@pytest.mark.usefixtures("berlin")
def test_the_next_day_may_have_23_hours() -> None:
    evening = at(2030, 3, 30, 20)  # the clocks go forward in the night
    assert moment("9:00", now=evening) == at(2030, 3, 31, 7)


@pytest.mark.usefixtures("berlin")
def test_a_date_is_of_here_unless_it_has_a_zone() -> None:
    assert moment("2030-07-01", now=0) == at(2030, 6, 30, 22)
    assert moment("2030-07-01T18:00", now=0) == at(2030, 7, 1, 16)
    assert moment("2030-07-01 18:00", now=0) == at(2030, 7, 1, 16)
    assert moment("2030-07-01T18:00Z", now=0) == at(2030, 7, 1, 18)
    assert moment("2030-07-01T18:00+05:00", now=0) == at(2030, 7, 1, 13)


@pytest.mark.parametrize("text", ["", "24:00", "18:60", "18", "tomorrow", "2030-13-01", "18:00Z"])
def test_what_is_no_moment_is_none(text: str) -> None:
    assert moment(text, now=0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    {
        0: "0 s",
        0.02: "20 ms",
        0.0001: "1 ms",
        0.42: "0.4 s",
        9.96: "10 s",
        59: "59 s",
        60: "1 min",
        200: "3 min 20 s",
        7500: "2 h 5 min",
        90_000: "1 d 1 h",
    }.items(),
)
def test_durations_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert told(seconds) == text
