import signal
from collections.abc import Callable

import pytest

from servers import RunningScheduler, beat, running_scheduler, scheduler_process
from terminal import Shell, interrupt, shell_of

Join = Callable[..., None]


def test_an_empty_fleet_says_how_to_start_a_worker() -> None:
    with running_scheduler() as scheduler:
        ran = shell_of(scheduler).run("workers")
        assert ran.code == 0
        assert f"dtask-worker --scheduler {scheduler.url}" in ran.out
        assert shell_of(scheduler).run("workers", "--json").json == []
        assert shell_of(scheduler).run("workers", "--quiet").out == ""


def test_without_a_terminal_the_table_is_plain_and_whole(shell: Shell, join: Join) -> None:
    tags = [f"plain-tag-{i}" for i in range(20)]
    join("w-plain", *tags, max_tasks=8, current_tasks=3)
    out = shell.run("workers", "--tag", tags[0]).out
    head, row, summary = out.splitlines()
    assert head.split() == ["WORKER", "ADDRESS", "TAGS", "LOAD", "TASKS", "STATUS"]
    assert " ".join(tags) in row
    assert "3/8" in row
    assert "online " in row
    assert summary == "1 worker: 1 online. 3 of 8 slots taken."
    assert "\x1b" not in out


def test_what_is_out_of_the_ordinary_is_noted(
    scheduler: RunningScheduler, shell: Shell, join: Join
) -> None:
    join("w-noted", "noted", current_tasks=1)
    assert shell.run("place", "--tags", "noted").code == 0
    beat(scheduler.url, "w-plain-curl", resource_tags=["noted"], draining=True)
    noted, plain = shell.run("workers", "--tag", "noted").out.splitlines()[1:3]
    assert noted.endswith("reports 1")
    assert "2/4" in noted
    assert plain.endswith("draining, untrusted")


def test_json_has_the_rows_of_the_api(shell: Shell, join: Join) -> None:
    join("w-rows", "rows")
    (row,) = shell.run("workers", "--tag", "rows", "--json").json
    assert row["worker_id"] == "w-rows"
    assert row["resource_tags"] == ["rows"]
    assert row["trusted"] is True


def test_tag_and_status_choose_and_quiet_prints_the_ids(shell: Shell, join: Join) -> None:
    join("w-chosen-1", "chosen", "cuda-12.4")
    join("w-chosen-2", "chosen", "cuda-11.8")
    assert shell.run("workers", "--tag", "chosen", "--quiet").out == "w-chosen-1\nw-chosen-2\n"
    newer = shell.run("workers", "--tag", "chosen", "--tag", "cuda>=12", "--quiet")
    assert newer.out == "w-chosen-1\n"
    none = shell.run("workers", "--tag", "chosen", "--status", "offline")
    assert none.out == "No worker is like that. Without --tag and --status, all are listed.\n"


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_in_a_terminal_lines_fit_it_and_no_color_is_obeyed(
    scheduler: RunningScheduler, join: Join, more: dict[str, str]
) -> None:
    join("ip-10-0-3-17.internal:8081", "fit", *(f"fitting-tag-{i}" for i in range(9)))
    with shell_of(scheduler, **more).terminal("workers", "--tag", "fit", columns=80) as terminal:
        code, seen = terminal.end()
    assert code == 0
    assert ("\x1b[" in seen) is not bool(more)
    if more:
        assert all(len(line) <= 80 for line in seen.splitlines())
        assert "fit +9" in seen


def test_watch_shows_what_changes_and_ends_with_ctrl_c(shell: Shell, join: Join) -> None:
    join("w-watched-1", "watched")
    with shell.terminal("workers", "--tag", "watched", "--watch") as terminal:
        assert "w-watched-2" not in terminal.until("1 worker: ")
        join("w-watched-2", "watched")
        terminal.until("2 workers: ")
        code, seen = terminal.end(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # the cursor is back


def test_watch_in_a_dumb_terminal_prints_plain_tables(
    scheduler: RunningScheduler, join: Join
) -> None:
    join("w-dumb", "dumb")
    shell = shell_of(scheduler)
    with shell.terminal("workers", "--tag", "dumb", "--watch", term="dumb") as terminal:
        terminal.until("1 worker: ")
        code, seen = terminal.end(signal.SIGINT)
    assert code == 0
    assert "\x1b" not in seen


def test_watch_outlives_the_scheduler() -> None:
    with scheduler_process() as scheduler:
        beat(scheduler.url, "w1", token=scheduler.token)
        shell = shell_of(DTASK_SCHEDULER=scheduler.url, DTASK_TOKEN=scheduler.token)
        with shell.terminal("workers", "--watch") as terminal:
            terminal.until("1 worker: ")
            scheduler.stop()
            seen = terminal.until("The scheduler does not answer. Seen at ")
            code, seen = terminal.end(signal.SIGINT)
    assert code == 0
    assert "w1" in seen.rpartition("does not answer")[2]


def test_watch_without_a_terminal_prints_plain_tables(shell: Shell, join: Join) -> None:
    join("w-piped", "piped")
    with shell.start("workers", "--tag", "piped", "--watch") as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(6)]
        ran = interrupt(process)
    assert [line.split()[0] for line in seen] == ["WORKER", "w-piped", "1"] * 2
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in "".join(seen)


def test_drain_and_undrain_tell_what_follows(
    scheduler: RunningScheduler, shell: Shell, join: Join
) -> None:
    join("w-drain", "drain", current_tasks=1)
    assert shell.run("drain", "w-drain").out == (
        "w-drain takes no new tasks. 1 task goes on to the end.\n"
    )
    assert shell.run("undrain", "w-drain").out == ("w-drain takes tasks again: 3 slots are free.\n")
    join("w-drain", "drain", current_tasks=3)
    assert shell.run("undrain", "w-drain").out == "w-drain takes tasks again: 1 slot is free.\n"
    assert shell.run("drain", "w-drain", "--json").json["draining"] is True
    assert shell.run("undrain", "w-drain", "--quiet").out == ""
    beat(scheduler.url, "w-drain", token=scheduler.token, draining=True)
    assert "still drains by its own word" in shell.run("undrain", "w-drain").out


def test_a_worker_that_nobody_knows_can_not_be_drained(shell: Shell) -> None:
    ran = shell.run("drain", "w-nobody")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: No worker 'w-nobody' is known")
