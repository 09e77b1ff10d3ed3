"""Agents that are killed, channels that are cut, drains, stores that are put back.

Nothing is stuck, nothing runs twice at a time on one machine, and nothing is used up that the task
is not to blame for.
"""

import shutil
import signal
from contextlib import closing
from pathlib import Path

import pytest

from e2e.relay import ChannelRelay
from e2e.site import BRISK, eventually, site
from worker.processes import duration, guard_of, sleepers

pytestmark = pytest.mark.e2e


def test_the_task_of_a_killed_agent_is_gone_before_its_retry_starts(tmp_path: Path) -> None:
    """Each run holds a lock with all its processes, also those that left its session."""
    nap, lock, runs = duration(), tmp_path / "lock", tmp_path / "runs"
    text = (
        f"exec 9>>{lock}; flock -n 9 || {{ echo both >> {runs}; exit 9; }}; "
        f"setsid sleep {nap} & echo $DTASK_NUMBER >> {runs}; "
        f"[ $DTASK_NUMBER = 3 ] && exit 0; trap '' TERM; sleep {nap} & wait; wait"
    )
    with site(*BRISK, workers=2) as place:
        job = place.client.submit(["sh", "-c", text], crash_limit=9, grace_s=0)
        for number, elsewhere in enumerate((False, True), start=1):
            eventually(lambda: runs.exists() and len(runs.read_text().split()) == number)  # noqa: B023
            place.await_state(job.id, "running")
            held_by = job.look().tasks["main"].worker_id
            assert held_by is not None
            place.kill_worker(held_by)
            if elsewhere:  # it comes back when the retry has started on the other worker
                eventually(lambda: len(runs.read_text().split()) > number)  # noqa: B023
            place.start_worker(held_by)
        assert job.wait(30).ok
        assert runs.read_text().split() == ["1", "2", "3"]
        assert sleepers(nap) == []
        assert job.look().tasks["main"].crashes == 2


def test_heartbeats_that_pass_while_the_channel_does_not_leave_no_task_stuck() -> None:
    nap = duration()
    text = f"[ $DTASK_NUMBER = 2 ] || exec sleep {nap}"
    with site(*BRISK) as place, closing(ChannelRelay(int(place.url.rpartition(":")[2]))) as relay:
        place.start_worker("w1", "--tags", "a,b", url=relay.url)
        place.await_workers(1)
        job = place.client.submit(["sh", "-c", text], tags=["a"])
        eventually(lambda: len(sleepers(nap)) == 1)
        place.await_state(job.id, "running")
        relay.cut()
        place.start_worker("w2", "--tags", "a")
        assert job.wait(20).ok
        assert job.look().tasks["main"].worker_id == "w2"
        assert [row.status for row in place.client.workers()] == ["online", "online"]
        only = place.client.submit(["true"], tags=["b"])
        [reason] = only.why().reasons
        assert "1 has no open channel" in reason.sentence
        assert relay.refused > 0
        # Nobody could tell the first one that it is not waited for any more.
        assert len(sleepers(nap)) == 1
        relay.mend()
        assert only.wait(20).ok
        eventually(lambda: sleepers(nap) == [])
        assert place.causes(f"{job.id}/main") == ["lost", None]


def test_a_drain_uses_up_nothing_whether_its_tasks_end_in_time_or_not(tmp_path: Path) -> None:
    """SIGTERM: what ends within the grace has ended, the rest runs again elsewhere."""
    nap, go = duration(), tmp_path / "go"
    with site() as place:
        worker = place.start_worker("w1", "--grace", "1")
        place.await_workers(1)
        short = place.client.submit(["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done"])
        long = place.client.submit(
            ["sh", "-c", f"[ $DTASK_NUMBER = 2 ] || exec sleep {nap}"], crash_limit=1
        )
        place.await_state(short.id, "running")
        place.await_state(long.id, "running")
        del place.workers["w1"]
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: place.client.workers()[0].draining)
        go.touch()
        assert short.wait(20).ok
        place.start_worker("w2")
        assert long.wait(20).ok
        assert worker.process.wait(20) == 0
        assert short.look().tasks["main"].number == 1
        ended = long.look().tasks["main"]
        assert (ended.number, ended.crashes, ended.failures) == (2, 0, 0)
        assert place.causes(f"{long.id}/main") == ["returned", None]
        assert sleepers(nap) == []


def test_an_agent_that_stands_still_with_its_guard_killed_leaves_nothing() -> None:
    """Both are killed at once, and so nobody stops the task but the next agent of that spool."""
    nap = duration()
    with site(*BRISK, workers=1) as place:
        job = place.client.submit(
            ["sh", "-c", f"[ $DTASK_NUMBER = 2 ] || {{ setsid sleep {nap} & wait; }}"]
        )
        eventually(lambda: len(sleepers(nap)) == 1)
        worker = place.workers["w1"]
        worker.process.send_signal(signal.SIGSTOP)
        guard_of(worker.process.pid).kill()
        place.kill_worker("w1")
        assert len(sleepers(nap)) == 1
        place.start_worker("w1")
        assert job.wait(20).ok
        assert sleepers(nap) == []
        assert place.causes(f"{job.id}/main") == ["lost", None]


def test_a_backup_that_is_put_back_goes_on_from_where_it_was_made(tmp_path: Path) -> None:
    """What ran then and still runs goes on; what came later is not known and is stopped."""
    nap, go, copy, words = duration(), *(tmp_path / name for name in ("go", "copy.db", "words"))
    words.write_text("what it wrote before\n")
    until_go = f"echo first; until [ -e {go} ]; do sleep 0.02; done; echo done"
    with site(workers=1) as place:
        place.client.set_queue("later", paused=True)
        kept = place.client.submit(["sh", "-c", until_go])
        again = place.client.submit(["cat", str(words)], queue="later")
        place.await_state(kept.id, "running")
        ran = place.shell.run("backup", str(copy))
        assert ran.code == 0, ran.err
        place.client.set_queue("later", paused=False)
        assert again.wait(20).ok
        unknown = place.client.submit(["sh", "-c", f"echo unknown; exec sleep {nap}"])
        eventually(lambda: len(sleepers(nap)) == 1)
        eventually(lambda: b"".join(unknown.logs()) == b"unknown\n")
        place.kill_scheduler()
        shutil.copy(copy, place.data / "dtask.db")
        for suffix in ("-wal", "-shm"):
            (place.data / f"dtask.db{suffix}").unlink(missing_ok=True)
        place.start_scheduler()
        eventually(lambda: sleepers(nap) == [])
        place.await_workers(1)
        go.touch()
        assert kept.wait(20).ok
        assert kept.look().tasks["main"].number == 1
        assert b"".join(kept.logs()) == b"first\ndone\n"
        # It has not run yet, as far as this store knows; what it wrote then is not mixed in.
        words.write_text("and now\n")
        place.client.set_queue("later", paused=False)
        assert again.wait(20).ok
        assert b"".join(again.logs()) == b"and now\n"
        fresh = place.client.submit(["sh", "-c", "echo new"])
        assert fresh.id == unknown.id
        assert fresh.wait(20).ok
        assert b"".join(fresh.logs()) == b"new\n"


def test_a_store_that_is_lost_is_a_new_one_and_nothing_of_the_old_goes_on() -> None:
    nap = duration()
    with site(workers=1) as place:
        place.client.submit(["sh", "-c", f"echo old; exec sleep {nap}"])
        eventually(lambda: len(sleepers(nap)) == 1)
        place.kill_scheduler()
        shutil.rmtree(place.data)
        place.start_scheduler()
        eventually(lambda: sleepers(nap) == [])
        job = place.client.submit(["sh", "-c", "echo new"])
        assert job.wait(20).ok
        assert (job.id, b"".join(job.logs())) == (1, b"new\n")
