"""`dtask run`: a command on a worker behaves as if it ran here."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fleets import Fleet, a_fleet
from servers import PATIENCE_S
from terminal import LAUNCHER, interrupt
from worker.processes import duration, eventually, sleepers

NOBODY = "no-such-tag"


@pytest.fixture(scope="module", name="fleet")
def one_fleet() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


def test_streams_and_exit_code_are_those_of_the_command(fleet: Fleet) -> None:
    ran = fleet.shell.run("run", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.code, ran.out, ran.err) == (3, "out\n", "err\n")
    assert fleet.shell.run("run", "--", "true").code == 0


def test_bytes_arrive_as_they_are_where_nobody_looks(fleet: Fleet) -> None:
    ended = subprocess.run(
        [sys.executable, LAUNCHER, "run", "--", "printf", r"\033[2J\377\000\n"],
        env=fleet.shell.env,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (b"\033[2J\377\0\n", b"")


def test_it_runs_here_unless_told_otherwise(fleet: Fleet, tmp_path: Path) -> None:
    here = fleet.shell.run("run", "--", "pwd").out
    assert here == f"{Path.cwd()}\n"
    scratch = fleet.shell.run("run", "--scratch", "--", "sh", "-c", "pwd; ls").out
    assert scratch.endswith("/work\n")
    assert fleet.shell.run("run", "--cwd", str(tmp_path), "--", "pwd").out == f"{tmp_path}\n"


def test_files_and_input_travel_along(fleet: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("hello\n")
    ran = fleet.shell.run("run", "--stdin", str(source), "--", "tr", "a-z", "A-Z")
    assert (ran.code, ran.out) == (0, "HELLO\n")
    ran = fleet.shell.run("run", "--file", f"{source}=a/b", "--", "cat", "a/b")
    assert (ran.code, ran.out) == (0, "hello\n")


def test_a_script_gets_its_arguments_and_what_its_head_asks_for(
    fleet: Fleet, tmp_path: Path
) -> None:
    script = tmp_path / "s.sh"
    script.write_text('#!/bin/sh\n#DTASK --tags cpu --env WHO=me\necho "$0 $1 $WHO"\n')
    assert fleet.shell.run("run", str(script), "--", "x").out == "./s.sh x me\n"
    assert fleet.shell.run("run", "--env", "WHO=you", str(script)).out == "./s.sh  you\n"


def test_a_script_that_asks_for_an_array_is_not_submitted(fleet: Fleet, tmp_path: Path) -> None:
    script = tmp_path / "s.sh"
    script.write_text("#!/bin/sh\n#DTASK --array 3 --name unheard\ntrue\n")
    ran = fleet.shell.run("run", str(script))
    assert ran.code == 2
    assert f"expected `dtask submit --wait {script}`" in ran.err
    assert "unheard" not in fleet.shell.run("jobs").out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--", "no-such-command"), 127, "could not be started: The command 'no-such-command'"),
        (("--timeout", "0.2s", "--", "sleep", "60"), 124, "ran longer than its timeout"),
        (("--", "sh", "-c", "kill -9 $$"), 137, "was ended by SIGKILL."),
        (
            ("--tags", NOBODY, "--max-queue", "0.2s", "--", "true"),
            125,
            "got no slot in the time that it may be queued.",
        ),
        (("--cwd", "/no/such/directory", "--", "true"), 127, "'/no/such/directory'"),
    ],
)
def test_an_end_that_is_not_the_command_s_own_has_its_code_and_sentence(
    arguments: tuple[str, ...], code: int, said: str, fleet: Fleet
) -> None:
    ran = fleet.shell.run("run", "--grace", "1", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err.splitlines()[-1]


def test_retries_are_part_of_the_run(fleet: Fleet) -> None:
    text = 'echo "$DTASK_NUMBER"; test "$DTASK_NUMBER" = 2'
    ran = fleet.shell.run("run", "--retries", "3", "--backoff", "0", "--", "sh", "-c", text)
    assert ran.code == 0
    assert ran.out == "1\n2\n"


def test_it_says_why_it_waits_once_and_quiet_says_nothing(fleet: Fleet) -> None:
    wait = ("--tags", NOBODY, "--max-queue", "2s", "--", "true")
    ran = fleet.shell.run("run", *wait)
    assert ran.err.count("\n") == 2
    assert f"No worker can take it ({NOBODY}). Of 1 worker, 1 lacks {NOBODY}." in ran.err
    ran = fleet.shell.run("run", "--quiet", *wait)
    assert (ran.code, ran.err) == (125, "")


def test_ctrl_c_stops_the_tree_and_waits_for_that(fleet: Fleet) -> None:
    nap = duration()
    with fleet.shell.start("run", "--", "sh", "-c", f"setsid sleep {nap} & wait") as process:
        eventually(lambda: bool(sleepers(nap)))
        ran = interrupt(process)
    assert ran.code == 130
    assert "Stopping job " in ran.err
    assert ran.err.endswith(" is cancelled.\n")
    assert not sleepers(nap)


def test_a_second_ctrl_c_leaves_it_to_the_scheduler(fleet: Fleet) -> None:
    nap = duration()
    text = f"trap '' TERM; sleep {nap} & wait; wait"
    with fleet.shell.start("run", "--grace", "1", "--", "sh", "-c", text) as process:
        assert process.stderr is not None
        eventually(lambda: bool(sleepers(nap)))
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("dtask: Stopping job ")
        ran = interrupt(process)
    assert ran.code == 130
    assert " is left: dtask job " in ran.err
    eventually(lambda: not sleepers(nap))


def test_a_terminal_that_is_closed_stops_the_tree(fleet: Fleet) -> None:
    nap = duration()
    with fleet.shell.terminal("run", "--", "sh", "-c", f"echo on; sleep {nap}") as terminal:
        terminal.until("on")
        eventually(lambda: bool(sleepers(nap)))
        aside = os.dup(terminal.ours)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, terminal.ours)
        os.close(aside)  # the last of its ends: from now on every write to it fails
        os.close(null)
        terminal.process.send_signal(signal.SIGHUP)
        assert terminal.process.wait(PATIENCE_S)
        assert not sleepers(nap)


def test_a_reader_that_leaves_ends_it(fleet: Fleet) -> None:
    nap = duration()
    text = f"echo first; while echo more; do sleep 0.05; done; sleep {nap}"
    with fleet.shell.start("run", "--", "sh", "-c", text) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with fleet.client() as client:
        assert client.jobs(limit=1)[0].state == "cancelled"


def test_a_terminal_gets_colours_and_no_other_sequence(fleet: Fleet) -> None:
    text = r"printf '\033[31mred\033[0m \033]0;title\007\033[2Jend\n'"
    with fleet.shell.terminal("run", "--", "sh", "-c", text) as terminal:
        code, seen = terminal.end()
    assert code == 0
    assert "\x1b[31mred\x1b[0m end\r\n" in seen
    assert "title" not in seen


def test_a_terminal_sees_why_it_waits_in_one_line_that_goes_away(fleet: Fleet) -> None:
    with fleet.shell.terminal("run", "--tags", NOBODY, "--", "true", columns=60) as terminal:
        terminal.until("No worker can take it")
        terminal.until("…")  # it is cut to the window
        code, seen = terminal.end(signal.SIGINT)
    assert code == 130
    assert "\r\x1b[K" in seen
    assert seen.rstrip().endswith("is cancelled.")


def test_no_scheduler_is_one_sentence_and_how_to_start_one(fleet: Fleet) -> None:
    ran = fleet.shell.run("run", "--scheduler", "http://127.0.0.1:9", "--", "true")
    assert ran.code == 1
    assert ran.err.startswith("Error: No scheduler answers")
    assert ran.err.count("\n") == 2


def test_a_directory_that_is_not_there_brings_the_advice_to_do_without(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    with fleet.client() as client:
        client.set_queue("held", paused=True)
    with fleet.shell.start("run", "--queue", "held", "--", "true") as process:
        assert process.stderr is not None
        assert "The queue held is paused." in process.stderr.readline()
        gone.rmdir()
        with fleet.client() as client:
            client.set_queue("held", paused=False)
        told = process.stderr.read().splitlines()
        assert process.wait(PATIENCE_S) == 127
    assert "could not be started: The working directory" in told[-2]
    assert told[-1] == "dtask: --scratch runs it in an empty directory of its own."
