import os
import subprocess
import sys

import pytest

from dtask.sim.jobs.world import simulate as simulate_jobs
from dtask.sim.world import simulate

PROGRAM = "from dtask.cli.main import main; main()"


def run(scenario: str, seed: int, hash_seed: str) -> str:
    """The trace of a run in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "sim", "--scenario", scenario, f"--seed={seed}", "--trace"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize("scenario", ["faults", "jobs"])
def test_a_seed_is_the_same_run_whatever_the_hash_seed(scenario: str) -> None:
    one, other = run(scenario, 7, "0"), run(scenario, 7, "4242")
    here = simulate(7) if scenario == "faults" else simulate_jobs(7)
    assert here.digest in one.splitlines()[-1]
    assert one == other


def test_another_seed_is_another_run() -> None:
    assert simulate(1).digest != simulate(2).digest


def test_a_seed_is_the_same_run_twice_in_one_process() -> None:
    assert simulate(3) == simulate(3)
    assert simulate_jobs(3) == simulate_jobs(3)
