import asyncio
import itertools
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from click.testing import CliRunner

from disks import small_disk
from dtask.cli.worker import command
from dtask.errors import InvalidRequest
from dtask.worker import door
from servers import RunningScheduler, bearer, running_scheduler
from worker.processes import duration, eventually, sleepers
from worker.recording import Recorder, Request, always, ok
from workers import refused, worker_process

pytestmark = pytest.mark.e2e

ids = (f"task-{number}" for number in itertools.count())


def rows(scheduler: RunningScheduler) -> dict[str, dict[str, Any]]:
    answer = httpx.get(f"{scheduler.url}/api/v1/workers", headers=bearer(scheduler.token))
    return {row["worker_id"]: row for row in answer.json()}


def known(scheduler: RunningScheduler, worker_id: str = "w1") -> dict[str, Any]:
    eventually(lambda: worker_id in rows(scheduler))
    return rows(scheduler)[worker_id]


def place(scheduler: RunningScheduler) -> httpx.Response:
    return httpx.post(
        f"{scheduler.url}/api/v1/schedule",
        json={"task_id": next(ids)},
        headers=bearer(scheduler.token),
    )


class Task:
    """A command placed by the scheduler and sent to the worker it was placed on."""

    def __init__(self, scheduler: RunningScheduler, *command: str) -> None:
        task_id = next(ids)
        placed = httpx.post(
            f"{scheduler.url}/api/v1/schedule",
            json={"task_id": task_id, "trusted": True},
            headers=bearer(scheduler.token),
        ).json()
        self._client = httpx.Client(
            base_url=f"http://{placed['address']}/api/v1",
            headers={"authorization": f"Ticket {placed['ticket']}"},
            timeout=30,
        )
        self._path = f"/tasks/{task_id}"
        self._fence = placed["fence"]
        body = {"task_id": task_id, "command": command, "fence": self._fence}
        started = self._client.post("/tasks", json=body)
        assert started.status_code == 202, started.text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ended(self) -> dict[str, Any]:
        answer = self._client.get(self._path, params={"fence": self._fence, "wait_s": 20})
        assert answer.json()["state"] == "ended"
        return dict(answer.json())

    def log(self) -> str:
        return self._client.get(f"{self._path}/log", params={"fence": self._fence}).text


def test_worker_offers_its_slots_under_its_name_tags_and_address() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process(
            *("--id", "w1", "--tags", "gpu, cuda-12.0", "--tags", "auto", "--max-tasks", "7"),
            scheduler=scheduler.url,
        ) as worker,
    ):
        row = known(scheduler)
        assert row["address"] == worker.address
        assert row["trusted"]
        assert row["max_tasks"] == 7
        assert row["resource_tags"][:4] == ["gpu", "cuda-12.0", "linux", os.uname().machine]


def test_worker_without_a_name_takes_that_of_its_host_and_port() -> None:
    with running_scheduler() as scheduler, worker_process(scheduler=scheduler.url) as worker:
        port = worker.address.rpartition(":")[2]
        known(scheduler, f"{socket.gethostname()}:{port}")


def test_slot_of_a_task_is_free_at_once_when_it_ends() -> None:
    """The interval is a minute, so only the heartbeat at its end can have told."""
    with (
        running_scheduler() as scheduler,
        worker_process(
            "--id", "w1", "--max-tasks", "1", "--interval", "60", scheduler=scheduler.url
        ),
    ):
        known(scheduler)
        with Task(scheduler, "echo", "hello") as task:
            assert task.ended()["exit_code"] == 0
            assert task.log() == "hello\n"
        eventually(lambda: rows(scheduler)["w1"]["current_tasks"] == 0)
        assert rows(scheduler)["w1"]["leases"] == 0


def test_worker_reports_to_every_scheduler() -> None:
    with (
        running_scheduler() as one,
        running_scheduler() as other,
        worker_process("--id", "w1", scheduler=f"{one.url},{other.url}"),
    ):
        assert known(one)["incarnation"] == known(other)["incarnation"]


def test_drained_worker_ends_what_it_holds_takes_no_more_and_leaves() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process(
            "--id", "w1", "--max-tasks", "4", "--interval", "0.2", scheduler=scheduler.url
        ) as worker,
    ):
        known(scheduler)
        go, done = worker.log.with_name("go"), worker.log.with_name("done")
        with Task(scheduler, "sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done; touch {done}"):
            pass
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: rows(scheduler)["w1"]["draining"])
        assert place(scheduler).json()["reasons"] == {"draining": 1}
        assert rows(scheduler)["w1"]["status"] == "online"
        go.touch()
        assert worker.process.wait(20) == 0
        assert done.exists()
        assert rows(scheduler)["w1"]["status"] == "offline"


def test_client_that_waits_for_its_task_reads_the_log_of_a_drained_worker() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url) as worker,
    ):
        known(scheduler)
        with Task(scheduler, "sh", "-c", "sleep 0.5; echo done") as task:
            worker.process.send_signal(signal.SIGTERM)
            assert task.ended()["exit_code"] == 0
            assert task.log() == "done\n"
        assert worker.process.wait(20) == 0


def test_task_that_outlasts_the_grace_is_stopped() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", "--grace", "0.2", scheduler=scheduler.url) as worker,
    ):
        known(scheduler)
        seconds = duration()
        with Task(scheduler, "sleep", seconds):
            eventually(lambda: len(sleepers(seconds)) == 1)
        assert worker.stop() == 0
        assert sleepers(seconds) == []
        assert rows(scheduler)["w1"]["status"] == "offline"


def test_second_signal_cuts_the_grace_short() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url) as worker,
    ):
        known(scheduler)
        seconds = duration()
        with Task(scheduler, "sleep", seconds):
            eventually(lambda: len(sleepers(seconds)) == 1)
        worker.process.send_signal(signal.SIGINT)
        eventually(lambda: "worker draining" in worker.log.read_text())
        assert len(sleepers(seconds)) == 1
        assert worker.stop(signal.SIGINT) == 0
        assert sleepers(seconds) == []


def test_killed_worker_comes_back_at_once_under_its_name() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url) as first,
    ):
        before = known(scheduler)["incarnation"]
        first.process.kill()
        first.process.wait()
        with worker_process("--id", "w1", scheduler=scheduler.url, addr=first.address):
            eventually(lambda: rows(scheduler)["w1"]["incarnation"] != before)


def test_log_has_a_line_for_each_change_and_none_for_a_heartbeat() -> None:
    async def answer(request: Request) -> tuple[int, Any]:
        if request.line.startswith("POST"):
            return await ok(request)
        return 404, {"error": "There is no such path.", "code": "no_route"}

    async def main() -> None:
        async with Recorder(answer) as scheduler:
            arguments = ("--interval", "0.05", "--log-format", "json", "--id", "w1")

            def work() -> str:
                with worker_process(*arguments, scheduler=scheduler.url) as worker:
                    eventually(lambda: len(scheduler.requests) > 10)
                    assert worker.stop() == 0
                    return worker.log.read_text()

            lines = [json.loads(line) for line in (await asyncio.to_thread(work)).splitlines()]
        assert [line["message"] for line in lines] == [
            "worker started",
            f"The scheduler {scheduler.url} knows this worker.",
            f"The scheduler {scheduler.url} has no channel for jobs: it only places tasks here.",
            "worker stopped",
        ]
        assert lines[0]["worker_id"] == "w1"

    asyncio.run(main())


def test_scheduler_that_is_not_there_is_said_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with worker_process("--interval", "0.05", scheduler=url) as worker:
            eventually(lambda: "Connection refused" in worker.log.read_text())
            assert worker.stop() == 0
            assert worker.log.read_text().count("does not answer") == 1


def test_second_worker_of_an_id_says_who_holds_it_and_takes_nothing() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url) as first,
    ):
        before = known(scheduler)["incarnation"]
        with worker_process("--id", "w1", scheduler=scheduler.url) as second:
            eventually(lambda: "does not take this worker" in second.log.read_text())
            assert first.address in second.log.read_text()
            assert rows(scheduler)["w1"]["incarnation"] == before


def test_worker_whose_disk_is_full_drains_until_there_is_room(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 3) as disk,
        running_scheduler() as scheduler,
        worker_process(
            *("--id", "w1", "--interval", "0.2", "--spool", str(disk.path / "spool")),
            scheduler=scheduler.url,
        ) as worker,
    ):
        eventually(lambda: "w1" in rows(scheduler))
        disk.fill()
        eventually(lambda: rows(scheduler)["w1"]["draining"])
        assert f"The spool {disk.path}/spool is full: no tasks are taken" in worker.log.read_text()
        disk.free()
        eventually(lambda: not rows(scheduler)["w1"]["draining"])
        assert f"The spool {disk.path}/spool has room again." in worker.log.read_text()


def test_second_worker_on_a_spool_is_refused(tmp_path: Path) -> None:
    with running_scheduler() as scheduler:
        flags = ("--spool", str(tmp_path))
        with worker_process(*flags, scheduler=scheduler.url):
            code, said = refused(*flags, "--addr", "127.0.0.1:0", DTASK_TOKEN=scheduler.token)
    assert code == 1
    assert "uses the spool" in said


def test_token_that_does_not_fit_ends_the_worker_with_a_sentence() -> None:
    with running_scheduler() as scheduler:
        code, said = refused(
            *("--addr", "127.0.0.1:0", "--scheduler", scheduler.url),
            DTASK_TOKEN="some-other-token-entirely",
        )
    assert code == 1
    error = said.splitlines()[-1]
    assert error.startswith(f"Error: The scheduler {scheduler.url} does not take this worker: ")
    assert "token" in error


def test_superseded_worker_ends_with_the_sentence_of_the_scheduler() -> None:
    async def main() -> None:
        body = {"error": "A newer life of w1 has taken over.", "code": "superseded"}
        async with Recorder(always(409, body)) as scheduler:
            code, said = await asyncio.to_thread(
                refused,
                *("--addr", "127.0.0.1:0", "--scheduler", scheduler.url, "--id", "w1"),
                DTASK_TOKEN="a-token-for-tests-only",
            )
            assert len(scheduler.requests) == 1
        assert code == 1
        assert said.endswith("A newer life of w1 has taken over.\n")

    asyncio.run(main())


def test_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = refused("--addr", address)
    assert code == 1
    [error] = said.splitlines()
    assert error.startswith(f"Error: --addr: can't listen on {address} (Address already in use): ")


def test_unknown_flag_is_a_sentence_and_exit_code_2() -> None:
    code, said = refused("--frobnicate")
    assert code == 2
    assert "No such option '--frobnicate'" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-tasks", "many"], "'many' is not a valid integer"),
        (["--max-tasks", "0"], "--max-tasks: expected 1 to 100000, got 0."),
        (["--interval", "0"], "--interval: expected more than 0"),
        (["--grace", "-1"], "--grace: expected seconds, 0 or more, got -1."),
        (["--grace", "nan"], "--grace: expected seconds, 0 or more, got nan."),
        (["--id", ""], "--id: expected 1 to 128 printable characters."),
        (["--tags", "gpu,a|b"], "--tags: the tag 'a|b' holds '|', which is reserved"),
        (["--addr", "8081"], "--addr: '8081' is not an address: expected HOST:PORT"),
        (["--addr", "127.0.0.1:99999"], "--addr: 99999 is not a port: expected 0 to 65535."),
        (["--advertise", "here"], "--advertise: 'here' is not an address"),
        (["--scheduler", "localhost:8080"], "'localhost:8080' is not the address of a scheduler"),
        (["--scheduler", "http://192.0.2.1:8080"], "expected --addr 0.0.0.0:8081"),
    ],
)
def test_wrong_flag_is_a_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    said = CliRunner(env={"XDG_STATE_HOME": str(tmp_path)}).invoke(command, arguments)
    assert said.exit_code == 2
    assert sentence in said.stderr.splitlines()[-1]
    assert said.stdout == ""


def test_flags_may_be_set_by_the_environment(tmp_path: Path) -> None:
    for variable, sentence in {
        "DTASK_WORKER_ID": "--id: expected",
        "DTASK_ADDR": "--addr: ",
        "DTASK_ADVERTISE": "--advertise: ",
        "DTASK_TAGS": "--tags: ",
        "DTASK_MAX_TASKS": "--max-tasks",
        "DTASK_GPUS_PER_TASK": "--gpus-per-task",
        "DTASK_SCHEDULER": "DTASK_SCHEDULER: ",
        "DTASK_INTERVAL": "--interval",
        "DTASK_GRACE": "--grace",
        "DTASK_LOG_FORMAT": "--log-format",
    }.items():
        env = {"XDG_STATE_HOME": str(tmp_path), variable: "\t!"}
        said = CliRunner(env=env).invoke(command, [])
        assert said.exit_code == 2, variable
        assert sentence in said.stderr


@pytest.mark.parametrize(
    ("host", "scheduler", "reached"),
    [
        ("127.0.0.1", "http://localhost:8080", "127.0.0.1"),
        ("0.0.0.0", "http://127.0.0.1:8080", "127.0.0.1"),
        ("192.0.2.7", "http://192.0.2.1:8080", "192.0.2.7"),
    ],
)
def test_worker_tells_the_address_under_which_it_is_reached(
    host: str, scheduler: str, reached: str
) -> None:
    assert door.reached_host(host, [scheduler]) == reached


def test_worker_that_listens_everywhere_tells_no_loopback_to_a_scheduler_elsewhere() -> None:
    reached = door.reached_host("0.0.0.0", ["http://127.0.0.1:8080", "http://192.0.2.1:8080"])
    assert not reached.startswith("127.")


def test_worker_without_a_port_takes_the_first_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as freed,
    ):
        ports = [sock.getsockname()[1] for sock in (taken, freed)]
        freed.close()
        monkeypatch.setattr(door, "PORTS", ports)
        with door.listen("127.0.0.1", None) as found:
            assert found.getsockname()[1] == ports[1]
            with pytest.raises(InvalidRequest, match="is free: name another one"):
                door.listen("127.0.0.1", None)
