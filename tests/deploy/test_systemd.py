"""The units: sound, hardened, and with time enough to end in order."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from deploy.services import DEPLOY, copied
from dtask.worker.agent import DRAIN_S
from dtask.worker.runner import GRACE_S
from programs import program

UNITS = ("dtask-scheduler.service", "dtask-worker.service")

#: What `systemd-analyze security` may find at most, of 100. Tasks may do what a worker may.
EXPOSURE_MAX = {"dtask-scheduler.service": 15, "dtask-worker.service": 50}


def unit(name: str) -> ConfigParser:
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(DEPLOY / "systemd" / name)
    return parsed


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """As they are, but for where the programs are: they must exist."""
    here = {"/opt/dtask/bin": str(Path(sys.executable).parent)}
    return [copied(f"systemd/{name}", tmp_path / name, here) for name in UNITS]


def analyzed(*arguments: str | Path) -> str:
    ended = subprocess.run(
        [program("systemd-analyze"), *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_systemd_finds_nothing_to_object_to(units: list[Path]) -> None:
    assert analyzed("verify", *units) == ""


def test_they_are_as_closed_as_they_can_be(units: list[Path]) -> None:
    for path in units:
        most = EXPOSURE_MAX[path.name]
        analyzed("security", "--offline=true", f"--threshold={most}", path)


@pytest.mark.parametrize("name", UNITS)
def test_the_user_of_a_unit_is_made_with_its_directory(name: str) -> None:
    made = {
        match[1]: match[2]
        for match in re.finditer(
            r'^u (\S+) +- "[^"]*" +(\S+)$',
            (DEPLOY / "systemd" / "dtask.sysusers.conf").read_text(),
            re.MULTILINE,
        )
    }
    service = unit(name)["Service"]
    assert made[service["User"]] == f"/var/lib/{service['StateDirectory']}"


def test_a_worker_has_time_to_end_its_tasks() -> None:
    service = unit("dtask-worker.service")["Service"]
    words = service["ExecStart"].split()
    assert "--grace" not in words
    assert int(service["TimeoutStopSec"]) > DRAIN_S + GRACE_S + 5
    assert (service["KillMode"], service["Delegate"]) == ("mixed", "yes")
    # Else one task that runs out of memory ends the worker, and all of its tasks.
    assert service["OOMPolicy"] == "continue"
