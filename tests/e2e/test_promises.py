"""The nine promises of jobs, each over real processes.

What stands here is the shortest proof of each. `tests/core/test_promises.py` has the same list for
the core alone; and further:

1. An acknowledged submit survives. Here: kill -9 in the middle of submits. The power loss of a
   machine can't be tested: `tests/store` asserts that each commit is synced to the disk before it
   is answered (WAL, synchronous=FULL), and kills processes in the middle of commits.
   `bench/torture` kills under 500 running tasks.
2. At least once. Here, `test_losses.py` and `bench/torture`.
3. One accepted result. Here; in virtual time `tests/sim`, with mutants that break it.
4. A restart of the scheduler runs nothing again. Here; `bench/torture`, fault `scheduler`.
5. Results and logs are kept until they are heard. Here; `tests/worker/test_channel.py` cuts at
   every point.
6. What fits nowhere blocks nobody. Here; `tests/core/test_jobs_queues.py`.
7. The whole tree is stopped. Here; `tests/worker/test_attempts_of_jobs.py`, `test_process.py`.
8. Nothing grows without bound. Here for logs; other limits where they are: bodies, waiters and
   followers in `tests/scheduler`, windows of channels in `tests/worker/test_channel.py`, kept jobs
   in `tests/core/test_jobs_memory.py`.
9. Every waiting task says why. Here and in `tests/core/test_jobs_why.py`.
"""

import contextlib
import hashlib
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from dtask import Client
from dtask.errors import Conflict
from e2e.site import BRISK, TOKEN, eventually, site
from worker.processes import duration, sleepers

pytestmark = pytest.mark.e2e


def test_promise_1_an_acknowledged_submit_survives_kill_9_of_the_scheduler(
    tmp_path: Path,
) -> None:
    """Killed at any moment while jobs come in: what was answered is there, once, and runs once."""
    runs = tmp_path / "runs"
    rng = random.Random(1)
    with site(workers=1) as place:
        told: list[int] = []
        enough = threading.Event()

        def submit() -> None:
            with Client(place.url, token=TOKEN) as client:
                while not enough.is_set():
                    command = ["sh", "-c", f"echo $DTASK_JOB >> {runs}"]
                    told.append(client.submit(command).id)

        thread = threading.Thread(target=submit)
        thread.start()
        for _ in range(4):
            before = len(told)
            eventually(lambda before=before: len(told) > before + 3)
            time.sleep(rng.uniform(0, 0.02))  # which moment it meets is what is drawn
            place.kill_scheduler()
            place.start_scheduler()
        enough.set()
        thread.join()
        assert len(told) == len(set(told))
        for job_id in told:
            assert place.client.wait(job_id, timeout_s=30).ok
        known = [job.job_id for job in place.client.jobs()]
        # Nothing was made twice, though answers were lost: each submit has its key.
        assert known == sorted(told, reverse=True)
        assert sorted(map(int, runs.read_text().split())) == sorted(told)


def test_promise_2_a_task_whose_worker_is_lost_runs_again_and_uses_up_no_retry() -> None:
    """Its agent is killed and does not come back: `crash_limit` counts that, `retry.max` not."""
    nap = duration()
    text = f"[ $DTASK_NUMBER = 2 ] || exec sleep {nap}"
    with site(*BRISK, workers=1) as place:
        job = place.client.submit(["sh", "-c", text], crash_limit=2)
        fragile = place.client.submit(["sh", "-c", f"exec sleep {nap}"], crash_limit=1)
        eventually(lambda: len(sleepers(nap)) == 2)
        for each in (job, fragile):
            place.await_state(each.id, "running")
        place.kill_worker("w1")
        place.start_worker("w2")
        assert job.wait(20).ok
        assert place.causes(f"{job.id}/main") == ["lost", None]
        summary = job.look().tasks["main"]
        assert (summary.failures, summary.crashes, summary.worker_id) == (0, 1, "w2")
        ended = fragile.wait(20).tasks["main"]
        assert (ended.state, ended.cause) == ("failed", "lost")
        assert ended.error == "Its worker was lost once while it ran."
        assert sleepers(nap) == []


def test_promise_3_the_result_of_a_worker_that_was_given_up_is_refused_and_its_process_stopped(
    tmp_path: Path,
) -> None:
    """Paused past offline, its tasks re-run elsewhere, then resumed."""
    nap, go = duration(), tmp_path / "go"
    # The first attempt of `quick` ends as soon as its agent can be told so, that of `slow` never.
    quick = f'[ $DTASK_NUMBER = 2 ] || until [ -e {go} ]; do sleep 0.02; done; echo "$DTASK_NUMBER"'
    slow = f"[ $DTASK_NUMBER = 2 ] || exec sleep {nap}; echo $DTASK_NUMBER"
    with site(*BRISK, workers=1) as place:
        jobs = [place.client.submit(["sh", "-c", each]) for each in (quick, slow)]
        for job in jobs:
            place.await_state(job.id, "running")
        eventually(lambda: bool(sleepers(nap)))
        place.workers["w1"].process.send_signal(signal.SIGSTOP)
        place.start_worker("w2")
        for job in jobs:
            assert job.wait(30).ok
        go.touch()
        assert sleepers(nap) != []
        place.workers["w1"].process.send_signal(signal.SIGCONT)
        eventually(lambda: sleepers(nap) == [])
        eventually(lambda: "refused=2" in place.scheduler.log.read_text())
        place.await_workers(2)
        for job in jobs:
            assert b"".join(job.logs()) == b"2\n"
            assert [one.state for one in place.client.attempts(job.id)] == [
                "succeeded",
                "cancelled",
            ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_promise_4_a_restart_of_the_scheduler_runs_nothing_again(
    number: signal.Signals, tmp_path: Path
) -> None:
    runs, go = tmp_path / "runs", tmp_path / "go"
    text = f"echo $DTASK_INDEX >> {runs}; until [ -e {go} ]; do sleep 0.02; done; echo done"
    with site(*BRISK, workers=2) as place:
        job = place.client.submit(["sh", "-c", text], array=12)
        eventually(lambda: runs.exists() and len(runs.read_text().split()) == 8)
        place.scheduler.stop(number)
        if number == signal.SIGKILL:
            time.sleep(3.2)  # longer than a worker may be away: that is no fault of theirs
        place.start_scheduler()
        place.await_workers(2)
        assert len(runs.read_text().split()) == 8
        go.touch()
        assert job.wait(30).ok
        assert sorted(map(int, runs.read_text().split())) == list(range(12))
        assert all(element.number == 1 for element in place.client.elements(job.id))
        assert b"".join(job.logs(index=0)) == b"done\n"


def test_promise_5_a_result_outlives_everything_until_the_scheduler_has_it(tmp_path: Path) -> None:
    """It ends while nobody listens; its agent is killed before anybody does."""
    go, ended = tmp_path / "go", tmp_path / "ended"
    text = (
        f"until [ -e {go} ]; do sleep 0.02; done; seq 400000; seq 99 >&2; "
        f"echo 42 > $DTASK_RESULT; touch {ended}; exit 7"
    )
    with site(workers=1) as place:
        job = place.client.submit(["sh", "-c", text])
        place.await_state(job.id, "running")
        place.kill_scheduler()
        go.touch()
        eventually(ended.exists)
        journal = place.spool("w1") / "journal"
        eventually(lambda: b'"exit_code":7' in journal.read_bytes())
        place.kill_worker("w1")
        place.start_worker("w1")
        place.start_scheduler()
        shown = job.wait(30).tasks["main"]
        assert (shown.state, shown.exit_code, shown.number) == ("failed", 7, 1)
        # Whoever sees the end sees the whole log, at once.
        wanted = b"".join(b"%d\n" % number for number in range(1, 400_001))
        found = hashlib.sha256(b"".join(job.logs()))
        assert found.hexdigest() == hashlib.sha256(wanted).hexdigest()
        assert b"".join(job.logs(stream="stderr")).split() == [b"%d" % i for i in range(1, 100)]
        assert job.result() == b"42\n"
        [attempt] = place.client.attempts(job.id)
        assert not attempt.log_lost


def test_promise_6_what_fits_nowhere_delays_nobody() -> None:
    with site(workers=1) as place:
        ahead = [
            place.client.submit(["true"], priority=9, tags=[f"tpu-{i}"], array=1000)
            for i in range(50)
        ]
        took = []
        for _ in range(10):
            before = time.monotonic()
            assert place.client.submit(["true"]).wait(20).ok
            took.append(time.monotonic() - before)
        # As fast as on an idle cluster, give or take what this machine is busy with.
        assert sorted(took)[5] < 0.5
        ran = place.shell.run("why", str(ahead[0].id))
        assert "No worker can take it (tpu-0). Of 1 worker, 1 lacks tpu-0." in ran.out
        for job in ahead:
            job.cancel()
        assert {job.look().state.value for job in ahead} == {"cancelled"}


def test_promise_7_a_cancel_and_a_timeout_leave_nothing_of_the_tree() -> None:
    nap = duration()
    tree = f"sh -c 'trap \"\" TERM; setsid sleep {nap} & sleep {nap} & wait; wait' & wait"
    with site(workers=1) as place:
        cancelled = place.client.submit(["sh", "-c", tree], grace_s=0.2)
        eventually(lambda: len(sleepers(nap)) == 2)
        ran = place.shell.run("cancel", str(cancelled.id))
        assert ran.code == 0
        assert cancelled.wait(20).state == "cancelled"
        assert sleepers(nap) == []
        late = place.client.submit(["sh", "-c", tree], timeout_s=1.5, grace_s=0.2).wait(20)
        assert (late.tasks["main"].state, late.tasks["main"].cause) == ("failed", "timeout")
        assert sleepers(nap) == []


def test_promise_8_a_flood_of_output_is_cut_with_a_mark_and_costs_no_more() -> None:
    """Both streams at once, from a task that would never end."""
    with site("--log-max-mb", "1", workers=1) as place:
        text = "yes out & yes err >&2 & sleep 1; kill %1 %2; echo the end"
        job = place.client.submit(["bash", "-c", text])
        assert job.wait(30).ok
        [attempt] = place.client.attempts(job.id)
        assert attempt.truncated
        assert not attempt.log_lost
        assert attempt.stdout_bytes == attempt.stderr_bytes == 512 * 1024
        assert len(b"".join(job.logs())) == 512 * 1024
        kept = sum(path.stat().st_size for path in (place.data / "logs").rglob("*.std*"))
        assert kept <= 1024 * 1024
        ran = place.shell.run("logs", str(job.id))
        assert ran.err == "dtask: It wrote more than is kept: what is over is left out.\n"
        ran = place.shell.run("logs", "--follow", str(job.id))
        assert ran.out.endswith("[dtask: it wrote more than is kept; the rest is left out]\n")


def test_promise_9_every_waiting_task_says_why(tmp_path: Path) -> None:
    go = tmp_path / "go"
    until_go = ["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done"]
    with site(workers=1) as place:
        submit = place.client.submit
        place.client.set_queue("held", paused=True)
        place.client.set_queue("narrow", max_running=1)
        first = submit(until_go, queue="narrow")
        place.await_state(first.id, "running")
        jobs = {
            "It runs on worker w1.": first,
            "The queue narrow runs 1 at a time, which is its limit.": submit(
                ["true"], queue="narrow"
            ),
            "The queue held is paused.": submit(["true"], queue="held"),
            "No worker can take it (gpu). Of 1 worker, 1 lacks gpu.": submit(
                ["true"], tags=["gpu"]
            ),
            f"It comes after job {first.id}, which has not ended.": submit(
                ["true"], after=[first.id]
            ),
            "It is not to start before a time that is": submit(
                ["true"], not_before=time.time() + 600
            ),
            "It needs tasks that have not ended: a (running).": submit(
                {"tasks": {"a": {"command": until_go}, "b": {"command": ["true"], "needs": ["a"]}}}
            ),
            "Attempt 1 came to nothing (exit); the next one comes in": (
                again := submit(["false"], retry={"max": 9, "backoff_s": 600})
            ),
        }
        place.await_state(again.id, "pending")
        for sentence, job in jobs.items():
            eventually(
                lambda job=job, sentence=sentence: any(
                    sentence in reason.sentence for reason in job.why().reasons
                )
            )
        full = submit(until_go, array=3)
        eventually(lambda: any("is full" in reason.sentence for reason in full.why().reasons))
        ran = place.shell.run("why", str(full.id))
        assert "is full" in ran.out
        go.touch()
        for job in jobs.values():
            if not job.look().ended:
                with contextlib.suppress(Conflict):  # it has ended meanwhile
                    job.cancel()
