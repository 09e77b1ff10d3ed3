import re
from pathlib import Path

import pytest

from dtask.sim.world import simulate
from sim.seeds import failures, told

SEEDS = 200

REGRESSIONS = [
    int(found[1])
    for found in re.finditer(
        r"^(\d+)", (Path(__file__).parent / "regressions.txt").read_text(), re.MULTILINE
    )
]


def test_every_seed_holds() -> None:
    assert failures(simulate, range(SEEDS)) == ""


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.failure is None, told(outcome)


def test_runs_meet_what_they_are_to_meet() -> None:
    """Runs in which nothing happens would hold, too."""
    missing = {
        " -> held",
        " -> superseded",
        " -> untrusted",
        " -> no worker",
        " -> no_lease",
        "warming up",
        " suspect",
        " offline",
        " back",
        " left",
        " renewed",
        " forgotten",
        " is cut off",
        " thaws",
        "scheduler is killed",
        "scheduler runs again",
        "clock is stepped",
        ": slots_full",
        ": stale_fence",
        ": draining",
    }

    def listen(line: str) -> None:
        missing.difference_update([thing for thing in missing if thing in line])

    seed = 0
    while missing and seed < SEEDS:
        simulate(seed, listen=listen)
        seed += 1
    assert not missing
