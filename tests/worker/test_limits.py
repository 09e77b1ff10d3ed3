import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtask.worker.cgroup import Group, own_path
from dtask.worker.limits import Bounds, Limits

#: Run in a group of its own: where groups for a controller of version 2 can be made.
FIND = """
import sys
from pathlib import Path
from dtask.worker import limits
Path(sys.argv[1], "cgroup.procs").write_text("0")
parent = limits._parent(Path("/"), sys.argv[2], "dtask-found")
print(parent.path)
parent.remove()
"""

#: The same where no other group than its own can be had; its child goes along.
STEP_ASIDE = """
import subprocess, sys
from pathlib import Path
from dtask.worker import limits
limits._STOREYS = 1
Path(sys.argv[1], "cgroup.procs").write_text("0")
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
parent = limits._parent(Path("/"), sys.argv[2], "dtask-found")
own = Path("/proc/self/cgroup").read_text().splitlines()
beside = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
(mine,) = [line for line in own if line.startswith("0::")]
print(parent.path, mine.rpartition("/")[2], mine in beside)
parent.remove()
"""


@pytest.fixture
def unified() -> Iterator[tuple[Path, str]]:
    """A group of version 2 with a controller, and the controller's name."""
    own = own_path()
    names = Path(own, "cgroup.controllers").read_text().split() if own is not None else []
    if own is None or not names:
        pytest.skip("this machine has no controllers of version 2")
    made = Path(own, f"dtask-test-{os.getpid()}")
    handed_down = Path(own, "cgroup.subtree_control")
    before = handed_down.read_text().split()
    try:
        handed_down.write_text(f"+{names[0]}")
        made.mkdir()
    except OSError:
        pytest.skip("this user may make no groups of version 2")
    yield made, names[0]
    Group(str(made)).remove_soon()
    assert not made.exists()
    if names[0] not in before:
        handed_down.write_text(f"-{names[0]}")


def test_of_version_2_a_group_without_processes_is_found_above(unified: tuple[Path, str]) -> None:
    made, controller = unified
    inner = made / "service"
    inner.mkdir()
    command = [sys.executable, "-c", FIND, str(inner), controller]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    assert found.stdout == f"{made}/dtask-found\n"


def test_of_version_2_a_worker_steps_aside_in_a_group_that_is_handed_over_to_it(
    unified: tuple[Path, str],
) -> None:
    made, controller = unified
    done = subprocess.run(
        [sys.executable, "-c", STEP_ASIDE, str(made), controller],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout.split() == [f"{made}/dtask-found", "dtask-worker", "True"]


def test_of_version_2_a_group_with_processes_of_others_is_left_alone(
    unified: tuple[Path, str],
) -> None:
    made, controller = unified
    enter = f"echo 0 >{made}/cgroup.procs && echo in && exec sleep 60"
    with subprocess.Popen(["sh", "-c", enter], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"in\n"
            done = subprocess.run(
                [sys.executable, "-c", STEP_ASIDE, str(made), controller],
                check=False,
                capture_output=True,
                text=True,
                timeout=20,
            )
            assert "Device or resource busy" in done.stderr
            assert list(made.glob("*/")) == []
        finally:
            other.kill()


def test_without_limits_nothing_is_made_and_nothing_wrapped() -> None:
    limits = Limits("dtask-test-none")
    bounds = limits.bounds("m", cpus=None, memory_mb=None)
    assert bounds == Bounds()
    assert bounds.wrapped(("true",)) is None
    assert bounds.broken() is None
    assert not any(Path(path).exists() for path in limits.paths())


def test_words_of_a_command_reach_it_as_they_are() -> None:
    words = ("printf", "%s\\n", "a b", "$HOME", "'\"", "-n", "*")
    wrapped = Bounds(address_bytes=2**40).wrapped(words)
    assert wrapped is not None
    done = subprocess.run(wrapped, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == list(words[2:])
