"""Runs on real worker processes, some of which come to harm."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from dtask import AsyncClient, Client
from dtask.client import runs
from dtask.errors import Unavailable
from servers import PATIENCE_S, RunningScheduler, running_scheduler, scheduler_process
from workers import WorkerProcess, worker_process

pytestmark = pytest.mark.e2e


class Fleet:
    """A real scheduler, real workers, and a client."""

    def __init__(self, scheduler: RunningScheduler, stack: ExitStack) -> None:
        self.scheduler = scheduler
        self.client = Client(scheduler.url, token=scheduler.token)
        self._stack = stack

    def worker(self, worker_id: str, *arguments: str, max_tasks: int = 4) -> WorkerProcess:
        """Start a worker, and wait until it can be placed on."""
        before = {worker.worker_id: worker.incarnation for worker in self.client.workers()}
        started = self._stack.enter_context(
            worker_process(
                *("--id", worker_id, "--max-tasks", str(max_tasks)),
                *arguments,
                scheduler=self.scheduler.url,
                token=self.scheduler.token,
            )
        )
        eventually(
            lambda: any(
                worker.worker_id == worker_id and worker.incarnation != before.get(worker_id)
                for worker in self.client.workers()
            )
        )
        return started

    def idle(self) -> bool:
        """Whether no slot is taken."""
        return all(worker.current_tasks == 0 for worker in self.client.workers())


@pytest.fixture(name="fleet")
def a_fleet() -> Iterator[Fleet]:
    with running_scheduler() as scheduler, ExitStack() as stack:
        fleet = Fleet(scheduler, stack)
        yield fleet
        fleet.client.close()  # before its workers, which would wait for it to read how tasks ended


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_is_run_with_its_environment_and_its_output_is_returned(fleet: Fleet) -> None:
    fleet.worker("w1")
    outcome = fleet.client.run_on(
        ["sh", "-c", "echo $WHO; echo sorry >&2; exit 3"], env={"WHO": "me"}
    )
    assert (outcome.worker_id, outcome.exit_code, outcome.cause) == ("w1", 3, None)
    assert (outcome.stdout, outcome.stderr) == (b"me\n", b"sorry\n")
    assert not outcome.ok
    assert not outcome.truncated
    assert outcome.ended_at >= outcome.started_at

    outcome = fleet.client.run_on(["seq", "1000"], output_bytes=4)
    assert (outcome.stdout, outcome.truncated) == (b"1\n2\n", True)

    outcome = fleet.client.run_on(["sleep", "1000"], timeout_s=0.1)
    assert (outcome.exit_code, outcome.cause) == (-15, "timeout")

    outcome = fleet.client.run_on(["/no/such/program"])
    assert outcome.cause == "start_failed"
    assert "/no/such/program" in (outcome.error or "")
    assert fleet.idle()


@pytest.mark.parametrize("task_id", ["a/b", "..", "x/log", "é ?#%2F"])
def test_a_task_of_any_id_can_be_run(task_id: str, fleet: Fleet) -> None:
    fleet.worker("w1")
    outcome = fleet.client.run_on(["sh", "-c", "sleep 0.05; echo hi"], task_id=task_id)
    assert (outcome.task_id, outcome.stdout) == (task_id, b"hi\n")


def test_short_tasks_keep_the_slots_of_a_worker_busy() -> None:
    """Four slots and tasks of 0.1 s: at least 80 % of 40 a second, in the best of eight tries."""
    with ExitStack() as stack:
        scheduler = stack.enter_context(scheduler_process())
        stack.enter_context(
            worker_process(
                *("--id", "w1", "--max-tasks", "4"),
                scheduler=scheduler.url,
                token=scheduler.token,
            )
        )
        client = stack.enter_context(Client(scheduler.url, token=scheduler.token))

        def placed(_: int) -> bool:
            return client.run_on(["sleep", "0.1"], timeout=PATIENCE_S).ok

        assert placed(0)
        rates = []
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                start = time.monotonic()
                assert all(pool.map(placed, range(60)))
                rates.append(round(60 / (time.monotonic() - start), 1))
                if rates[-1] >= 32:
                    return
    pytest.fail(f"{rates} tasks a second, at a load of {os.getloadavg()[0]:.1f}")


def test_a_worker_that_was_killed_is_replaced_within_a_second(fleet: Fleet) -> None:
    w1 = fleet.worker("w1", max_tasks=8)
    w1.process.kill()
    w1.process.wait(PATIENCE_S)
    fleet.worker("w2", max_tasks=1)
    assert fleet.client.place("where").worker_id == "w1", "it is still online for the scheduler"
    fleet.client.release("where")
    start = time.monotonic()
    assert fleet.client.run_on(["true"]).worker_id == "w2"
    assert time.monotonic() - start < 1.0


def test_an_address_that_another_worker_has_taken_over_is_left_within_a_second(
    fleet: Fleet,
) -> None:
    w1 = fleet.worker("w1", max_tasks=8)
    w1.process.kill()
    w1.process.wait(PATIENCE_S)
    fleet.worker("w2", "--addr", w1.address, max_tasks=1)
    start = time.monotonic()
    assert fleet.client.run_on(["true"]).worker_id == "w2"
    assert time.monotonic() - start < 1.0


def test_a_task_whose_worker_is_restarted_is_run_elsewhere_and_never_twice_at_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    w1 = fleet.worker("w1", max_tasks=8)
    fleet.worker("w2", max_tasks=1)
    pids = tmp_path / "pids"
    # The first run lasts for ever; whoever comes second tells whether the first one lives.
    command = f"""
        if [ -e {pids} ]; then cut -d' ' -f3 /proc/$(cat {pids})/stat 2>/dev/null || echo gone
        else sleep 0.3; echo $$ > {pids}; exec sleep 1000; fi"""
    with ThreadPoolExecutor() as pool:
        run = pool.submit(fleet.client.run_on, ["sh", "-c", command])
        eventually(pids.exists)
        w1.process.kill()
        w1.process.wait(PATIENCE_S)
        fleet.worker("w1", "--addr", w1.address, max_tasks=8)
        start = time.monotonic()
        outcome = run.result(PATIENCE_S)
        assert time.monotonic() - start < 1.0
    assert outcome.worker_id == "w2"
    assert outcome.stdout in (b"gone\n", b"Z\n")


def test_a_worker_that_stands_still_is_waited_for_and_the_task_not_run_elsewhere(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "ANSWER_S", 0.2)
    monkeypatch.setattr(runs, "STOP_S", 0.2)
    monkeypatch.setattr(runs, "PATIENCE_S", 1.0)
    w1 = fleet.worker("w1", max_tasks=8)
    fleet.worker("w2", max_tasks=1)
    ran = tmp_path / "ran"
    w1.process.send_signal(signal.SIGSTOP)
    with pytest.raises(Unavailable, match="not started elsewhere") as caught:
        fleet.client.run_on(["sh", "-c", f"echo $$ >> {ran}; exec sleep 1000"])
    assert caught.value.facts["worker_id"] == "w1"
    leases = {worker.worker_id: worker.leases for worker in fleet.client.workers()}
    assert leases == {"w1": 1, "w2": 0}, "the slot may be taken"
    w1.process.send_signal(signal.SIGCONT)
    # What was sent arrives now, the stop with it: the slot comes free by the worker's own word.
    eventually(fleet.idle)
    assert not ran.exists() or not is_alive(int(ran.read_text()))


def test_a_run_that_is_cancelled_leaves_nothing_behind(fleet: Fleet, tmp_path: Path) -> None:
    fleet.worker("w1")
    pids = tmp_path / "pids"
    command = f"sleep 1000 & echo $! > {pids}.new; mv {pids}.new {pids}; wait"

    async def main() -> None:
        scheduler = fleet.scheduler
        async with AsyncClient(scheduler.url, token=scheduler.token) as client:
            run = asyncio.create_task(client.run_on(["sh", "-c", command]))
            await asyncio.to_thread(eventually, pids.exists)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

    asyncio.run(main())
    assert not is_alive(int(pids.read_text()))
    assert fleet.idle()


def test_a_worker_that_drains_ends_what_it_holds_and_gets_nothing_new(fleet: Fleet) -> None:
    w1 = fleet.worker("w1", max_tasks=8)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(fleet.client.run_on, ["sleep", "0.5"])
        eventually(lambda: not fleet.idle())
        fleet.worker("w2", max_tasks=1)
        os.kill(w1.process.pid, signal.SIGTERM)
        assert fleet.client.run_on(["true"]).worker_id in ("w1", "w2")
        eventually(lambda: fleet.client.workers()[0].draining)
        assert fleet.client.run_on(["true"]).worker_id == "w2"
        assert held.result(PATIENCE_S).ok
    assert w1.process.wait(PATIENCE_S) == 0
