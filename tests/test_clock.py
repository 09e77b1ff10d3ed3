import random
import time
from collections.abc import Callable

import pytest

from dtask.clock import ANCHOR_EVERY_S, Clock, ManualClock, SystemClock

WALL = 1_700_000_000.0


class Machine:
    """The two clocks of a machine, in place of the operating system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot_s = 5_000.0
        self.wall_s = WALL
        monkeypatch.setattr(time, "time", lambda: self.wall_s)
        monkeypatch.setattr(time, "clock_gettime", lambda _clock: self.boot_s)

    def run(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_is_the_wall_time_of_the_machine() -> None:
    assert abs(SystemClock().now() - time.time()) < 1


def test_it_goes_on_with_the_machine_and_counts_suspends(machine: Machine) -> None:
    clock = SystemClock()
    assert clock.now() == WALL
    machine.run(3_600)
    assert clock.now() == WALL + 3_600


def test_a_wall_clock_set_forward_is_followed_within_a_minute(machine: Machine) -> None:
    clock = SystemClock()
    machine.wall_s += 100
    machine.run(ANCHOR_EVERY_S - 1)
    assert clock.now() == WALL + ANCHOR_EVERY_S - 1
    machine.run(1)
    assert clock.now() == WALL + 100 + ANCHOR_EVERY_S


def test_a_wall_clock_set_back_is_never_followed(machine: Machine) -> None:
    clock = SystemClock()
    machine.wall_s -= 100
    for _ in range(5):
        machine.run(ANCHOR_EVERY_S)
    assert clock.now() == WALL + 5 * ANCHOR_EVERY_S
    machine.wall_s += 200
    machine.run(ANCHOR_EVERY_S)
    assert clock.now() == machine.wall_s, "it is followed again once it is ahead"


def test_it_never_runs_back_whatever_the_wall_clock_does(
    machine: Machine, rng: Callable[[int], random.Random]
) -> None:
    draw = rng(7)
    clock = SystemClock()
    before = clock.now()
    for _ in range(2_000):
        machine.run(draw.choice([0.0, 1e-6, 0.3, 20.0, 300.0]))
        machine.wall_s += draw.choice([0.0, 0.0, -3_600.0, 3_600.0, -0.0004, 0.0004])
        now = clock.now()
        assert now >= before
        before = now


def test_a_manual_clock_stands_still_until_it_is_told_to_go_on() -> None:
    clock: Clock = ManualClock(WALL)
    assert isinstance(clock, ManualClock)
    assert (clock.now(), clock.now()) == (WALL, WALL)
    assert clock.advance(1.5) == WALL + 1.5 == clock.now()
    with pytest.raises(AssertionError):
        clock.advance(-1)
