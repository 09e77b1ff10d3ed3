"""Every example runs against a real scheduler and a real worker."""

import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtask import Client
from servers import PATIENCE_S, beat, clean_environment, scheduler_process
from terminal import Shell
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


def test_the_graph_needs_its_retry_and_ends_with_the_report(fleet: Fleet) -> None:
    ran = Shell(env=fleet.environment).run("submit", "--wait", str(EXAMPLES / "etl.yaml"))
    assert ran.code == 0, ran.err
    job_id = int(ran.out)
    with Client(fleet.url, token=fleet.token) as client:
        attempts = client.attempts(f"{job_id}/rates")
        assert [one.exit_code for one in attempts] == [0, 75]
        report = b"".join(client.logs(f"{job_id}/report")).decode()
    assert report == "ada 156.00 EUR\nbob 72.00 EUR\neve 15.00 EUR\n"
    assert not Path(f"/tmp/dtask-etl-{job_id}").exists()


def test_the_tiles_become_one_picture(fleet: Fleet, tmp_path: Path) -> None:
    picture = tmp_path / "mandelbrot.png"
    lines = fleet.run(
        "mandelbrot/render.py", "--size", "60", "--tiles", "7", "--picture", str(picture)
    ).splitlines()
    assert lines[0].startswith("60 x 60 pixels in 7 tiles; 1 workers, ")
    assert lines[1].startswith("one at a time: ")
    assert lines[2].endswith(" times as fast")
    assert lines[3].startswith(f"{picture}: 60 x 60 pixels, ")
    rows = pixels(picture, 60)
    assert rows[30][30] == 0  # inside
    assert rows[0][0] != 0  # outside
    assert rows == rows[::-1]  # the set is symmetric: so all tiles are there, in their order
    assert [path.name for path in tmp_path.iterdir()] == ["mandelbrot.png"]


def pixels(picture: Path, size: int) -> list[bytes]:
    """The rows of a PNG of 256 colours; every checksum in it is right."""
    raw = picture.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    parts: dict[bytes, bytes] = {}
    at = 8
    while at < len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        kind, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", raw, at + 8 + length) == (zlib.crc32(kind + data),)
        parts[kind] = data
        at += 12 + length
    assert list(parts) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", parts[b"IHDR"]) == (size, size, 8, 3, 0, 0, 0)
    data = zlib.decompress(parts[b"IDAT"])
    rows = [data[start : start + size + 1] for start in range(0, len(data), size + 1)]
    assert len(rows) == size
    assert {row[0] for row in rows} == {0}
    return [row[1:] for row in rows]


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
