"""`dtask-scheduler` as a person meets it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import servers

pytestmark = pytest.mark.e2e


def run(*arguments: str, state_home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, servers.LAUNCHER, *arguments],
        env=servers.clean_environment(state_home) | env,
        capture_output=True,
        text=True,
        timeout=servers.PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--prot", "80"], 2, "--prot"),
        (["--port", "eighty"], 2, "'eighty' is not a valid integer"),
        (["--port", "65536"], 2, "65536 is not in the range"),
        (["--log-format", "xml"], 2, "'xml' is not one of 'text', 'json'"),
        (["--host", "no.such.host.invalid"], 1, "'no.such.host.invalid' is not an address"),
        (["--host", "203.0.113.7", "--port", "0"], 1, "can't listen on 203.0.113.7"),
        (["--host", ""], 2, "--host: it is empty"),
        (["--host", "x" * 300], 1, "is not an address"),
        (["--suspect-after", "0"], 2, "--suspect-after: expected seconds"),
        (["--suspect-after", "nan"], 2, "--suspect-after: expected seconds"),
        (["--suspect-after", "30"], 2, "--offline-after: expected at least --suspect-after, 30 s"),
        (["--warm-up", "-1"], 2, "--warm-up: expected seconds"),
        (["--insecure", "--require-token"], 2, "--insecure: it contradicts --require-token"),
        (["--token-file", "/no/such/file"], 1, "/no/such/file can't be read"),
        (["--keep-days", "0"], 2, "--keep-days: expected days, at most 3650, got 0."),
        (["--keep-jobs", "-1"], 2, "--keep-jobs: expected 0 to 1000000, got -1."),
        (["--log-max-mb", "0"], 2, "--log-max-mb: expected 1 to 65536, got 0."),
        (["--port", "0", "--data", "/etc/passwd"], 2, "'/etc/passwd' is a file"),
        (["--port", "0", "--data", "/proc/none"], 1, "/proc/none can't be used"),
        (["extra"], 2, "unexpected extra argument"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    ended = run(*arguments, state_home=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--port", str(port), state_home=tmp_path)
    assert ended.returncode == 1
    assert f"can't listen on 127.0.0.1:{port} (Address already in use)" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_data_directory_in_use_is_told() -> None:
    with servers.scheduler_process() as running:
        ended = run("--port", "0", state_home=running.state_home)
        assert ended.returncode == 1
        data = running.state_home / "dtask" / "scheduler"
        said = f"Another scheduler (process {running.process.pid}) uses {data}: stop it, or give"
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_what_is_in_the_data_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with servers.scheduler_process(env={"DTASK_DATA": str(data)}):
        assert sorted(path.name for path in data.iterdir() if "-" not in path.name) == [
            "blobs",
            "dtask.db",
            "lock",
            "logs",
        ]
        assert data.stat().st_mode & 0o77 == 0


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("a-token-for-tests-only")
    token_file.chmod(0o644)
    ended = run("--token-file", str(token_file), state_home=tmp_path)
    assert ended.returncode == 1
    assert "run chmod 600" in ended.stderr


def test_settings_come_from_the_environment_and_flags_come_first(tmp_path: Path) -> None:
    environment = {"DTASK_PORT": "99999", "DTASK_HOST": "127.0.0.1"}
    assert "99999" in run(state_home=tmp_path, **environment).stderr
    with servers.scheduler_process(env=environment | {"DTASK_LOG_FORMAT": "json"}) as running:
        assert httpx.get(f"{running.url}/healthz", verify=False).status_code == 200
        running.stop()
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
        assert [line["message"] for line in lines] == ["scheduler started", "scheduler stopped"]


def test_it_listens_on_ipv6() -> None:
    with servers.scheduler_process("--host", "::1") as running:
        assert running.url.startswith("http://[::1]:")
        assert httpx.get(f"{running.url}/api/v1/workers", verify=False).json() == []


def test_beyond_loopback_it_needs_the_token() -> None:
    with servers.scheduler_process("--host", "0.0.0.0") as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=url, verify=False) as http:
            assert http.get("/api/v1/workers").status_code == 401
            shown = http.get("/api/v1/workers", headers=servers.bearer(running.token))
            assert shown.status_code == 200


def test_every_flag_of_the_help_is_a_flag(tmp_path: Path) -> None:
    ended = run("--help", state_home=tmp_path)
    assert ended.returncode == 0
    assert "Answer which worker should run a task" in ended.stdout


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """Whoever holds the other end of stderr has stopped reading."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, servers.LAUNCHER, "--port", "0"],
        env=servers.clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
    )
    os.close(writing)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with httpx.Client(base_url=url, verify=False) as http:
            for i in range(1000):
                body = {
                    "worker_id": f"{'w' * 100}-{i}",
                    "address": "a",
                    "resource_tags": [],
                    "max_tasks": 1,
                }
                assert http.post("/api/v1/heartbeat", json=body).status_code == 200
        process.terminate()
        assert process.wait(servers.PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        assert process.stdout is not None
        process.stdout.close()
