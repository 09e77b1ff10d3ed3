"""Disks that fill up under a scheduler or a worker while jobs run: nothing acknowledged is lost."""

import re
import signal
from pathlib import Path

import pytest

from disks import small_disk
from dtask import Client
from dtask.errors import Unavailable
from e2e.site import TOKEN, eventually, site
from servers import PATIENCE_S
from worker.processes import duration, sleepers

pytestmark = pytest.mark.e2e


def submitted_until_refused(client: Client) -> tuple[list[int], Unavailable]:
    """Jobs that use up what was free in the file itself, and the refusal that ended them."""
    told: list[int] = []
    while len(told) < 2_000:
        try:
            told.append(client.submit(["true"], env={"TEXT": "x" * 30_000}).id)
        except Unavailable as error:
            return told, error
    raise AssertionError("the disk never was full")


def test_a_full_data_directory_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    go = tmp_path / "go"
    until_go = f"until [ -e {go} ]; do sleep 0.02; done; seq 20000; echo $DTASK_NUMBER"
    with (
        small_disk(tmp_path / "disk", 3) as disk,
        site(workers=1, data=disk.path / "data") as place,
        Client(place.url, token=TOKEN, patience_s=0.2) as hasty,
    ):
        told = [place.client.submit(["sh", "-c", until_go]).id for _ in range(3)]
        for job_id in told:
            place.await_state(job_id, "running")
        disk.fill()
        more, refused = submitted_until_refused(hasty)
        told += more
        assert refused.code == "store_failed"
        path = place.data / "dtask.db"
        assert str(refused) == f"{path} can't be written: the disk is full. Make room on it."
        # They end meanwhile, and nobody can say so yet. What can be asked is answered.
        go.touch()
        reason = "The scheduler can't write logs: the disk is full."
        eventually(lambda: reason in place.workers["w1"].log.read_text())
        assert place.shell.run("jobs", "--state", "running").code == 0
        assert place.client.workers()[0].status == "online"
        disk.free()
        for job_id in told:
            assert place.client.wait(job_id, timeout_s=40).ok
            assert place.client.job(job_id).tasks["main"].number == 1
        for job_id in told[:3]:
            assert len(b"".join(place.client.logs(job_id)).split()) == 20_001
        assert place.client.submit(["true"]).wait(20).ok


@pytest.mark.parametrize("command", [("run", "--scratch", "--"), ("map", "--scratch")])
def test_a_stop_that_a_full_disk_refuses_is_asked_for_until_it_is_heard(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    nap = duration()
    with (
        small_disk(tmp_path / "disk", 3) as disk,
        site(workers=1, data=disk.path / "data") as place,
        Client(place.url, token=TOKEN, patience_s=0.2) as hasty,
    ):
        words = ("sleep", nap) if command[0] == "run" else ("sleep", ":::", nap)
        with place.shell.start(*command, *words) as process:
            assert process.stderr is not None
            eventually(lambda: bool(sleepers(nap)))
            disk.fill()
            left, _ = submitted_until_refused(hasty)
            process.send_signal(signal.SIGINT)
            said = process.stderr.readline()
            while "can't be stopped yet: " not in said:
                assert said
                said = process.stderr.readline()
            assert "the disk is full" in said
            assert said.endswith("Trying on.\n")
            assert sleepers(nap)
            with place.shell.terminal("submit", "--scratch", "--", "true") as terminal:
                terminal.until("Waiting for the scheduler, which has not taken this in yet.")
                disk.free()
                terminal.end()
            assert process.wait(2 * PATIENCE_S) == 130
        assert not sleepers(nap)
        for job_id in left:
            assert place.client.wait(job_id, timeout_s=40).ok


def test_a_full_spool_keeps_tasks_away_and_is_told_to_those_that_met_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3) as disk, site() as place:
        place.spools["w1"] = disk.path / "spool"
        place.start_worker("w1", "--tags", "a")
        place.await_workers(1)
        flood = place.client.submit(["sh", "-c", "head -c 8M /dev/zero"]).wait(20)
        assert (flood.state, flood.tasks["main"].cause) == ("failed", "exit")
        ran = place.shell.run("job", str(flood.id))
        assert "failed with exit code 1: The worker's spool" in ran.out
        assert "was full: what this wrote may be missing" in ran.out
        # It went with its task.
        assert place.client.submit(["true"]).wait(20).ok
        disk.fill()
        eventually(lambda: place.client.workers()[0].draining)
        waits = place.client.submit(["sh", "-c", "echo here"])
        ran = place.shell.run("why", str(waits.id))
        assert re.search(r"Of 1 worker, 1 is draining", ran.out)
        assert "draining: its spool is full" in place.shell.run("workers").out
        place.start_worker("w2")
        assert waits.wait(20).ok
        assert waits.look().tasks["main"].worker_id == "w2"
        only = place.client.submit(["sh", "-c", "echo there"], tags=["a"])
        disk.free()
        assert only.wait(20).ok
        assert "draining" not in place.shell.run("workers").out
        assert b"".join(only.logs()) == b"there\n"
