import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from dtask.worker import strays
from dtask.worker.cgroup import Group, make_group
from dtask.worker.executors import process
from dtask.worker.executors.process import Job, NotStarted, ProcessExecutor, Usage, environment
from worker.processes import duration, sleepers, soon


class Bench:
    """An executor, what it told, and an owner who kills what a main process left behind."""

    def __init__(self, directory: Path, group: Group | None = None) -> None:
        self.exits: dict[str, int | None] = {}
        self.gone: dict[str, Usage] = {}
        self.terminated: set[str] = set()
        self.executor = ProcessExecutor(
            group=group, on_exited=self.exited, on_gone=self.gone.__setitem__
        )
        self.directory = directory

    def exited(self, mark: str, exit_code: int | None) -> None:
        self.exits[mark] = exit_code
        if mark not in self.terminated:
            self.executor.kill(mark)

    def terminate(self, mark: str) -> None:
        self.terminated.add(mark)
        self.executor.terminate(mark)

    def launch(self, mark: str, *command: str, env: Mapping[str, str] | None = None) -> int:
        own = environment(os.environ, mark=mark, fence=1, facts={}, extra=env or {})
        with (self.directory / "out").open("ab") as out:
            job = Job(command, own, str(self.directory), out.fileno(), out.fileno())
            return self.executor.launch(mark, job).pid

    def shell(self, mark: str, line: str) -> int:
        return self.launch(mark, "sh", "-c", line)

    async def is_gone(self, *marks: str) -> None:
        await soon(lambda: set(marks) <= set(self.gone))

    @property
    def output(self) -> bytes:
        return (self.directory / "out").read_bytes()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.fixture(params=["with", "without"])
def group(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every way of ending a tree is tried with a control group and without."""
    monkeypatch.setattr(process, "GROUP_AFTER_S", 0.0)
    made = make_group(f"dtask-test-{os.getpid()}") if request.param == "with" else None
    if request.param == "with" and made is None:
        pytest.skip("this machine gives us no control groups")
    yield made
    if made is not None:
        made.kill()
        made.remove_soon()
        assert not Path(made.path).exists()


def test_a_process_runs_in_its_directory_and_tells_its_exit_code(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.shell("a", "pwd; cat; exit 3")
        await bench.is_gone("a")
        assert bench.exits == {"a": 3}
        assert bench.output == f"{tmp_path}\n".encode()

    run(main)


def test_a_signal_is_told_as_a_negative_code(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.shell("a", "kill -9 $$")
        await bench.is_gone("a")
        assert bench.exits == {"a": -signal.SIGKILL}

    run(main)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["no-such-program"], "'no-such-program' is not on this worker's PATH"),
        (["/no/such/program"], "'/no/such/program' is not on this worker"),
        (["/"], "may not be run by this worker's user"),
        (["./text"], "'./text' can't be started: Exec format error"),
        (["true", "x" * 200_000], "can't be started: Argument list too long"),
    ],
)
def test_what_cannot_be_started_says_why(command: list[str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o700)

    async def main() -> None:
        bench = Bench(tmp_path)
        before = strays.children(os.getpid())
        with pytest.raises(NotStarted, match=sentence):
            bench.launch("a", *command)
        assert strays.children(os.getpid()) == before

    run(main)


def test_the_environment_is_clean_and_names_the_attempt(tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "HOME": "/h", "DTASK_TOKEN": "secret", "SSH_KEY": "secret"}

    async def main() -> None:
        bench = Bench(tmp_path)
        env = environment(
            own,
            mark="m",
            fence=7,
            facts={"DTASK_TASK": "a/b"},
            extra={"MODE": "fast", "HOME": "/mine"},
        )
        with (tmp_path / "out").open("ab") as out:
            job = Job(("env",), env, str(tmp_path), out.fileno(), out.fileno())
            bench.executor.launch("m", job)
        await bench.is_gone("m")
        seen = dict(line.split("=", 1) for line in bench.output.decode().splitlines())
        assert seen == {
            "PATH": os.environ["PATH"],
            "HOME": "/mine",
            "MODE": "fast",
            "DTASK_ATTEMPT": "m.7",
            "DTASK_FENCE": "7",
            "DTASK_TASK": "a/b",
        }

    run(main)


def test_a_tree_is_killed_whatever_its_processes_did(group: Group | None, tmp_path: Path) -> None:
    """Children, grandchildren, other sessions, lost parents, and one that ignores SIGTERM."""
    seconds = duration()
    line = f"""
        sleep {seconds} &
        sh -c 'sh -c "setsid sleep {seconds}; true" & wait' &
        (setsid sleep {seconds} &)
        sh -c "trap '' TERM; sleep {seconds} & wait; wait" &
        wait
    """

    async def main() -> None:
        bench = Bench(tmp_path, group)
        bench.shell("a", line)
        bench.launch("b", "sleep", other := duration())
        await soon(lambda: len(sleepers(seconds)) == 4)
        bench.executor.tend()
        bench.executor.kill("a")
        await bench.is_gone("a")
        assert sleepers(seconds) == []
        assert bench.exits == {"a": -signal.SIGKILL}
        assert len(sleepers(other)) == 1
        bench.executor.kill("b")
        await bench.is_gone("b")

    run(main)


def test_what_a_task_leaves_behind_is_killed_before_it_counts_as_gone(
    group: Group | None, tmp_path: Path
) -> None:
    seconds = duration()

    async def main() -> None:
        bench = Bench(tmp_path, group)
        bench.launch("b", "sleep", other := duration())
        bench.shell("a", f"(setsid sleep {seconds} &); exit 0")
        await bench.is_gone("a")
        assert sleepers(seconds) == []
        assert bench.exits == {"a": 0}
        assert len(sleepers(other)) == 1
        bench.executor.kill("b")
        await bench.is_gone("b")

    run(main)


@pytest.mark.parametrize("group", ["with"], indirect=True)
def test_the_control_group_finds_a_stray_that_has_cleared_its_environment(
    group: Group, tmp_path: Path
) -> None:
    seconds = duration()
    line = f"while ! test -e go; do sleep 0.01; done; (env -i setsid sleep {seconds} &) ; cat"

    async def main() -> None:
        bench = Bench(tmp_path, group)
        bench.launch("b", "sleep", other := duration())
        pid = bench.shell("a", f"{line} < /dev/zero > /dev/null")
        bench.executor.tend()
        await soon(lambda: pid in group.below("a").pids())
        (tmp_path / "go").touch()
        await soon(lambda: bool(sleepers(seconds)))
        bench.executor.kill("a")
        await bench.is_gone("a")
        assert sleepers(seconds) == []
        assert len(sleepers(other)) == 1
        bench.executor.kill("b")
        await bench.is_gone("b")

    run(main)


def test_a_stray_that_has_cleared_its_environment_ends_with_the_only_attempt(
    tmp_path: Path,
) -> None:
    seconds = duration()

    async def main() -> None:
        bench = Bench(tmp_path)
        bench.shell("a", f"(env -i setsid sleep {seconds} &) ; sleep {seconds}")
        await soon(lambda: len(sleepers(seconds)) == 2)
        bench.executor.kill("a")
        await bench.is_gone("a")
        assert sleepers(seconds) == []

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as bystander:
        run(main)
        assert bystander.poll() is None


def test_sigterm_reaches_the_whole_tree_and_wakes_what_is_stopped(
    group: Group | None, tmp_path: Path
) -> None:
    seconds = duration()

    async def main() -> None:
        bench = Bench(tmp_path, group)
        pid = bench.shell("a", f"sh -c 'kill -STOP $$' & (setsid sleep {seconds} &) ; wait")
        await soon(lambda: bool(sleepers(seconds)) and psutil.STATUS_STOPPED in statuses(pid))
        bench.executor.tend()
        bench.terminate("a")
        await bench.is_gone("a")
        assert sleepers(seconds) == []
        assert bench.exits == {"a": -signal.SIGTERM}

    run(main)


def test_after_sigterm_the_tree_is_gone_only_when_its_last_process_is(
    group: Group | None, tmp_path: Path
) -> None:
    """A shell dies of SIGTERM at once, while its child still saves what it has."""
    child = "trap 'while ! test -e saved; do sleep 0.01; done; exit' TERM; touch ready; "
    child += "while true; do sleep 0.01; done"

    async def main() -> None:
        bench = Bench(tmp_path, group)
        bench.launch("a", "sh", "-c", 'setsid sh -c "$CHILD" & wait', env={"CHILD": child})
        await soon((tmp_path / "ready").exists)
        bench.executor.tend()
        bench.terminate("a")
        await soon(lambda: "a" in bench.exits)
        await asyncio.sleep(0.05)  # time in which it would be called gone
        assert bench.gone == {}
        (tmp_path / "saved").touch()
        await bench.is_gone("a")

    run(main)


def test_orphans_are_reaped_and_exit_codes_of_others_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.executor.tend()  # what other tests left to us
        await soon(lambda: own.pid in zombies())
        before = zombies()
        bench.shell("a", "(setsid true &); sleep 600")
        await soon(lambda: len(zombies()) > len(before))
        bench.executor.tend()
        assert zombies() == before
        bench.executor.kill("a")
        await bench.is_gone("a")

    with subprocess.Popen(["sh", "-c", "exit 5"]) as own:
        run(main)
        assert own.wait(20) == 5


def statuses(pid: int) -> list[str]:
    return [child.status() for child in psutil.Process(pid).children()]


def zombies() -> list[int]:
    seen = map(strays.look, strays.children(os.getpid()))
    return [one.pid for one in seen if one is not None and one.zombie]


def test_exit_codes_survive_a_parent_that_ignored_sigchld(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from worker.test_process import Bench
async def main():
    bench = Bench(Path({str(tmp_path)!r}))
    bench.shell("a", "exit 3")
    await bench.is_gone("a")
    assert bench.exits == {{"a": 3}}, bench.exits
asyncio.run(main())
"""
    ignoring = ["sh", "-c", 'trap "" CHLD; exec "$0" -c "$1"', sys.executable, program]
    subprocess.run(ignoring, check=True, timeout=20)
