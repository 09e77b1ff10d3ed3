import os
import subprocess
import sys

from dtask.sim.world import simulate

PROGRAM = "from dtask.cli.main import main; main()"


def run(seed: int, hash_seed: str) -> str:
    """The trace of a run in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "sim", "--seed", str(seed), "--trace"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_seed_is_the_same_run_whatever_the_hash_seed() -> None:
    one, other = run(7, "0"), run(7, "4242")
    assert simulate(7).digest in one.splitlines()[-1]
    assert one == other


def test_another_seed_is_another_run() -> None:
    assert simulate(1).digest != simulate(2).digest


def test_a_seed_is_the_same_run_twice_in_one_process() -> None:
    assert simulate(3) == simulate(3)
