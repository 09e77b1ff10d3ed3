"""`dtask top`: live in a real terminal, which it gives back as it was, and once without one."""

import os
import signal
import socket
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.fleets import Fleet, a_fleet
from client.fleet import Fleet as RestartedScheduler
from client.stand_in import error, standing_in
from servers import PATIENCE_S, RunningScheduler, beat, running_scheduler
from terminal import Shell, Terminal, shell_of

Join = Callable[..., None]

TAKEN, GIVEN_BACK = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


def assert_given_back(terminal: Terminal, before: list[object]) -> None:
    """The screen, the cursor and the keys are as they were."""
    assert terminal.seen.count(TAKEN) == terminal.seen.count(GIVEN_BACK) > 0
    assert terminal.seen.rindex(SHOWN) > terminal.seen.rindex(HIDDEN)
    assert terminal.seen.rindex(GIVEN_BACK) > terminal.seen.rindex(TAKEN)
    assert terminal.attributes == before
    assert "Traceback" not in terminal.seen


def test_it_shows_what_changes_until_q(shell: Shell, join: Join) -> None:
    join("w-top-1", current_tasks=1)
    with shell.terminal("top") as terminal:
        before = terminal.attributes
        seen = terminal.until("w-top-1")
        assert "WORKERS 1 " in seen
        assert not terminal.attributes[3] & (termios.ICANON | termios.ECHO)
        join("w-top-2", max_tasks=7)
        seen = terminal.afresh("w-top-2")
        assert "0/7" in seen
        terminal.seen = TAKEN + HIDDEN
        terminal.type("q")
        assert terminal.end()[0] == 0
        assert_given_back(terminal, before)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], ids=str
)
def test_every_end_gives_the_terminal_back(shell: Shell, number: signal.Signals) -> None:
    with shell.terminal("top") as terminal:
        before = terminal.attributes
        terminal.until("q")
        assert terminal.end(number)[0] == 0
        assert_given_back(terminal, before)


def test_a_terminal_that_goes_away_ends_it(shell: Shell) -> None:
    with shell.terminal("top") as terminal:
        terminal.until("quit")
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), terminal.ours)  # which closes its side
        assert terminal.process.wait(PATIENCE_S) == 0


def test_suspended_it_gives_the_terminal_back_and_takes_it_again(shell: Shell) -> None:
    with shell.terminal("top") as terminal:
        before = terminal.attributes
        terminal.until("quit")
        terminal.process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.until(SHOWN)
        assert_given_back(terminal, before)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.afresh("quit")
        assert TAKEN in terminal.seen
        terminal.type("q")
        assert terminal.end()[0] == 0
        assert terminal.attributes == before


def test_it_fills_the_window_whatever_its_size(shell: Shell, join: Join) -> None:
    join("w-top-wide")
    with shell.terminal("top", columns=80) as terminal:
        terminal.until("w-top-wide")
        terminal.resize(200, 60)
        wide = terminal.afresh("QUEUES")
        wide += terminal.afresh("sort: trouble")
        assert any("WORKERS" in line and "QUEUES" in line for line in wide.splitlines())
        assert len(wide.splitlines()) >= 60
        terminal.resize(30, 6)
        terminal.afresh("Slots")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_it_stays_live_after_a_key(shell: Shell, join: Join) -> None:
    with shell.terminal("top") as terminal:
        terminal.until("sort: trouble")
        terminal.type("s")
        terminal.until("sort: load")
        join("w-top-later")
        terminal.until("w-top-later")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_keys_choose_what_is_shown(shell: Shell, join: Join) -> None:
    join("w-top-key-1")
    join("w-top-key-2")
    with shell.terminal("top") as terminal:
        terminal.until("w-top-key-2")
        terminal.type("/KEY-1\r")
        seen = terminal.afresh("WORKERS 1 /KEY-1")
        terminal.type("sss")
        terminal.afresh("sort: name")
        terminal.type("\t")
        terminal.afresh("sort: waiting")
        terminal.type("z")
        seen = terminal.afresh("sort: waiting")
        assert "w-top" not in seen.rpartition("\x1b[H")[2]
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_a_running_job_is_shown_with_how_far_it_is(fleet: Fleet) -> None:
    with fleet.client() as client, fleet.shell.terminal("top", columns=120) as terminal:
        command = ["sh", "-c", "test {} -lt 3 || exec sleep 600"]
        job = client.submit(command, array=4, name="\x1b[2Jtrain")
        terminal.until("[2Jtrain")
        terminal.until("3/4")
        assert "\x1b[2J" not in terminal.seen
        job.cancel()
        terminal.afresh("RUNNING JOBS 0")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_a_scheduler_that_is_away_is_told_and_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    scheduler = RestartedScheduler(url, tmp_path, ("--warm-up", "0"))
    scheduler.start()
    shell = shell_of(DTASK_SCHEDULER=scheduler.url, DTASK_TOKEN=scheduler.token)
    try:
        with shell.terminal("top") as terminal:
            before = terminal.attributes
            terminal.until("0 online")
            scheduler.kill()
            terminal.until("NOT CONNECTED, as of ")
            scheduler.start()
            terminal.afresh("dtask top")  # the first line is as before
            beat(url, "w-after", token=scheduler.token)
            terminal.until("w-after")
            scheduler.kill()
            seen = terminal.afresh("NOT CONNECTED, as of ")
            terminal.until("w-after")
            terminal.seen = TAKEN + HIDDEN + seen
            assert terminal.end(signal.SIGINT)[0] == 0
            assert_given_back(terminal, before)
    finally:
        scheduler.kill()


# Once


def test_once_prints_one_picture(scheduler: RunningScheduler, join: Join) -> None:
    join("w-top-once", current_tasks=4)
    with shell_of(scheduler).terminal("top", "--once", columns=100) as terminal:
        code, seen = terminal.end()
    assert code == 0
    assert TAKEN not in seen
    assert "w-top-once" in seen
    assert "\x1b[31m" in seen  # it is full


@pytest.mark.parametrize("arguments", [["top"], ["top", "--once"]])
def test_without_a_terminal_one_plain_picture_is_printed(arguments: list[str]) -> None:
    with running_scheduler() as scheduler:
        beat(scheduler.url, "w-top-plain", token=scheduler.token)
        ran = shell_of(scheduler).run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert "w-top-plain" in ran.out
    assert "\x1b" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_in_a_dumb_terminal_one_plain_picture_is_printed() -> None:
    with running_scheduler() as scheduler:
        beat(scheduler.url, "w-top-dumb", token=scheduler.token)
        with shell_of(scheduler).terminal("top", term="dumb") as terminal:
            code, seen = terminal.end()
    assert code == 0
    assert "w-top-dumb" in seen
    assert "\x1b" not in seen


def test_json_has_the_snapshot_and_the_jobs_that_run() -> None:
    with running_scheduler() as scheduler:
        beat(scheduler.url, "w1", token=scheduler.token, current_tasks=2)
        found = shell_of(scheduler).run("top", "--json").json
    (worker,) = found["workers"]
    assert (worker["worker_id"], worker["status"]) == ("w1", "online")
    assert (worker["current_tasks"], worker["max_tasks"]) == (2, 4)
    assert found["totals"]["occupied"] == 2
    assert found["running_jobs"] == []


# Refusals


@pytest.mark.parametrize("live", [True, False])
def test_where_nobody_listens_is_told_without_taking_the_screen(live: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    shell = shell_of(DTASK_SCHEDULER=url, DTASK_TOKEN="a-token-for-tests")
    if live:
        with shell.terminal("top") as terminal:
            code, seen = terminal.end()
    else:
        ran = shell.run("top")
        code, seen = ran.code, ran.err
    assert code == 1
    assert "To start one here: dtask-scheduler --port" in seen
    assert TAKEN not in seen


def test_a_wrong_token_is_told(scheduler: RunningScheduler) -> None:
    shell = shell_of(DTASK_SCHEDULER=scheduler.url, DTASK_TOKEN="not-the-right-token")
    with shell.terminal("top") as terminal:
        code, seen = terminal.end()
    assert code == 1
    assert "--token-file" in seen
    assert TAKEN not in seen


def test_a_scheduler_of_before_is_called_too_old() -> None:
    with standing_in(lambda _: error("no_route", 404)) as scheduler:
        shell = shell_of(
            DTASK_SCHEDULER=f"http://{scheduler.address}", DTASK_TOKEN="a-token-for-tests"
        )
        ran = shell.run("top")
    assert (ran.code, ran.out) == (1, "")
    assert "can't be followed live: it is of dtask 0.1 or older." in ran.err
