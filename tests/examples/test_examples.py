"""Every example runs against a real scheduler and a real worker."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtask import Client
from servers import PATIENCE_S, beat, clean_environment, scheduler_process
from workers import worker_process

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Fleet:
    """A scheduler with one worker, and the environment that names it."""

    url: str
    token: str
    environment: dict[str, str]

    def run(self, name: str, *arguments: str, **environment: str) -> str:
        """Run an example to its end; return what it wrote."""
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return done.stdout

    def leases(self) -> int:
        with Client(self.url, token=self.token) as client:
            return sum(worker.leases for worker in client.workers())


@pytest.fixture(scope="module", name="fleet")
def a_fleet() -> Iterator[Fleet]:
    with (
        scheduler_process() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url, token=scheduler.token),
    ):
        environment = clean_environment(scheduler.state_home) | {"DTASK_SCHEDULER": scheduler.url}
        with Client(scheduler.url, token=scheduler.token) as client:
            client.release(client.place(timeout=PATIENCE_S))
        yield Fleet(scheduler.url, scheduler.token, environment)


def test_every_example_is_tested_and_told_of_in_the_readme() -> None:
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert programs == [
        "embedded_heartbeat.py",
        "executor.py",
        "sdk_place.py",
        "stdlib_client.py",
    ]
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"[`{name}`]({name})" in readme for name in programs)


def test_the_sdk_places_and_runs(fleet: Fleet) -> None:
    lines = fleet.run("sdk_place.py").splitlines()
    assert lines[0].startswith("report-7 goes to w1 at 127.0.0.1:")
    assert lines[1] == "tile-0 goes to w1"
    assert lines[2].startswith("no place: ")
    assert lines[3].startswith("w1 wrote 'hello from process ")
    assert fleet.leases() == 0


def test_functions_run_on_the_fleet(fleet: Fleet) -> None:
    lines = fleet.run("executor.py").splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        f"after {count} calls" for count in range(1, 9)
    ]
    assert lines[-1] == "pi is about 3.141"


def test_an_error_is_one_sentence(fleet: Fleet) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sdk_place.py"],
        env=fleet.environment | {"DTASK_SCHEDULER": "localhost"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dtask: DTASK_SCHEDULER: 'localhost' is not the address of")
    assert done.stderr.count("\n") == 1


def test_the_standard_library_is_enough_to_run_a_command(fleet: Fleet) -> None:
    assert fleet.run("stdlib_client.py", "echo", "hello") == "hello\n"
    assert fleet.leases() == 0


def test_the_standard_library_brings_commands_to_trusted_workers_only(fleet: Fleet) -> None:
    stranger = beat(fleet.url, "stranger", address="127.0.0.1:9", max_tasks=1000)
    assert stranger.status_code == 200
    assert fleet.run("stdlib_client.py", "echo", "hello") == "hello\n"
    assert fleet.run("stdlib_client.py", "echo", "hello") == "hello\n"
    assert beat(fleet.url, "stranger", address="127.0.0.1:9", leaving=True).status_code == 200


def test_the_standard_library_is_enough_to_place_without_the_token(
    fleet: Fleet, tmp_path: Path
) -> None:
    found = fleet.run("stdlib_client.py", "echo", "hello", XDG_STATE_HOME=str(tmp_path))
    assert " goes to w1 at 127.0.0.1:" in found
    assert fleet.leases() == 0


def test_a_service_of_ones_own_is_a_worker(fleet: Fleet) -> None:
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "embedded_heartbeat.py"],
        env=fleet.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        worker_id, _, address = process.stdout.readline().strip().partition(" listens on ")
        with Client(fleet.url, token=fleet.token) as client:
            assert [worker.worker_id for worker in client.workers(tag="upper")] == [worker_id]
            placement = client.place(required_tags=["upper"])
            assert placement.address == address
            host, port = address.split(":")
            with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
                line = f"{placement.task_id} {placement.fence} dtask\n"
                connection.sendall(line.encode())
                assert connection.makefile().read() == "DTASK\n"
            # It said that the task ended, so both slots are free again without a release.
            places = [client.place(required_tags=["upper"], timeout=PATIENCE_S) for _ in range(2)]
            assert {place.worker_id for place in places} == {worker_id}
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()
