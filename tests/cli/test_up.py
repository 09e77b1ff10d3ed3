"""`dtask up` and the demo: real processes, started and stopped."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from dtask import Client
from servers import PATIENCE_S, clean_environment
from terminal import Shell, interrupt
from worker.processes import duration, eventually, sleepers


@dataclass(frozen=True, kw_only=True)
class Up:
    """A `dtask up` that has said it is ready."""

    process: subprocess.Popen[str]
    url: str
    children: list[psutil.Process]

    def child(self, name: str) -> psutil.Process:
        """The worker of that name."""
        return next(each for each in self.children if name in each.cmdline())

    def gone(self) -> bool:
        """Whether no process that was started is left."""
        return not psutil.wait_procs(self.children, timeout=PATIENCE_S)[1]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(env=clean_environment(tmp_path))


@contextmanager
def up(shell: Shell, *arguments: str) -> Iterator[Up]:
    """`dtask up --port 0 ARGUMENTS`, ready."""
    with shell.start("up", "--port", "0", *arguments) as process:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            if line.startswith("Ready: a scheduler at "):
                url = line.split()[4]
            if line.startswith("Ctrl-C"):
                break
        assert url, process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        yield Up(process=process, url=url, children=children)


def test_up_starts_a_fleet_and_ctrl_c_stops_all_of_it(shell: Shell) -> None:
    with up(shell, "--workers", "3", "--tags", "gpu,zone=here", "--max-tasks", "2") as running:
        rows = shell.run("workers", "--scheduler", running.url, "--json").json
        assert [row["worker_id"] for row in rows] == ["worker-1", "worker-2", "worker-3"]
        assert {row["max_tasks"] for row in rows} == {2}
        assert all(row["trusted"] and row["resource_tags"] == ["gpu", "zone=here"] for row in rows)
        ran = interrupt(running.process)
        assert (ran.code, ran.err) == (0, "")
        assert running.gone()
    told = [line.split("|")[-1].strip() for line in ran.out.splitlines()]
    assert sum("worker left" in line for line in told) == 3
    assert told[-1] == "scheduler stopped"


def test_a_second_ctrl_c_does_not_wait_for_tasks(shell: Shell) -> None:
    seconds = duration()
    with up(shell, "--workers", "1") as running, ThreadPoolExecutor() as threads:
        token = (Path(shell.env["XDG_STATE_HOME"]) / "dtask" / "token").read_text().strip()
        with Client(running.url, token=token) as client:
            outcome = threads.submit(client.run_on, ["sleep", seconds])
            eventually(lambda: bool(sleepers(seconds)))
            running.process.send_signal(signal.SIGINT)
            assert running.process.stdout is not None
            for line in running.process.stdout:
                if "worker draining" in line:
                    break
            ran = interrupt(running.process)
            assert outcome.result(PATIENCE_S).cause == "stopped"
        assert ran.code == 0
        assert running.gone()
    assert not sleepers(seconds)


def test_a_child_that_dies_stops_all(shell: Shell) -> None:
    with up(shell) as running:
        running.child("worker-2").kill()
        _, err = running.process.communicate(timeout=PATIENCE_S)
        assert running.process.returncode == 1
        assert err == "Error: worker-2 has ended by itself (exit code -9): stopping all.\n"
        assert running.gone()


def test_children_do_not_outlive_a_parent_that_is_killed(shell: Shell) -> None:
    with up(shell) as running:
        running.process.kill()
        running.process.communicate()
        assert running.gone()


def test_a_port_in_use_is_one_sentence(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = shell.run("up", "--port", str(port))
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: scheduler can't start: ")
    assert f":{port} (Address already in use)" in line


def test_the_demo_runs_tasks_and_a_job_and_leaves_its_picture_alone(tmp_path: Path) -> None:
    """Kept up until Ctrl-C; without that, as the README has it."""
    with subprocess.Popen(
        [sys.executable, "-m", "dtask.cli.demo", "--size", "64", "--keep"],
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if " why " in line:
                break
        address = printed.rpartition("/dashboard/#code=")[0].rpartition("\n")[2]
        assert httpx.get(f"{address}/dashboard/").status_code == 200
        ended = interrupt(process)
    assert (ended.code, ended.err) == (0, "")
    assert "32 tasks on 16 slots in " in printed
    assert "mandelbrot.png: 64 x 64 pixels" in printed
    assert ended.out.endswith("All stopped; nothing is left running.\n")
    # Its state was elsewhere, and is gone.
    assert [path.name for path in tmp_path.iterdir()] == ["mandelbrot.png"]
