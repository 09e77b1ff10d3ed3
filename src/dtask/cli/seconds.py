"""Numbers of seconds, and moments, on a command line."""

import math
import re
import time
from datetime import date, datetime, timedelta
from typing import Final

import click

#: Seconds of each unit of a duration.
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+|[0-9]+(?:\.[0-9]+)?")
_PART: Final = re.compile(r"([0-9.]+)([smhd]?)")
_OF_DAY: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")


class Seconds(click.FloatRange):
    """A range that `nan` is not in, though no comparison of click's keeps it out."""

    name = "seconds"

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Fails with a sentence if it is none, or out of range."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds: expected one such as 30.", param, ctx)
        return number


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks
    """Seconds, written as `90`, `90s`, `5m`, `2h`, `1d` or `1h30m`."""

    name = "duration"

    def __init__(self, most_s: float, *, zero: bool = False) -> None:
        self._most_s = most_s
        self._zero = zero

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds. Fails with a sentence if they are none, or out of range."""
        if isinstance(value, int | float):  # a default
            return value
        if _DURATION.fullmatch(value) is None:
            self.fail(
                f"{value!r} is no duration: expected seconds, or a number with its unit, such as "
                f"90, 90s, 5m, 2h or 1d.",
                param,
                ctx,
            )
        seconds = sum(float(number) * UNITS[unit or "s"] for number, unit in _PART.findall(value))
        if seconds > self._most_s or (not seconds and not self._zero):
            least = "0" if self._zero else "more than 0"
            self.fail(
                f"{value} is out of range: expected {least} to {told(self._most_s)}.", param, ctx
            )
        return seconds


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks
    """Epoch seconds, written as `18:00` (the next one here) or as an ISO date."""

    name = "moment"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The moment. Fails with a sentence if it is none."""
        if isinstance(value, int | float):
            return value
        found = moment(value, now=time.time())
        if found is None:
            self.fail(
                f"{value!r} is no moment: expected a time of day such as 18:00, or a date such as "
                f"2030-01-31, 2030-01-31T18:00 or 2030-01-31T18:00Z.",
                param,
                ctx,
            )
        return found


def moment(text: str, *, now: float) -> float | None:
    """The epoch seconds of a text; None if it is no moment.

    A time of day is the next such of this machine's time zone, after `now`. So is a date without
    a zone of its own; without a time of day it is that day's midnight.
    """
    if of_day := _OF_DAY.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in of_day.groups())
        today = datetime.fromtimestamp(now).replace(  # noqa: DTZ006 (this machine's zone is meant)
            hour=hour, minute=minute, second=second, microsecond=0
        )
        for days in (0, 1):  # by the calendar: a day may have 23 hours
            found = (today + timedelta(days=days)).timestamp()
            if found > now:
                return found
    try:
        if len(text) == len("2030-01-31"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time()).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def told(seconds: float) -> str:
    """A duration as people say it: `20 ms`, `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if 0 < seconds < 0.1:  # noqa: PLR2004 (below, tenths say nothing either)
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 10:  # noqa: PLR2004 (from there on, tenths say nothing)
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    pairs = (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1))
    for unit, size, below, small in pairs:
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"
