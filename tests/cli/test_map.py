"""`dtask map`: a command for each of many inputs."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fleets import Fleet, a_fleet
from terminal import interrupt
from worker.processes import duration, eventually, sleepers

NAMES = ["a.tif", "a b.tif", "it's.tif", "$HOME.tif", "a\nb.tif", "-n.tif", "ü 東京.tif"]


@pytest.fixture(scope="module", name="fleet")
def one_fleet() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_input_is_one_word_whatever_is_in_it(fleet: Fleet, here: Path) -> None:
    for name in NAMES:
        (here / name).write_text(name)
    ran = fleet.shell.run("map", "cp -- {} {.}.png", ":::", *NAMES)
    assert (ran.code, ran.out) == (0, "")
    for name in NAMES:
        assert (here / name.replace(".tif", ".png")).read_text() == name


def test_inputs_may_stand_in_a_file_or_come_in(fleet: Fleet, here: Path) -> None:
    (here / "names").write_text("a b\nc\n")
    (here / "nulls").write_bytes(b"a\nb\0c\0")
    show = ("--quiet", "--output")
    assert fleet.shell.run("map", *show, "printf '[%s]' {}", "::::", "names").out == "[a b][c]"
    assert fleet.shell.run("map", "-0", *show, "printf '[%s]'", "::::", "nulls").out == "[a\nb][c]"
    none = fleet.shell.run("map", "echo")
    assert (none.code, none.out) == (2, "")
    assert "The inputs: there are no items." in none.err


def test_what_failed_is_listed_and_run_again_with_the_command_that_is_told(
    fleet: Fleet, here: Path
) -> None:
    ran = fleet.shell.run(
        "map", "test -e {}.ok || { echo 'no {}' >&2; exit 3; }", ":::", "x y", "z", "w"
    )
    assert ran.code == 1
    lines = ran.err.splitlines()
    assert lines[0] == "3 inputs: 3 failed."
    assert lines[1].endswith("/main[0] 'x y' failed with exit code 3")
    assert lines[2] == "      no x y"
    told = lines[-1]
    assert told.startswith("To run the failed ones again: dtask retry ")
    assert told.endswith(" --failed --wait")
    for name in ("x y", "z", "w"):
        (here / f"{name}.ok").touch()
    assert fleet.shell.run(*told.partition("dtask ")[2].split()).code == 0


def test_what_never_ran_is_listed_with_its_reason(fleet: Fleet) -> None:
    ran = fleet.shell.run("map", "--tags", "nobody", "--max-queue", "0.2s", "true", ":::", "a", "b")
    assert ran.code == 1
    lines = ran.err.splitlines()
    assert lines[1].endswith("/main[0] 'a' got no slot in the time that it may be queued")
    assert lines[2].endswith("/main[1] 'b' got no slot in the time that it may be queued")


def test_output_comes_in_the_order_of_the_inputs(fleet: Fleet) -> None:
    ran = fleet.shell.run("map", "--output", "sleep 0.{}; echo {#} {}", ":::", "3", "1", "2")
    assert (ran.code, ran.out) == (0, "0 3\n1 1\n2 2\n")


def test_json_is_how_the_job_ended(fleet: Fleet) -> None:
    answer = fleet.shell.run("map", "--json", "test {} = a", ":::", "a", "b")
    assert answer.code == 1
    assert answer.json["tasks"]["main"]["counts"] == {"failed": 1, "succeeded": 1}


def test_ctrl_c_stops_all(fleet: Fleet) -> None:
    naps = [duration() for _ in range(3)]
    with fleet.shell.start("map", "sleep {}", ":::", *naps) as process:
        eventually(lambda: all(map(sleepers, naps)))
        ran = interrupt(process)
    assert ran.code == 130
    assert "Stopping job " in ran.err
    assert "3 inputs: 3 cancelled." in ran.err
    assert not any(map(sleepers, naps))


def test_ctrl_c_is_the_end_that_is_told_though_something_failed_before(fleet: Fleet) -> None:
    nap = duration()
    with fleet.shell.start("map", "sleep {}", ":::", "wrong", nap) as process:
        eventually(lambda: bool(sleepers(nap)))
        with fleet.client() as client:
            job_id = client.jobs(limit=1)[0].job_id
            eventually(lambda: bool(client.elements(f"{job_id}/main", state="failed")))
        ran = interrupt(process)
    assert ran.code == 130
    assert "2 inputs: 1 failed, 1 cancelled." in ran.err
    assert ran.err.endswith(f"To run what is left: dtask retry {job_id} --wait\n")


def test_a_second_ctrl_c_does_not_wait(fleet: Fleet) -> None:
    nap = duration()
    text = f"trap '' TERM; sleep {nap} & wait; wait; : {{}}"
    with fleet.shell.start("map", "--grace", "1", text, ":::", "a", "b") as process:
        assert process.stderr is not None
        eventually(lambda: bool(sleepers(nap)))
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("Stopping job ")
        assert interrupt(process).code == 130
    eventually(lambda: not sleepers(nap))


def test_a_terminal_shows_a_bar(fleet: Fleet, here: Path) -> None:
    words = f"until test -e {here}/gate; do sleep 0.02; done; : {{}}"
    with fleet.shell.terminal("map", words, ":::", *"abcdefgh", columns=100) as terminal:
        terminal.until("0/8")
        (here / "gate").touch()
        code, seen = terminal.end()
    assert code == 0
    assert "8/8" in seen


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is no command: expected dtask map 'gzip {}' ::: *.log"),
        (("echo", ":::"), "The inputs: there are no items."),
        (("echo '{}", ":::", "a"), "The command ends where ' is still to come"),
        (("echo", ":::", "a", ":::", "b"), "There are two lists of inputs"),
        (("echo", "::::"), "After :::: stands one file"),
        (("echo", "::::", "gone"), "The inputs: gone can't be read: No such file or directory."),
    ],
)
def test_a_wrong_command_line_is_said(words: tuple[str, ...], said: str, fleet: Fleet) -> None:
    ran = fleet.shell.run("map", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
