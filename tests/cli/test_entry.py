"""Every end is an exit code and at most a sentence."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from dtask.cli import entry
from dtask.cli.main import COMMANDS, SECTIONS, group
from servers import PATIENCE_S, RunningScheduler, clean_environment
from terminal import LAUNCHER, Shell, interrupt, shell_of

Join = Callable[..., None]

#: Nothing listens on port 1.
NOWHERE = "http://127.0.0.1:1"


def test_version_and_help_answer_without_a_scheduler() -> None:
    shell = shell_of()
    version = shell.run("--version")
    assert (version.code, version.out.split()[0]) == (0, "dtask")
    text = shell.run("--help").out
    for section, commands in SECTIONS.items():
        assert f"\n{section}:\n" in text
        for name, place in commands.items():
            assert f"  {name} " in text
            assert place.line in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_exists_and_begins_its_help_as_its_line_does(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").split()[0] == COMMANDS[name].line.split()[0]


def test_only_what_a_command_needs_is_imported() -> None:
    """`dtask --version` starts in 0.07 s as long as this holds."""
    program = textwrap.dedent("""
        import sys
        from dtask.cli.main import group
        group.main(["--version"], standalone_mode=False)
        heavy = {"asyncio", "httpx", "msgspec", "rich", "orjson", "uvicorn", "dtask.core"}
        print(sorted(heavy & sys.modules.keys()))
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_commands_start_fast(shell: Shell, join: Join) -> None:
    """Bounds far above the figures of a quiet machine (0.07 and 0.25 s): others run here too."""
    join("w-fast", "fast")

    def best_s(*arguments: str) -> float:
        taken = []
        for _ in range(3):
            started_at = time.perf_counter()
            assert shell.run(*arguments).code == 0
            taken.append(time.perf_counter() - started_at)
        return min(taken)

    assert best_s("--version") < 0.5
    assert best_s("workers") < 1.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["wrokers"], "There is no command 'wrokers': did you mean workers?"),
        (["xyzzy"], "There is no command 'xyzzy': expected one of these: run, submit,"),
        (["workers", "--jsn"], "Did you mean '--json'?"),
        (["place", "--tag", "gpu"], "'--tags'"),
        (["place", "--ttl", "0"], "'--ttl'"),
        (["place", "--ttl", "nan"], "'--ttl': nan is not a number of seconds"),
        (["place", "--wait", "nan"], "'--wait': nan is not a number of seconds"),
        (["sim", "--seconds", "nan"], "'--seconds': nan is not a number of seconds"),
        (["place", "--strategy", "random"], "'least_loaded', 'bin_pack'"),
        (["drain"], "Missing argument 'WORKER'"),
        (["workers", "--watch", "--json"], "leave out --json"),
        (["up", "--workers", "0"], "'--workers'"),
        (["up", "--tags", "gpu,a|b"], "reserved"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_says_what_is_right(
    shell: Shell, arguments: list[str], sentence: str
) -> None:
    ran = shell.run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err


@pytest.mark.parametrize("arguments", [["workers", "--watch"], ["place"], ["drain", "w1"]])
def test_a_scheduler_that_is_not_there_is_named(arguments: list[str]) -> None:
    shell = shell_of(DTASK_TOKEN="a-token-for-tests-only", DTASK_SCHEDULER=NOWHERE)
    ran = shell.run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert NOWHERE in ran.err
    assert ran.err.endswith("To start one here: dtask-scheduler --port 1\n")


@pytest.mark.parametrize("arguments", [["jobs"], ["run", "--", "true"]])
def test_every_command_says_the_same_of_a_scheduler_that_is_not_there(arguments: list[str]) -> None:
    ran = shell_of(DTASK_TOKEN="a-token-for-tests-only", DTASK_SCHEDULER=NOWHERE).run(*arguments)
    assert f"{NOWHERE}: Connection refused" in ran.err


def test_a_scheduler_of_another_machine_is_not_started_here() -> None:
    far = "http://no-such-host.invalid:1"
    ran = shell_of(DTASK_TOKEN="a-token-for-tests-only", DTASK_SCHEDULER=far).run("jobs")
    assert (ran.code, ran.err.count("\n")) == (1, 1)


def test_a_wrong_flag_is_not_told_to_be_its_variable() -> None:
    worker = [sys.executable, LAUNCHER.with_name("dtask-worker")]
    given = subprocess.run(
        [*worker, "--max-tasks", "x"], capture_output=True, text=True, check=False
    )
    assert "Invalid value for '--max-tasks': " in given.stderr
    environment = {**os.environ, "DTASK_MAX_TASKS": "x"}
    given = subprocess.run(worker, env=environment, capture_output=True, text=True, check=False)
    assert "(env var: 'DTASK_MAX_TASKS')" in given.stderr


def test_a_scheduler_that_speaks_no_tls_is_not_to_be_started_again(
    scheduler: RunningScheduler,
) -> None:
    shell = shell_of(scheduler, DTASK_SCHEDULER=scheduler.url.replace("http:", "https:"))
    ran = shell.run("workers")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith("dtask-scheduler itself speaks http://, https:// is a proxy's.\n")


@pytest.mark.parametrize("service", ["scheduler", "worker"])
def test_a_token_that_can_not_be_made_is_no_error_of_the_command_line(
    service: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(
        [sys.executable, LAUNCHER.with_name(f"dtask-{service}")],
        env=clean_environment(tmp_path) | {"XDG_STATE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: The token file ")


def test_with_json_errors_are_json_too() -> None:
    shell = shell_of(DTASK_TOKEN="a-token-for-tests-only", DTASK_SCHEDULER=NOWHERE)
    ran = shell.run("workers", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.json["code"] == "unreachable"
    assert NOWHERE in ran.json["error"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["place", "--tags", "a b"], "required_tags[0]"),
        (["workers", "--tag", "a|"], "tag"),
        (["place", "--scheduler", "localhost:8080"], "'localhost:8080' is not the address"),
        (["place", "--token-file", "/nowhere/token"], "can't be read"),
    ],
)
def test_what_the_scheduler_or_the_sdk_refuses_is_a_sentence(
    shell: Shell, arguments: list[str], sentence: str
) -> None:
    ran = shell.run(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert sentence in ran.err


def test_a_token_that_does_not_fit_is_told_with_how_to_show_another(
    scheduler: RunningScheduler, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.touch(mode=0o600)
    token_file.write_text("not-the-token-of-it")
    wrong = shell_of(scheduler, DTASK_TOKEN="").run("workers", "--token-file", str(token_file))
    assert wrong.code == 1
    assert "--token-file" in wrong.err
    token_file.write_text(scheduler.token)
    right = shell_of(scheduler, DTASK_TOKEN="").run("workers", "--token-file", str(token_file))
    assert right.code == 0


def test_ctrl_c_while_waiting_is_quiet_and_exits_with_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shell = shell_of(DTASK_TOKEN="a-token-for-tests-only", DTASK_SCHEDULER=url)
        with shell.start("place") as process:
            connection, _ = silent.accept()
            ran = interrupt(process)
            connection.close()
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")


@pytest.mark.parametrize(
    "start",
    [
        "from dtask.cli.launch import main; main()",
        f"import runpy; runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')",
    ],
)
def test_ctrl_c_while_libraries_are_imported_is_quiet(start: str) -> None:
    program = textwrap.dedent("""
        import sys

        class Pressed:
            def find_spec(self, name, path=None, target=None):
                if name == "click":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Pressed())
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program + start], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "")


def test_a_reader_that_leaves_early_is_no_error(shell: Shell, join: Join) -> None:
    join("w-pipe")
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (["workers"], ["workers", "--json"], ["--help"]):
        ended = subprocess.run(
            [sys.executable, LAUNCHER, *arguments],
            env=shell.env,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (1, b"")
    os.close(writing)


@pytest.mark.parametrize("arguments", [["workers"], ["workers", "--json"], ["--help"]])
def test_a_full_disk_is_told_in_a_sentence(shell: Shell, join: Join, arguments: list[str]) -> None:
    join("w-full")
    with unreadable("a disk that is full") as stdout:
        ended = subprocess.run(
            [sys.executable, LAUNCHER, *arguments],
            env=shell.env,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, f"Error: {entry.NO_SPACE}\n")


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_error(closing: str, shell: Shell, join: Join) -> None:
    join("closed", "gpu")
    for command in ("jobs", "workers"):
        ended = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, LAUNCHER, command],
            env=shell.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_letters_that_the_terminal_can_not_show_are_no_error(shell: Shell, join: Join) -> None:
    join("w-✓", "ascii", current_tasks=2)
    plain = Shell(env={**shell.env, "PYTHONIOENCODING": "latin-1"})
    ran = plain.run("workers", "--tag", "ascii")
    assert ran.code == 0
    assert "#####-----" in ran.out
    assert "w-? " in ran.out


def test_a_bug_is_told_in_one_line() -> None:
    program = textwrap.dedent("""
        import click
        from dtask.cli import entry

        @click.command()
        def broken():
            raise RuntimeError("something impossible")

        entry.run(broken, "dtask")
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dtask: a bug of dtask (RuntimeError at ")
    assert "something impossible" in line


@pytest.mark.parametrize("service", ["scheduler", "worker"])
@pytest.mark.parametrize("reader", ["a disk that is full", "nobody"])
def test_a_service_serves_although_its_first_line_can_not_be_read(
    service: str, reader: str, tmp_path: Path
) -> None:
    own = ["--port", "0"] if service == "scheduler" else ["--addr", "127.0.0.1:0"]
    log = tmp_path / "log"
    with log.open("w") as stderr, unreadable(reader) as stdout:
        process = subprocess.Popen(
            [sys.executable, LAUNCHER.with_name(f"dtask-{service}"), *own],
            env=clean_environment(tmp_path) | {"DTASK_SCHEDULER": NOWHERE},
            stdout=stdout,
            stderr=stderr,
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while f"{service} started" not in log.read_text() and process.poll() is None:
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert f"{service} stopped" in log.read_text().splitlines()[-1]


def test_a_bug_of_a_service_is_told_in_one_line(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        from dtask.cli import scheduler
        from dtask.scheduler import server

        server.SchedulerServer = None
        scheduler.main()
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dtask-scheduler: a bug of dtask (TypeError at ")


def test_a_launcher_without_libraries_says_how_to_get_them() -> None:
    for name in ("dtask", "dtask-scheduler", "dtask-worker"):
        ended = subprocess.run(
            [sys.executable, "-I", "-S", LAUNCHER.with_name(name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert "run `make demo`" in ended.stderr
        assert "Traceback" not in ended.stderr


@contextmanager
def unreadable(reader: str) -> Iterator[int]:
    """A standard output that takes nothing."""
    if reader == "nobody":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    try:
        yield writing
    finally:
        os.close(writing)
