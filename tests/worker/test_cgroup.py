import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtask.worker.cgroup import Group, make_group


@pytest.fixture
def group() -> Iterator[Group]:
    made = make_group(f"dtask-test-group-{os.getpid()}")
    if made is None:
        pytest.skip("this machine gives us no control groups")
    yield made
    made.kill()
    made.remove_soon()


def test_a_group_ends_all_that_is_in_it_and_below(group: Group) -> None:
    inner = group.below("inner")
    inner.create()
    with subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE) as child:
        inner.add(child.pid)
        assert child.pid in inner.pids()
        assert group.pids() == []
        assert not group.remove()
        group.kill()
        assert child.wait(20) == -9
    group.remove_soon()
    assert not Path(group.path).exists()


def test_a_group_that_is_gone_is_no_error(group: Group) -> None:
    gone = group.below("gone")
    gone.kill()
    assert gone.remove()
    assert gone.pids() == []


def test_a_name_that_is_taken_gives_no_group(group: Group) -> None:
    assert make_group(Path(group.path).name) is None
