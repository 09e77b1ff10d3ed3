"""Jobs from the command line: submit, look, wait, follow, cancel, retry, queues, backup."""

import json
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fleets import Fleet, a_fleet
from servers import PATIENCE_S, scheduler_process
from terminal import LAUNCHER, interrupt, shell_of
from worker.processes import duration, eventually, sleepers

GRAPH = """
name: graph
tasks:
  first: {command: [echo, first]}
  tile:
    command: [sh, -c, 'echo "tile $DTASK_INDEX"; test "$DTASK_INDEX" != 2']
    array: 4
    needs: [first]
  join: {command: [echo, join], needs: [tile]}
  after: {command: [echo, after], needs: [tile], when: all_done}
"""


@pytest.fixture(scope="module", name="fleet")
def one_fleet() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


@pytest.fixture(scope="module", name="graph")
def a_graph(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A job of four tasks that has ended: one element of `tile` failed."""
    file = tmp_path_factory.mktemp("graph") / "graph.yaml"
    file.write_text(GRAPH)
    ran = fleet.shell.run("submit", "--wait", str(file))
    assert ran.code == 1
    job_id = int(ran.out)
    assert "'graph': failed" in ran.err
    assert f"  {job_id}/tile[2] failed with exit code 1\n" in ran.err
    return job_id


def test_a_submit_prints_the_number_alone(fleet: Fleet) -> None:
    ran = fleet.shell.run("submit", "--", "true")
    assert re.fullmatch(r"[0-9]+\n", ran.out)
    assert (ran.code, ran.err) == (0, "")
    told = fleet.shell.run("submit", "--json", "--key", "once", "--", "true").json
    again = fleet.shell.run("submit", "--json", "--key", "once", "--", "true").json
    assert again == {"job_id": told["job_id"], "known": True}
    other = fleet.shell.run("submit", "--json", "--key", "once", "--", "false")
    assert other.json["code"] == "key_taken"
    assert other.code == 1


def test_submit_and_wait_ends_as_the_job_does(fleet: Fleet) -> None:
    ran = fleet.shell.run("submit", "--wait", "--", "true")
    assert ran.code == 0
    assert re.fullmatch(r"[0-9]+\n", ran.out)
    assert "'true': succeeded, submitted " in ran.err
    ran = fleet.shell.run("submit", "--wait", "--", "sh", "-c", "exit 4")
    assert ran.code == 1
    assert ran.err.endswith("/main failed with exit code 4\n")
    answer = fleet.shell.run("submit", "--wait", "--json", "--", "true").json
    assert answer["state"] == "succeeded"


def test_a_job_shows_its_tasks_and_what_failed(fleet: Fleet, graph: int) -> None:
    shown = fleet.shell.run("job", str(graph)).out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0].startswith(f"Job {graph} 'graph': failed, submitted ")
    assert lines[2] == "TASK STATE ATTEMPTS WORKER TOOK NOTES"
    assert lines[3].startswith("first succeeded 1 w1 ")
    assert lines[4] == "tile failed 1 failed, 3 succeeded"
    assert lines[5] == "join skipped was skipped: It needs tile, which failed"
    assert lines[6].startswith("after succeeded 1 w1 ")
    assert lines[8] == f"{graph}/tile[2] failed with exit code 1"
    assert lines[-1] == f"To run again what did not succeed: dtask retry {graph}"
    assert fleet.shell.run("job", str(graph), "--quiet").out == "failed\n"
    assert fleet.shell.run("job", str(graph), "--json").json["tasks"]["tile"]["counts"] == {
        "failed": 1,
        "succeeded": 3,
    }


def test_jobs_are_listed_and_filtered(fleet: Fleet, graph: int) -> None:
    later = fleet.job("true")
    with fleet.client() as client:
        client.wait(later)
    listed = [int(line) for line in fleet.shell.run("jobs", "--quiet").out.split()]
    assert listed == sorted(listed, reverse=True)
    assert {later, graph} <= set(listed)
    failed = fleet.shell.run("jobs", "--quiet", "--state", "failed,skipped").out.split()
    assert str(graph) in failed
    assert str(later) not in failed
    text = fleet.shell.run("jobs", "--limit", "1").out.splitlines()
    assert text[0].split() == ["JOB", "STATE", "QUEUE", "SUBMITTED", "TOOK", "NAME"]
    assert text[1].split()[:3] == [str(later), "succeeded", "default"]
    assert text[2] == "The newest 1; for more: --limit."
    assert "No job is like that." in fleet.shell.run("jobs", "--queue", "no-such-queue").out
    assert fleet.shell.run("jobs", "--limit", "1", "--json").json[0]["job_id"] == later


def test_attempts_are_listed_with_their_names(fleet: Fleet, graph: int) -> None:
    names = fleet.shell.run("attempts", f"{graph}/tile", "--quiet").out.split()
    assert set(names) == {f"{graph}/tile[{i}]#1" for i in range(4)}
    text = fleet.shell.run("attempts", f"{graph}/tile[2]").out.splitlines()
    assert text[0].split()[:3] == ["ATTEMPT", "STATE", "WORKER"]
    assert text[1].startswith(f"{graph}/tile[2]#1  failed  w1")
    assert text[1].endswith("failed with exit code 1")
    assert fleet.shell.run("attempts", f"{graph}/first", "--json").json[0]["exit_code"] == 0
    none = fleet.shell.run("attempts", f"{graph}/join").out
    assert none == f"{graph}/join was not attempted yet. Why: dtask why {graph}\n"


def test_logs_are_of_the_task_that_is_named(fleet: Fleet, graph: int) -> None:
    assert fleet.shell.run("logs", f"{graph}/first").out == "first\n"
    assert fleet.shell.run("logs", f"{graph}/tile[3]").out == "tile 3\n"
    assert fleet.shell.run("logs", f"{graph}/tile[2]#1").out == "tile 2\n"
    ran = fleet.shell.run("logs", str(graph))
    assert ran.code == 2
    assert f"Job {graph} has 4 tasks: name one, {graph}/first, {graph}/tile" in ran.err


def test_streams_and_attempts_of_a_log_can_be_chosen(fleet: Fleet) -> None:
    text = 'echo "out $DTASK_NUMBER"; echo "err $DTASK_NUMBER" >&2; test "$DTASK_NUMBER" = 2'
    options = ("--wait", "--retries", "1", "--backoff", "0")
    job_id = fleet.shell.run("submit", *options, "--", "sh", "-c", text).out.strip()

    def logs(*options: str) -> tuple[str, str]:
        ran = fleet.shell.run("logs", job_id, *options)
        assert ran.code == 0
        return ran.out, ran.err

    assert logs() == ("out 2\n", "")
    assert logs("--stderr") == ("err 2\n", "")
    assert logs("--all") == ("out 2\n", "err 2\n")
    assert logs("--all", "--attempt", "1") == ("out 1\n", "err 1\n")
    assert logs("--follow") == ("out 2\n", "")
    assert fleet.shell.run("logs", job_id, "--attempt", "3").code == 1
    assert fleet.shell.run("logs", f"{job_id}/main#1", "--attempt", "1").code == 2


def test_a_log_is_followed_to_the_end_of_its_task(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = fleet.job(
        "sh", "-c", f"echo begun; until test -e {gate}; do sleep 0.02; done; echo on"
    )
    with fleet.shell.start("logs", "-f", str(job_id)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        gate.touch()
        assert process.stdout.readline() == "on\n"
        assert process.wait(PATIENCE_S) == 0


def test_ctrl_c_ends_what_follows_and_not_the_task(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = fleet.job("sh", "-c", f"echo begun; until test -e {gate}; do sleep 0.02; done")
    with fleet.shell.start("logs", "-f", "--all", str(job_id)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert interrupt(process).code == 130
    with fleet.shell.terminal("wait", str(job_id)) as terminal:
        terminal.until("It runs on worker w1.")
        code, seen = terminal.end(signal.SIGINT)
    assert code == 130
    assert f"Job {job_id} goes on. To wait again: dtask wait {job_id}" in seen
    with fleet.client() as client:
        assert client.job(job_id).state == "running"
        gate.touch()
        client.wait(job_id).check()


def test_a_result_is_printed_as_it_is(fleet: Fleet) -> None:
    text = r'printf "\377\000" > "$DTASK_RESULT"'
    job_id = fleet.shell.run("submit", "--wait", "--", "sh", "-c", text).out.strip()
    ended = subprocess.run(
        [sys.executable, LAUNCHER, "result", job_id],
        env=fleet.shell.env,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, b"\377\0")
    with fleet.shell.terminal("result", job_id) as terminal:
        code, seen = terminal.end()
    assert code == 1
    assert "is no text: send it to a file" in " ".join(seen.split())


def test_why_says_what_is_missing_and_job_says_it_too(fleet: Fleet) -> None:
    with fleet.client() as client:
        job_id = client.submit(["true"], tags=["cpuu"]).id
    sentence = f"{job_id}/main: No worker can take it (cpuu). Of 1 worker, 1 lacks cpuu."
    told = f"{sentence} No worker has cpuu: did you mean cpu?\n"
    assert fleet.shell.run("why", str(job_id)).out == told
    assert fleet.shell.run("why", f"{job_id}/main").out == told
    assert told in fleet.shell.run("job", str(job_id)).out
    assert fleet.shell.run("why", str(job_id), "--quiet").out == "no_worker\n"
    assert fleet.shell.run("why", str(job_id), "--json").json["reasons"][0]["code"] == "no_worker"
    assert fleet.shell.run("cancel", str(job_id)).out == (
        f"Job {job_id} is being stopped. Until it is: dtask wait {job_id}\n"
    )
    ran = fleet.shell.run("wait", str(job_id))
    assert ran.code == 1
    assert "cancelled" in ran.out
    assert fleet.shell.run("why", str(job_id)).out.startswith("It waits for nothing. Job ")


def test_what_was_skipped_names_what_for(fleet: Fleet, graph: int) -> None:
    failed = fleet.job("false")
    heir = int(fleet.shell.run("submit", "--after", str(failed), "--", "true").out)
    told = f"It comes after job {failed}, which failed"
    ran = fleet.shell.run("wait", str(heir))
    assert ran.err == f"  {heir}/main was skipped: {told}\n"
    assert fleet.shell.run("why", str(heir)).out.endswith(f".\n{heir}/main: {told}.\n")
    assert f"was skipped: {told}\n" in fleet.shell.run("job", str(heir)).out
    told = "It needs tile, which failed"
    assert fleet.shell.run("why", f"{graph}/join").out == f"{graph}/join: {told}.\n"
    first = fleet.shell.run("why", f"{graph}/first").out
    assert first == f"{graph}/first waits for nothing: it succeeded.\n"
    assert fleet.shell.run("why", f"{graph}/nope").code == 1


def test_of_a_job_that_goes_on_why_tells_of_what_has_ended(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "tasks:\n  a: {command: ['false']}\n  b: {command: [x], needs: [a]}\n"
        "  c: {command: [sleep, 60]}\n"
    )
    job_id = fleet.shell.run("submit", str(file)).out.strip()
    told = f"{job_id}/b waits for nothing: it was skipped: It needs a, which failed.\n"
    eventually(lambda: fleet.shell.run("why", f"{job_id}/b").out == told)
    fleet.shell.run("cancel", job_id)


def test_cancel_takes_jobs_and_tasks(fleet: Fleet) -> None:
    naps = [duration(), duration()]
    first, second = (fleet.job("sleep", nap) for nap in naps)
    eventually(lambda: all(map(sleepers, naps)))
    ran = fleet.shell.run("cancel", str(first), f"{second}/main", "--json")
    assert [one["name"] for one in ran.json] == [str(first), f"{second}/main"]
    assert fleet.shell.run("wait", str(first), str(second), "--quiet").code == 1
    assert not any(map(sleepers, naps))


def test_a_cancel_goes_on_after_one_that_has_ended(fleet: Fleet) -> None:
    ended = fleet.shell.run("submit", "--wait", "--quiet", "--", "true").out.strip()
    going = [str(fleet.job("sleep", "60")) for _ in range(2)]
    ran = fleet.shell.run("cancel", ended, going[0], "999999")
    assert ran.code == 1
    assert ran.out == f"Job {going[0]} is being stopped. Until it is: dtask wait {going[0]}\n"
    assert ran.err.count("Error: ") == 2
    ran = fleet.shell.run("cancel", ended, going[1], "--json")
    assert ran.code == 1
    assert [one["cancelled"] for one in ran.json] == [False, True]
    assert ran.json[0]["error"]


def test_a_wait_gives_up_when_it_was_told_to(fleet: Fleet) -> None:
    job_id = fleet.job("sh", "-c", "sleep 60")
    ran = fleet.shell.run("wait", "--timeout", "0.3s", str(job_id))
    assert ran.code == 1
    assert ran.err == f"Error: Job {job_id} goes on after 0.3 s.\n"
    fleet.shell.run("cancel", str(job_id))


def test_a_wait_outlasts_a_restart_of_the_scheduler(tmp_path: Path) -> None:
    data, token = ("--data", str(tmp_path)), {"DTASK_TOKEN": "t" * 43}
    with scheduler_process(*data, env=token) as first:
        shell = shell_of(DTASK_SCHEDULER=first.url, NO_COLOR="1", **token)
        job_id = shell.run("submit", "--scratch", "--", "true").out.strip()
        with shell.terminal("wait", job_id) as terminal:
            terminal.until("No worker")
            first.process.kill()
            first.process.wait(PATIENCE_S)
            with pytest.raises(subprocess.TimeoutExpired):
                terminal.process.wait(3.0)
            port = first.url.rpartition(":")[2]
            with scheduler_process("--port", port, *data, env=token):
                assert shell.run("cancel", job_id).code == 0
                code, seen = terminal.end()
    assert code == 1
    assert f"Job {job_id} 'true': cancelled" in seen


def test_a_retry_that_fails_again_names_the_inputs_and_the_next_retry(
    fleet: Fleet, tmp_path: Path
) -> None:
    items = tmp_path / "items"
    items.write_text("a\nb\n")
    job_id = fleet.shell.run(
        "submit", "--wait", "--items", str(items), "--", "sh", "-c", "test {} != b"
    ).out.strip()
    ran = fleet.shell.run("retry", job_id, "--failed", "--wait")
    assert (ran.code, ran.out) == (1, f"1 task starts over in job {job_id}.\n")
    assert ran.err.splitlines()[1:] == [
        f"  {job_id}/main[1] 'b' failed with exit code 1",
        f"To run them again: dtask retry {job_id} --failed --wait",
    ]
    shown = fleet.shell.run("job", job_id).out
    assert f"\n\n  {job_id}/main[1] 'b' failed with exit code 1\n" in shown


def test_retry_starts_over_what_failed(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    flag = tmp_path / "flag"
    file.write_text(
        f"tasks:\n  a: {{command: [test, -e, {flag}]}}\n  b: {{command: [echo, b], needs: [a]}}\n"
        "  c: {command: [echo, c]}\n"
    )
    job_id = fleet.shell.run("submit", "--wait", str(file)).out.strip()
    flag.touch()
    ran = fleet.shell.run("retry", job_id, "--failed", "--wait")
    assert ran.code == 0
    assert ran.out == f"2 tasks start over in job {job_id}.\n"
    assert fleet.shell.run("logs", f"{job_id}/b").out == "b\n"
    assert "nothing to run again" in fleet.shell.run("retry", job_id).out.lower()


def test_events_are_told_as_they_come_and_those_of_before(fleet: Fleet) -> None:
    with fleet.shell.start("events", "-f") as process:
        assert process.stdout is not None
        # It hears from its own start on: so jobs are submitted until it has heard of one.
        job_id = 0
        with fleet.client() as client:
            for _ in range(100):
                job_id = client.submit(["true"]).id
                client.wait(job_id)
                if _readable(process):
                    break
        assert re.match(r"[0-9:]{8}  \w+ +[0-9]+", process.stdout.readline())
        assert interrupt(process).code == 130
    told = fleet.shell.run("events", str(job_id)).out
    for line in (rf"running    {job_id}/main#1  on w1", rf"succeeded  {job_id}$"):
        assert re.search(line, told, re.MULTILINE), told
    records = [json.loads(line) for line in fleet.shell.run("events", "--json").out.splitlines()]
    assert any(one["job_id"] == job_id and one["state"] == "succeeded" for one in records)


def _readable(process: subprocess.Popen[str]) -> bool:
    return bool(select.select([process.stdout], [], [], 0.05)[0])


def test_queues_are_made_changed_and_shown(fleet: Fleet) -> None:
    made = fleet.shell.run("queue", "render", "--max-running", "4", "--weight", "2", "--pause")
    assert made.out.splitlines()[1].split() == ["render", "0", "4", "0", "0", "2", "paused"]
    job_id = fleet.shell.run("submit", "--queue", "render", "--", "true").out.strip()
    assert "The queue render is paused." in fleet.shell.run("why", job_id).out
    assert fleet.shell.run("queue", "render", "--resume", "--quiet").out == ""
    assert fleet.shell.run("wait", job_id, "--quiet").code == 0
    assert fleet.shell.run("queue", "render", "--json").json["max_running"] == 4
    assert (
        fleet.shell.run("queue", "render", "--max-running", "0", "--json").json["max_running"]
        is None
    )
    assert set(fleet.shell.run("queues", "--quiet").out.split()) >= {"default", "render"}
    unknown = fleet.shell.run("queue", "no-such-queue")
    assert (unknown.code, unknown.out) == (1, "")
    assert "To make it: dtask queue no-such-queue --max-running 4" in unknown.err
    assert fleet.shell.run("queue", "render", "--pause", "--resume").code == 2


def test_a_backup_is_a_store(fleet: Fleet, graph: int, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    ran = fleet.shell.run("backup", str(file))
    assert ran.code == 0
    assert ran.out.startswith(f"{file}: ")
    found = sqlite3.connect(file)
    assert found.execute("SELECT name FROM job WHERE job_id = ?", (graph,)).fetchone() == ("graph",)
    found.close()
    again = fleet.shell.run("backup", str(file))
    assert again.code == 1
    assert "exists" in again.err


def test_a_log_that_is_not_there_is_said(fleet: Fleet) -> None:
    job_id = fleet.job("sh", "-c", 'echo out; echo err >&2; echo left > "$DTASK_RESULT"')
    fleet.shell.run("wait", str(job_id))
    shutil.rmtree(fleet.data / "logs" / str(job_id))
    gone = "not in the scheduler's data directory any more"
    ran = fleet.shell.run("logs", "--all", str(job_id))
    assert (ran.out, ran.err) == ("", f"dtask: What it wrote is {gone}.\n")
    assert fleet.shell.run("logs", "-f", str(job_id)).out == f"[dtask: this log is {gone}]\n"
    ran = fleet.shell.run("result", str(job_id))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"Error: There is no result of {job_id}/main#1: it is {gone}.\n"


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "tasks:\n  a: {command: [x], needs: [b]}\n  b: {command: [x], needs: [a]}\n": (
            "line 2: tasks: they need each other in a cycle: a -> b -> a."
        ),
        "tasks:\n  a: {command: [x]}\n  b:\n    command: [x]\n    needs: [c]\n": (
            "line 5: tasks.b.needs: there is no task 'c' in this job."
        ),
        "command: [x]\nenv: {DTASK_A: b}\n": "line 2: env: 'DTASK_A' is dtask's own",
        "command: [x]\nafter: [1, 99999]\n": "line 2: There is no job 99999",
        "command: [x]\nqueue: nope\n": "line 2: ",
    }.items(),
)
def test_what_the_scheduler_finds_wrong_is_told_with_its_line(
    text: str, said: str, fleet: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    ran = fleet.shell.run("submit", str(file))
    assert (ran.code, ran.out) == (1, "")
    assert f"Error: {file}, {said}" in ran.err


def test_what_the_scheduler_finds_wrong_is_told_by_its_option(fleet: Fleet) -> None:
    ran = fleet.shell.run("submit", "--env", "DTASK_A=1", "--", "true")
    assert ran.err.startswith("Error: --env: 'DTASK_A' is dtask's own")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("job", "x"), 2, "'x' names no job or task: expected a number such as 42"),
        (("job", "1/main"), 2, "'1/main' names a task: expected a job, such as 1."),
        (("cancel", "1/a[3]"), 2, "names a part of a task: expected a whole one, such as 1/a."),
        (("cancel",), 2, "Missing argument"),
        (("jobs", "--state", "done"), 2, "'done' is no state: expected some of pending, queued"),
        (("job", "999999"), 1, "There is no job 999999"),
        (("logs", "999999"), 1, "There is no job 999999"),
        (("wait", "999999"), 1, "There is no job 999999"),
        (("events", "999999"), 1, "There is no job 999999"),
        (("retry", "999999"), 1, "There is no job 999999"),
        (("submit", "no-such-file"), 2, "There is no file 'no-such-file': expected `--` before"),
    ],
)
def test_wrong_names_are_said(
    arguments: tuple[str, ...], code: int, said: str, fleet: Fleet
) -> None:
    ran = fleet.shell.run(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_a_terminal_shows_how_far_a_wait_is(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = f"until test -e {gate}; do sleep 0.02; done"
    with fleet.client() as client:
        many = client.submit(["sh", "-c", text], array=8).id
        one = client.submit(["true"], tags=["nobody-has-this"]).id
    with fleet.shell.terminal("wait", str(many), columns=100) as terminal:
        terminal.until("0/8")
        gate.touch()
        code, seen = terminal.end()
    assert code == 0
    assert "8/8" in seen
    with fleet.shell.terminal("wait", str(one), columns=100) as terminal:
        terminal.until("No worker can take it (nobody-has-this).")
        fleet.shell.run("cancel", str(one))
        assert terminal.end()[0] == 1
